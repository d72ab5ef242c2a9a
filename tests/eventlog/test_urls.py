"""What the URL of an event log may say, and that nothing secret comes back out of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from zk_autograd.errors import EventLogError, UsageError
from zk_autograd.eventlog import open_log
from zk_autograd.eventlog.kafka_config import KafkaConfig, Secret
from zk_autograd.eventlog.sqlite import SqliteUrl

SASL = "security_protocol=SASL_SSL&sasl_mechanism=SCRAM-SHA-512&sasl_plain_username=alice"


@pytest.fixture(autouse=True)
def no_secrets_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZK_KAFKA_SASL_PASSWORD", raising=False)
    monkeypatch.delenv("ZK_KAFKA_SSL_PASSWORD", raising=False)


@pytest.mark.parametrize("url", ["redis://host", "log.db", "", "sqlite:/x", "SQLITE:///x", "://"])
def test_an_unknown_scheme_is_refused_and_the_known_ones_are_named(url: str) -> None:
    with pytest.raises(UsageError, match="kafka://, sqlite://"):
        open_log(url)


def test_an_unknown_schemes_error_does_not_show_a_password() -> None:
    with pytest.raises(UsageError) as caught:
        open_log("http://alice:hunter2@host")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///log.db", "log.db"),
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:////a%20b/c%3Fd.db?mode=ro", "/a b/c?d.db"),
    ],
)
def test_an_sqlite_url_names_a_relative_or_an_absolute_file(url: str, path: str) -> None:
    assert SqliteUrl.parse(url).path == Path(path)


def test_an_sqlite_urls_parameters() -> None:
    options = SqliteUrl.parse("sqlite:///x?mode=ro&session_timeout=2.5")
    assert (options.read_only, options.session_timeout) == (True, 2.5)
    assert SqliteUrl.parse("sqlite:///x") == SqliteUrl(Path("x"), False, 10.0)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://log.db",
        "sqlite://host/log.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x#y",
        "sqlite:///x%00y",
        "sqlite://[/x",
        "sqlite:///x?mode=rwx",
        "sqlite:///x?immutable=1",
        "sqlite:///x?mode=ro&mode=rw",
        "sqlite:///x?session_timeout=soon",
        "sqlite:///x?session_timeout=nan",
        "sqlite:///x?session_timeout=0",
    ],
)
def test_a_wrong_sqlite_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        open_log(url)


def test_a_kafka_url_names_brokers_and_options() -> None:
    config = KafkaConfig.parse("kafka://a:9092,[::1]:9093/?topic_prefix=x.&replication=2&session_timeout=20")
    assert config.servers == ("a:9092", "[::1]:9093")
    assert (config.topic_prefix, config.replication, config.session_timeout) == ("x.", 2, 20.0)
    assert KafkaConfig.parse("kafka://a:1").topic_prefix == "zk."
    assert KafkaConfig.parse("kafka://a:1?topic_prefix=").topic_prefix == ""


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "host:port"),
        ("host", "host:port"),
        ("host:0", "host:port"),
        ("host:70000", "host:port"),
        ("a:1,,b:2", "host:port"),
        ("a:1;rm", "host:port"),
        ("[::1:9", "brackets"),
        ("a:1/path", "path"),
        ("a:1#x", "fragment"),
        ("a:1?bootstrap_servers=b:2", "no option 'bootstrap_servers'"),
        ("a:1?client_id=x&client_id=y", "twice"),
        ("a:1?enable_auto_commit=true", "no option"),
        ("a:1?topic_prefix=a/b", "letters"),
        ("a:1?topic_prefix=" + "x" * 41, "40"),
        ("a:1?replication=0", "replicas"),
        ("a:1?replication=three", "replicas"),
        ("a:1?session_timeout=inf", "1 to 120 seconds"),
        ("a:1?request_timeout=0.5", "1 to 120 seconds"),
        ("a:1?security_protocol=TLS", "one of PLAINTEXT, SSL"),
        ("a:1?security_protocol=SSL&ssl_cafile=/no/such/file", "no file"),
        ("a:1?security_protocol=SSL&ssl_check_hostname=perhaps", "true or false"),
        ("a:1?ssl_check_hostname=false", "no effect with security_protocol=PLAINTEXT"),
        ("a:1?security_protocol=SSL&sasl_mechanism=PLAIN", "no effect with security_protocol=SSL"),
        ("a:1?security_protocol=SASL_SSL", "needs sasl_mechanism"),
        (f"a:1?{SASL}", "needs sasl_plain_password, in the file of config= or as ZK_KAFKA_SASL_PASSWORD"),
        ("a:1?config=/no/such/file", "cannot read the configuration"),
    ],
)
def test_a_wrong_kafka_url_is_refused_and_says_why(rest: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        open_log(f"kafka://{rest}")


@pytest.mark.parametrize(
    "rest",
    ["alice:hunter2@a:1", f"a:1?{SASL}&sasl_plain_password=hunter2", "a:1?ssl_password=hunter2"],
)
def test_a_password_in_the_url_is_refused_without_being_shown(rest: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_log(f"kafka://{rest}")
    assert "hunter2" not in str(caught.value)
    assert "ZK_KAFKA_" in str(caught.value)


def test_a_password_comes_from_the_environment_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZK_KAFKA_SASL_PASSWORD", "hunter2")
    assert KafkaConfig.parse(f"kafka://a:1?{SASL}").security["sasl_plain_password"] == "hunter2"
    assert KafkaConfig.parse("kafka://a:1").security == {}


@pytest.mark.parametrize("name", ["kafka.json", "kafka.toml"])
def test_a_configuration_file_holds_what_a_url_can_and_the_secrets(tmp_path: Path, name: str) -> None:
    settings = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "alice",
        "sasl_plain_password": "hunter2",
        "ssl_check_hostname": False,
        "replication": 2,
    }
    file = tmp_path / name
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    file.write_text(json.dumps(settings) if name.endswith("json") else toml)
    config = KafkaConfig.parse(f"kafka://a:1?config={file}&session_timeout=9")
    assert config.security["sasl_plain_password"] == "hunter2"
    assert config.security["ssl_check_hostname"] is False
    assert (config.replication, config.session_timeout) == (2, 9.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sasl_plain_password": "hunter2"', "not valid JSON"),
        ("[" * 60_000, "not valid JSON"),
        ("x" * 70_000, "more than 65536 bytes"),
        ('["hunter2"]', "one table"),
        ('{"config": "hunter2"}', "one table"),
        ('{"sasl_password": "hunter2"}', "no option 'sasl_password'"),
        ('{"sasl_plain_password": ["hunter2"]}', "is a text"),
        ('{"request_timeout": 10}', "given twice"),
    ],
)
def test_a_wrong_configuration_file_is_refused_without_being_quoted(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "kafka.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        KafkaConfig.parse(f"kafka://a:1?request_timeout=5&config={file}")
    assert "hunter2" not in str(caught.value)


def test_plain_passwords_are_not_sent_in_the_clear_but_on_the_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZK_KAFKA_SASL_PASSWORD", "hunter2")
    parameters = "security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&sasl_plain_username=alice"
    KafkaConfig.parse(f"kafka://localhost:1,127.0.0.1:2,[::1]:3?{parameters}")
    with pytest.raises(UsageError, match="in the clear"):
        KafkaConfig.parse(f"kafka://localhost:1,broker:2?{parameters}")


def test_a_key_file_without_its_certificate_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    with pytest.raises(UsageError, match="need ssl_certfile"):
        KafkaConfig.parse(f"kafka://a:1?security_protocol=SSL&ssl_keyfile={key}")


def test_secrets_do_not_show_when_what_holds_them_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZK_KAFKA_SASL_PASSWORD", "hunter2")
    config = KafkaConfig.parse(f"kafka://a:1?{SASL}")
    for printed in (repr(config), str(config), str(config.client()), repr(dict(config.security))):
        assert "hunter2" not in printed
    assert Secret("hunter2") == "hunter2"


def test_a_port_where_nothing_listens_is_told_as_such_and_nothing_of_the_attempt_is_left() -> None:
    before = threading.active_count()
    with pytest.raises(EventLogError, match=r"127\.0\.0\.1:1 \(connect_timeout 1 s\): nothing listens"):
        open_log("kafka://127.0.0.1:1?connect_timeout=1")
    assert threading.active_count() == before
