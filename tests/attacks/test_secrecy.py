"""What the audit prints, and what the log holds for ever, gives no secret away: no key, no witness, no data."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from consumers.audit.report import as_json, as_text
from schemas.events import StepCommitted
from tests.attacks.conftest import hot_story
from tests.support.forge import Case, flipped
from tests.support.pipeline import LR
from tests.support.sound_run import SHARDS, STEPS, opened_witness
from zk_autograd.tee.keys import new_signing_key

PUBLIC = ("steps", "proofs", "ledger", "checkpoints", "anchors", "dead-letters")


def spellings(secret: bytes) -> Iterator[bytes]:
    """How bytes come to stand in a text or a file by mistake."""
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret).rstrip(b"=")[:-1]
    yield repr(secret)[2:-1].encode()
    for order in ("big", "little"):
        yield str(int.from_bytes(secret, order)).encode()


@pytest.fixture(scope="module")
def secrets(request: pytest.FixtureRequest) -> list[bytes]:
    """Private keys, data keys, and from each witness the salts and some of the weights, moments and gradients."""
    sound = request.getfixturevalue("sound_run")
    found = []
    for path in (sound.home.path / "keys").glob("*.pem"):
        found.append(load_pem_private_key(path.read_bytes(), None).private_bytes_raw())
    found += [path.read_bytes() for path in sound.home.data_keys.iterdir()]
    url = f"sqlite:///{sound.log_path}?mode=ro"
    for step in range(1, STEPS + 1):
        for shard in range(SHARDS):
            _, witness = opened_witness(sound.home, url, sound.circuit, step, shard)
            salts = (*witness.salt_pre, *witness.salt_post, *witness.salt_work)
            found += [salt.to_bytes(32, "big") for salt in salts]
            found += [salt.to_bytes(32, "little") for salt in salts]
            for values in (witness.pre["w"], witness.g, witness.noise):
                # Four values in a row: no such sequence comes up by chance.
                found += [values[:4].astype("<i8").tobytes(), values[:4].astype("<i4").tobytes()]
            found += [json.dumps(witness.pre["w"][:4].tolist()).encode()]
    assert len(found) > 100
    return found


def attacks(case: Case) -> Iterator[str]:
    """Audits of a sound run and of very different attacks, as people and as machines read them."""
    yield from _reports(case)
    step = case.log.find("steps", StepCommitted, step=2)
    case.log.replace(step, flipped(step.value, 50))
    yield from _reports(case)
    case.log.append("steps", b"\xff" * 5000)
    case.log.append("dead-letters", b"garbage")
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves(), key=new_signing_key()))
    yield from _reports(case)
    case.log.replace(step, step.value)
    case.retell(hot_story(case, lr=LR))
    yield from _reports(case)


def _reports(case: Case) -> Iterator[str]:
    for live in (True, False):
        found = case.audit(live=live)
        yield as_text(found, "run")
        yield json.dumps(as_json(found, "run"))


def assert_free_of(secrets: list[bytes], text: bytes, where: str) -> None:
    for secret in secrets:
        for spelling in spellings(secret):
            assert spelling not in text, f"{where} holds a secret"


def test_the_search_would_find_a_secret(secrets: list[bytes]) -> None:
    """Each spelling of each secret is found where it stands."""
    for secret in secrets[::10]:
        for spelling in spellings(secret):
            with pytest.raises(AssertionError, match="holds a secret"):
                assert_free_of([secret], b"some text " + spelling + b" more text", "it")


def test_no_report_holds_a_secret(case: Case, secrets: list[bytes]) -> None:
    """Neither a clean verdict nor the findings of an attack."""
    for report in attacks(case):
        assert_free_of(secrets, report.encode(), "a report")


def test_no_public_topic_holds_a_secret(case: Case, secrets: list[bytes]) -> None:
    """What auditors read for ever, after the ledger has refused some garbage, too."""
    case.log.append("steps", b"hello")
    case.run_ledger()
    for topic in PUBLIC:
        for record in case.log.records(topic):
            assert_free_of(secrets, record.value + record.key, f"{topic} {record.offset}")


def test_no_witness_is_readable_without_its_key(case: Case, secrets: list[bytes]) -> None:
    """The whole file, witness topic and all."""
    assert_free_of(secrets, case.log.path.read_bytes(), "the log's file")


def test_equal_witnesses_do_not_look_alike(case: Case) -> None:
    """Ciphertexts share no block: shards that are padded with the same zeros do not give themselves away."""
    blocks: set[bytes] = set()
    for _, opened in case.log.opened("witness"):
        cipher = opened.event.ciphertext
        own = {cipher[i : i + 16] for i in range(12, len(cipher) - 16, 16)}
        assert not own & blocks
        blocks |= own
    assert len(blocks) > 1000


def test_reports_are_plain_printable_text(case: Case) -> None:
    """Nothing that comes from the log can move the cursor or hide a line."""
    for report in attacks(case):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", report)
