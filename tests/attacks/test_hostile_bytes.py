"""Bytes of strangers in the topics, and dead letters that are to excuse what they must not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from schemas.events import CheckpointIssued, DeadLetter, ProofAttached, Role, RunFinished, RunStarted, StepCommitted
from schemas.signing import decode_unverified, seal
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.forge import Case, explain, flipped, resigned
from zk_autograd.eventlog.base import MAX_RECORD_BYTES, Record
from zk_autograd.tee.keys import new_signing_key

TOPICS = ("steps", "proofs", "ledger", "checkpoints", "anchors", "dead-letters")
GARBAGE = {
    "nothing": b"",
    "text": b"hello",
    "zeros": bytes(1000),
    "the largest record": b"\xc3" * MAX_RECORD_BYTES,
    "a header and no end": b"\xc3\x01" + b"\xff" * 100,
}


def letter(record: Record, **changes: Any) -> DeadLetter:
    """A dead letter about a record, as the ledger would write it."""
    fields = {
        "source_topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "role": "ledger",
        "reason": "not to be taken",
        "digest": hashlib.sha256(record.value).digest(),
        "value": b"",
    }
    return DeadLetter(**fields | changes)


# Garbage


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("topic", TOPICS)
def test_garbage_that_nobody_refused(case: Case, topic: str, garbage: bytes) -> None:
    """Until the ledger has said that it refused it, it may be what is left of a record: no lie, and no sound log."""
    case.log.append(topic, garbage)
    if topic == "dead-letters":  # they only excuse
        assert case.audit().exit_code == 0
    else:
        assert_doubts(case.audit(), 0)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("topic", ["steps", "proofs"])
def test_garbage_that_the_ledger_refused_is_harmless(case: Case, topic: str, garbage: bytes) -> None:
    """Anyone may write to the ledger's inputs. It publishes what it could not take, and goes on."""
    case.log.append(topic, garbage)
    case.run_ledger()
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.refused == 1
    assert "1 known as refused" in found.checks[0].detail


@pytest.mark.parametrize("topic", ["steps", "proofs"])
def test_a_strangers_signature_that_the_ledger_refused_is_harmless(case: Case, topic: str) -> None:
    """A well-formed event about this run, signed by a key that nobody vouches for."""
    record = case.log.find("steps", StepCommitted, step=2) if topic == "steps" else case.proofs()[2, 0]
    case.log.append(topic, resigned(topic, record.value, new_signing_key()))
    assert_doubts(case.audit(), 1)
    case.run_ledger()
    found = case.audit()
    assert found.exit_code == 0, explain(found)


@pytest.mark.parametrize("topic", ["ledger", "checkpoints", "anchors"])
def test_no_letter_excuses_garbage_elsewhere(case: Case, topic: str) -> None:
    """Where the ledger and the anchor write alone, a stranger's record means that the log is open to all."""
    (record,) = case.log.append(topic, b"hello")
    case.log.append("dead-letters", case.insider.seal("dead-letters", letter(record)))
    assert_doubts(case.audit(), 0)


# Excuses


def altered(case: Case, kind: type) -> tuple[Record, Record]:
    """A record of this kind with a flipped byte: as it was, and as it is."""
    topic = "proofs" if kind is ProofAttached else "checkpoints" if kind is CheckpointIssued else "steps"
    honest = next(r for r, o in case.log.opened(topic) if isinstance(o.event, kind))
    value = flipped(honest.value, len(honest.value) - 1)
    case.log.replace(honest, value)
    return honest, Record(topic, honest.partition, honest.offset, honest.key, value, 0)


@pytest.mark.parametrize("kind", [RunStarted, StepCommitted, RunFinished, ProofAttached])
@pytest.mark.parametrize("author", ["proofs", "anchors", "dead-letters"])
def test_a_dead_letter_that_excuses_an_altered_record(case: Case, kind: type, author: str) -> None:
    """A prover, an anchor or the ledger itself names the altered record as refused. What is missing is missing."""
    _, record = altered(case, kind)
    case.log.append("dead-letters", seal("dead-letters", letter(record), case.insider.key(author)))
    case.agree = kind not in (StepCommitted, ProofAttached)  # see below
    found = case.audit()
    assert_violates(found, {RunStarted: 2, StepCommitted: 3, RunFinished: 7, ProofAttached: 5}[kind])
    if not case.agree:
        # What was altered is the signature: the next step names this one, and the ledger's entry this proof.
        chained = case.audited("chained", case.policy)
        assert (chained.exit_code, chained.noise) == (0, []), explain(chained)


@pytest.mark.parametrize("author", ["proofs", "anchors"])
def test_a_dead_letter_of_another_role_excuses_nothing(case: Case, author: str) -> None:
    """Only the ledger knows what the ledger has refused."""
    (record,) = case.log.append("steps", b"hello")
    case.log.append("dead-letters", seal("dead-letters", letter(record), case.insider.key(author)))
    assert_doubts(case.audit(), 0)


@pytest.mark.parametrize("index", [0, 1])
def test_a_dead_letter_that_excuses_an_altered_checkpoint(case: Case, index: int) -> None:
    """The ledger may not take its own word back, nor may a prover do it."""
    record = case.log.records("checkpoints")[index]
    case.log.replace(record, flipped(record.value, len(record.value) - 1))
    record = case.log.records("checkpoints")[index]
    for author in ("proofs", "dead-letters"):
        case.log.append("dead-letters", seal("dead-letters", letter(record), case.insider.key(author)))
    assert_violates(case.audit(), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": bytes(32)},
        {"offset": 999},
        {"partition": 2},
        {"source_topic": "proofs"},
        {"source_topic": "zk.steps"},
    ],
    ids=["digest", "offset", "partition", "topic", "prefix"],
)
def test_a_dead_letter_about_another_record_excuses_nothing(case: Case, change: dict[str, Any]) -> None:
    """It names topic, place and content, and all three count."""
    (record,) = case.log.append("steps", b"hello")
    case.log.append("dead-letters", case.insider.seal("dead-letters", letter(record, **change)))
    assert_doubts(case.audit(), 0)


def test_a_dead_letter_by_a_ledger_that_the_policy_does_not_name(case: Case) -> None:
    """The pinned ledger key holds for dead letters too."""
    other, pinned = new_signing_key(), case.policy
    case.log.append("steps", case.insider.introduce(Role.LEDGER, other))
    (record,) = case.log.append("steps", b"hello")
    case.log.append("dead-letters", seal("dead-letters", letter(record), other))
    assert_doubts(case.audit(pinned), 0)


def test_a_dead_letter_by_a_stranger(case: Case) -> None:
    """Signed by nobody known: it excuses nothing."""
    (record,) = case.log.append("steps", b"hello")
    case.log.append("dead-letters", seal("dead-letters", letter(record), new_signing_key()))
    assert_doubts(case.audit(), 0)


def test_a_dead_letter_about_an_honest_record_changes_nothing(case: Case) -> None:
    """An insider of the ledger calls honest records refused: they open, so they count."""
    for topic in ("steps", "proofs"):
        for record in case.log.records(topic):
            case.log.append("dead-letters", case.insider.seal("dead-letters", letter(record)))
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.refused == 0


def test_a_fork_that_the_ledger_refused_still_counts(case: Case) -> None:
    """Garbage can be anyone's; a second step under the run's own key is its trainer's lie, refused or not."""
    event = case.story().step(2)
    fork = case.insider.seal("steps", replace(event, limited=event.limited + 1))
    home = case.log.find("steps", StepCommitted, step=2)
    (record,) = case.log.append("steps", fork, partition=home.partition)
    case.run_ledger()
    letters = [o.event for _, o in case.log.opened("dead-letters")]
    assert [(e.source_topic, e.offset) for e in letters if isinstance(e, DeadLetter)] == [("steps", record.offset)]
    assert_violates(case.audit(), 3, only=True)


@pytest.mark.parametrize("partition", range(4))
@pytest.mark.parametrize("kind", [RunStarted, StepCommitted, RunFinished, ProofAttached])
def test_a_record_that_is_played_again_is_harmless(case: Case, kind: type, partition: int) -> None:
    """Whoever may write to a topic can play a public record again, in any partition, before or after the ledger's
    next poll: nobody has lied by that."""
    topic = "proofs" if kind is ProofAttached else "steps"
    for record in [r for r, o in case.log.opened(topic) if isinstance(o.event, kind)]:
        case.log.append(topic, record.value, partition=partition)
    assert case.audit().exit_code == 0
    case.run_ledger()
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.proofs_verified == 6


@pytest.mark.parametrize("partition", range(4))
@pytest.mark.parametrize("kind", [RunStarted, StepCommitted, RunFinished])
def test_another_trainers_word_about_a_run_is_harmless_once_refused(case: Case, kind: type, partition: int) -> None:
    """A key with good evidence and the right role signs for a run that is not its own; for one, the very same start.

    In an earlier partition its copy is read before the run's own: it must not become the start.
    """
    other = new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.TRAINER, other), partition=partition)
    record = next(r for r, o in case.log.opened("steps") if isinstance(o.event, kind))
    case.log.append("steps", resigned("steps", record.value, other), partition=partition)
    assert_doubts(case.audit(), 1)
    case.run_ledger()
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_a_dead_letter_carries_the_record_it_is_about(case: Case) -> None:
    """Small ones whole, so that who is blamed can look; large ones by their digest."""
    small, large = case.log.append("steps", b"hello", b"\xc3" * 100_000)
    case.run_ledger()
    found = [decode_unverified("dead-letters", r.value).event for r in case.log.records("dead-letters")]
    assert [(e.offset, e.value) for e in found if isinstance(e, DeadLetter)] == [
        (small.offset, b"hello"),
        (large.offset, b""),
    ]
