"""TLS and passwords on a real broker: what works, and what an operator is told when it does not."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from tests.support.broker import free_ports, missing_tools, running_broker
from zk_autograd.errors import EventLogError
from zk_autograd.eventlog import TopicSpec, open_log

pytestmark = pytest.mark.kafka

LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},\
SECURE://127.0.0.1:{secure},MUTUAL://127.0.0.1:{mutual}
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={directory}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={directory}/ca.crt
listener.name.mutual.ssl.client.auth=required
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


def issue(directory: Path, authority: str, *names: str) -> None:
    """A certificate authority ``authority``.crt, and ``name``.crt, .key and .pem (both) for each name."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    for name in (authority, *names):
        key = authority_key if name == authority else ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, authority)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(authority_key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (directory / f"{name}.crt").write_bytes(certificate)
        (directory / f"{name}.key").write_bytes(secret)
        (directory / f"{name}.pem").write_bytes(secret + certificate)


@dataclass(frozen=True)
class Secured:
    directory: Path
    plain: str
    secure: str
    mutual: str

    def url(self, server: str, **settings: object) -> str:
        """A URL whose settings, the password among them, are in a file."""
        file = self.directory / "client.json"
        file.write_text(json.dumps(settings))
        return f"kafka://{server}?config={file}"

    def scram(self, **changes: object) -> dict[str, object]:
        settings = {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "alice",
            "sasl_plain_password": "correct-horse",
            "ssl_cafile": str(self.directory / "ca.crt"),
        }
        return {**settings, **changes}

    def tls(self, client: str | None) -> dict[str, object]:
        settings: dict[str, object] = {"security_protocol": "SSL", "ssl_cafile": str(self.directory / "ca.crt")}
        if client:
            settings["ssl_certfile"] = str(self.directory / f"{client}.crt")
            settings["ssl_keyfile"] = str(self.directory / f"{client}.key")
        return settings


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if reason := missing_tools():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("secured")
    issue(directory, "ca", "server", "client")
    issue(directory, "other", "stranger")
    plain, controller, secure, mutual = free_ports(4)
    extra = LISTENERS.format(plain=plain, controller=controller, secure=secure, mutual=mutual, directory=directory)
    with running_broker(directory / "broker", extra, port=plain) as bootstrap:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user="alice", mechanism="SCRAM-SHA-512", password="correct-horse")]
        )
        admin.close()
        yield Secured(directory, bootstrap, f"127.0.0.1:{secure}", f"127.0.0.1:{mutual}")


def round_trip(url: str) -> None:
    with open_log(url) as log:
        log.create_topics([TopicSpec("t", 1), TopicSpec("copy", 1)])
        with log.producer("p") as producer:
            with producer.transaction() as transaction:
                transaction.send("t", b"", b"1")
            with log.group("g", ["t"]) as group, producer.transaction() as transaction:
                (record,) = group.poll(20)
                transaction.send("copy", b"", record.value)
                transaction.consumed(group, [record])
        with log.reader(["copy"]) as reader:
            assert [record.value for record in reader.read_to_end()][-1] == b"1"


def refusal(url: str, patience: float = 8) -> str:
    with pytest.raises(EventLogError) as caught:
        open_log(f"{url}&connect_timeout={patience}")
    assert "correct-horse" not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_a_password_over_tls_is_good_for_everything(secured: Secured) -> None:
    round_trip(secured.url(secured.secure, **secured.scram()))


def test_a_client_certificate_is_good_for_everything(secured: Secured) -> None:
    round_trip(secured.url(secured.mutual, **secured.tls("client")))


def test_a_wrong_password_is_told_as_such(secured: Secured) -> None:
    message = refusal(secured.url(secured.secure, **secured.scram(sasl_plain_password="battery-staple")))
    # Sometimes the client sees the broker hang up before it sees why.
    assert "the user or the password is wrong" in message or "the user, the password or" in message
    assert "battery-staple" not in message


def test_a_mechanism_that_the_broker_does_not_offer_is_told_as_such(secured: Secured) -> None:
    message = refusal(secured.url(secured.secure, **secured.scram(sasl_mechanism="PLAIN")))
    assert "does not offer sasl_mechanism=PLAIN" in message or "or sasl_mechanism=PLAIN is wrong" in message


def test_a_broker_under_another_authority_is_not_trusted(secured: Secured) -> None:
    other = str(secured.directory / "other.crt")
    assert "the broker's certificate" in refusal(secured.url(secured.secure, **secured.scram(ssl_cafile=other)))


def test_a_certificate_file_that_holds_none_is_told_as_such(secured: Secured) -> None:
    key = str(secured.directory / "ca.key")
    assert "not in PEM form" in refusal(secured.url(secured.secure, **secured.scram(ssl_cafile=key)))


@pytest.mark.parametrize("client", [None, "stranger"])
def test_a_missing_or_foreign_client_certificate_is_told_as_such(secured: Secured, client: str | None) -> None:
    assert "the client's certificate" in refusal(secured.url(secured.mutual, **secured.tls(client)))


def test_the_wrong_protocol_for_a_port_is_told_as_such(secured: Secured) -> None:
    for message in (
        refusal(secured.url(secured.secure), patience=2),
        refusal(secured.url(secured.plain, **secured.tls(None)), patience=2),
    ):
        assert "may not speak security_protocol=" in message
