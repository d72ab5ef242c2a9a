"""The ledger over a real log: restarts, fencing, refusals, and what it will not take over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.ledger.runner import BATCH
from ledger.checkpoint import parse_checkpoint
from schemas.events import (
    CheckpointIssued,
    DeadLetter,
    Role,
    RunClosed,
    RunFinished,
    StepCommitted,
    StepProven,
)
from schemas.signing import decode_unverified, seal
from schemas.wire import open_event_log
from tests.support.forge import Case, LogFile, flipped, resigned
from zk_autograd.errors import FencedError, UsageError
from zk_autograd.eventlog.base import Record
from zk_autograd.tee.keys import new_signing_key

WRITTEN = ("ledger", "checkpoints", "dead-letters")
STRANGER = new_signing_key()


class Fresh:
    """A log with nothing but what a test appends, and ledgers over it."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case, self.log = case, LogFile(path)
        with open_event_log(self.log.url):
            pass

    def append(self, *records: Record) -> None:
        for record in records:
            self.log.append(record.topic, record.value, partition=record.partition)

    def run(self, rounds: int = 2) -> None:
        """A new instance, which ends when there is nothing more to do."""
        with open_event_log(self.log.url) as log:
            runner = self.case.ledger(log)
            for _ in range(rounds):
                runner.run_once(timeout=0.0)
            runner.close()

    def written(self) -> dict[str, list[bytes]]:
        return {topic: [r.value for r in self.log.records(topic)] for topic in WRITTEN}

    def letters(self) -> list[DeadLetter]:
        events = [o.event for _, o in self.log.opened("dead-letters")]
        return [e for e in events if isinstance(e, DeadLetter)]


@pytest.fixture
def fresh(case: Case, tmp_path: Path) -> Callable[[], Fresh]:
    numbers: Iterator[int] = iter(range(1000))
    return lambda: Fresh(case, tmp_path / f"fresh-{next(numbers)}.db")


def honest(case: Case) -> list[Record]:
    """The ledger's inputs in the order in which they were written."""
    proofs = case.proofs()
    return case.log.records("steps") + [proofs[slot] for slot in sorted(proofs)]


def troubled(case: Case) -> list[Record]:
    """The same among what a ledger has to refuse, each of a different kind."""
    steps, proofs = case.log.records("steps"), case.proofs()
    end = case.log.find("steps", RunFinished)
    second, third = (case.log.find("steps", StepCommitted, step=n) for n in (2, 3))
    step, head = case.story().step(2), decode_unverified("steps", third.value).event_id
    event = decode_unverified("proofs", proofs[1, 0].value).event

    def steps_record(value: bytes) -> Record:
        return Record("steps", end.partition, 0, b"", value, 0)

    def signed(**changes: Any) -> Record:
        return steps_record(case.insider.seal("steps", replace(step, **changes)))

    bad_steps = [
        signed(saturated=9),
        signed(step=4, previous=bytes(32)),
        signed(step=4, previous=head),
        signed(step=9, previous=head),
        second,
        steps_record(end.value[:-1]),
        steps_record(resigned("steps", end.value, case.insider.key("ledger"))),
    ]
    bad_proofs = [
        b"\xc3\x01",
        resigned("proofs", proofs[1, 0].value, STRANGER),
        resigned("proofs", proofs[1, 0].value, case.insider.key("ledger")),
    ]
    for change in ({"proof": flipped(event.proof, 900)}, {"shard": 7}, {"step": 9}, {"run_id": bytes(32)}):
        bad_proofs.append(case.insider.seal("proofs", replace(event, **change)))
    at = steps.index(end)
    return [
        Record("steps", 0, 0, b"", b"garbage", 0),
        *steps[:at],
        *bad_steps,
        *steps[at:],
        *(Record("proofs", 1, 0, b"", value, 0) for value in bad_proofs),
        *(proofs[slot] for slot in sorted(proofs)),
    ]


def test_one_instance_writes_the_log_of_the_sound_run(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    made.append(*honest(case))
    made.run()
    assert made.written()["ledger"] == [r.value for r in case.log.records("ledger")]
    assert made.written()["dead-letters"] == []
    (checkpoint,) = made.written()["checkpoints"]
    issued = decode_unverified("checkpoints", checkpoint).event
    assert isinstance(issued, CheckpointIssued)
    assert parse_checkpoint(issued.note).size == 5


@pytest.mark.parametrize("records", [honest, troubled])
def test_a_ledger_that_is_restarted_after_every_event_writes_the_same_log(
    case: Case, fresh: Callable[[], Fresh], records: Callable[[Case], list[Record]]
) -> None:
    once, again, inputs = fresh(), fresh(), records(case)
    with open_event_log(once.log.url) as log:
        runner = case.ledger(log)
        for record in inputs:
            once.append(record)
            runner.run_once(timeout=0.0)
        runner.close()
    for record in inputs:
        again.append(record)
        again.run(rounds=1)
    assert again.written() == once.written()
    entries = [decode_unverified("ledger", value).event for value in once.written()["ledger"]]
    assert [e.step for e in entries if isinstance(e, StepProven)] == [1, 2, 3]
    assert isinstance(entries[-1], RunClosed)


@pytest.mark.parametrize("at", range(18))
def test_a_ledger_that_is_restarted_once_writes_the_same_log(case: Case, fresh: Callable[[], Fresh], at: int) -> None:
    made, records = fresh(), honest(case)
    made.append(*records[:at])
    made.run()
    made.append(*records[at:])
    made.run()
    assert made.written()["ledger"] == [r.value for r in case.log.records("ledger")]


def test_every_refusal_is_published_once_with_its_reason(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    made.append(*troubled(case))
    for _ in range(3):
        made.run()
    places = [(e.source_topic, e.partition, e.offset) for e in made.letters()]
    assert len(places) == len(set(places)) == 15
    reasons = " | ".join(e.reason for e in made.letters())
    for expected in (
        "single-object encoding", "forks the chain", "leaves a gap", "off their schedule", "expected step 4",
        "repeated", "known keys", "refused by the verifier", "no such step or shard", "3 steps are committed",
        "no such run has started",
    ):  # fmt: skip
        assert expected in reasons
    assert made.written()["ledger"] == [r.value for r in case.log.records("ledger")]


def test_a_refusal_by_another_key_is_not_taken_for_ones_own(case: Case, fresh: Callable[[], Fresh]) -> None:
    """A stranger cannot keep the ledger from saying that it refused something."""
    made = fresh()
    made.append(*honest(case))
    (record,) = made.log.append("steps", b"garbage")
    letter = DeadLetter("steps", record.partition, record.offset, "ledger", "nothing", bytes(32), b"")
    made.log.append("dead-letters", seal("dead-letters", letter, new_signing_key()))
    made.run()
    assert len(made.written()["dead-letters"]) == 2


def test_a_flood_of_garbage_is_refused_in_batches(case: Case, fresh: Callable[[], Fresh]) -> None:
    made, count = fresh(), 2 * BATCH + 50
    made.log.append("steps", *(b"garbage %d" % i for i in range(count)))
    made.append(*honest(case))
    made.run()
    assert len(made.letters()) == count
    assert made.written()["ledger"] == [r.value for r in case.log.records("ledger")]


def test_a_second_instance_fences_the_first_off(case: Case, fresh: Callable[[], Fresh]) -> None:
    made, records = fresh(), honest(case)
    steps = len(case.log.records("steps"))
    made.append(*records[:steps])
    with open_event_log(made.log.url) as log:
        first = case.ledger(log)
        first.run_once(timeout=0.0)
        second = case.ledger(log)
        made.append(*records[steps:])
        with pytest.raises(FencedError):
            first.run_once(timeout=0.0)
        assert len(made.written()["ledger"]) == 1
        second.run_once(timeout=0.0)
        made.log.append("steps", b"garbage")
        with pytest.raises(FencedError):
            first.run_once(timeout=0.0)
        first.close()
        second.close()
    assert made.written()["ledger"] == [r.value for r in case.log.records("ledger")]
    assert made.written()["dead-letters"] == []


def test_a_ledger_begun_under_another_key_is_not_taken_over(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    made.append(*honest(case))
    made.run()
    other = new_signing_key()
    for record in made.log.records("ledger"):
        made.log.replace(record, resigned("ledger", record.value, other))
    with pytest.raises(UsageError, match="by another key"):
        made.run()


def test_strangers_and_copies_in_its_own_topics_do_not_stop_it(case: Case, fresh: Callable[[], Fresh]) -> None:
    """Nor does it say again what a copy of an early entry might make it believe was never said."""
    made = fresh()
    made.append(*honest(case))
    made.run()
    before = {topic: [r.value for r in made.log.records(topic)] for topic in ("ledger", "checkpoints")}
    for topic, values in before.items():
        made.log.append(topic, b"garbage", resigned(topic, values[0], STRANGER), values[0])
    made.run()
    for topic, values in before.items():
        assert [r.value for r in made.log.records(topic)][len(values) + 3 :] == []


def test_a_ledger_from_another_home_fences_nobody_off(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    made.append(*honest(case))
    made.run()
    with open_event_log(made.log.url) as log, log.producer("zk-ledger") as rightful:
        for record in made.log.records("ledger"):
            made.log.replace(record, resigned("ledger", record.value, STRANGER))
        with pytest.raises(UsageError, match="by another key"):
            made.run()
        with rightful.transaction() as transaction:
            transaction.send("ledger", b"", b"still here")


def test_a_ledger_of_another_origin_is_not_taken_over(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    made.append(*honest(case))
    made.run()
    made.log.clear("checkpoints")
    made.log.append("checkpoints", case.insider.checkpoint(case.leaves(), origin="other.example/log"))
    with pytest.raises(UsageError, match="not this ledger's"):
        made.run()


@pytest.mark.parametrize("attack", ["truncated", "reordered"])
def test_a_ledger_that_does_not_match_its_checkpoint_is_not_taken_over(
    case: Case, fresh: Callable[[], Fresh], attack: str
) -> None:
    made = fresh()
    made.append(*honest(case))
    made.run()
    records = made.log.records("ledger")
    if attack == "truncated":
        made.log.delete(records[-1])
    else:
        made.log.swap(records[1], records[2])
    with pytest.raises(UsageError, match="does not match its own checkpoint"):
        made.run()


def test_a_refused_instance_has_written_nothing(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    made.append(*honest(case))
    made.run()
    made.log.delete(made.log.records("ledger")[-1])
    before = made.written()
    with pytest.raises(UsageError):
        made.run()
    assert made.written() == before


def test_a_run_that_the_policy_does_not_allow_never_enters(case: Case, fresh: Callable[[], Fresh]) -> None:
    made = fresh()
    story = case.story()
    told, _ = story.linked()
    start = replace(told[0], circuit_id=bytes(32))
    introduction = case.insider.introduce(Role.TRAINER, case.insider.key("steps"))
    made.log.append("steps", introduction, case.insider.seal("steps", start))
    made.run()
    assert made.written()["ledger"] == []
    assert "not one that the policy allows" in made.letters()[-1].reason


def test_proofs_that_make_no_entry_yet_are_work_too(case: Case, fresh: Callable[[], Fresh]) -> None:
    """Or ``--idle-exit`` would end a ledger in the middle of a run whose steps are many shards."""
    made, records = fresh(), honest(case)
    made.append(*(r for r in records if r.topic == "steps"))
    with open_event_log(made.log.url) as log:
        runner = case.ledger(log)
        runner.run_once(timeout=0.0)
        before = runner.taken
        made.append(case.proofs()[3, 1])
        assert runner.run_once(timeout=0.0) == []
        assert runner.taken == before + 1
        runner.run_once(timeout=0.0)
        assert runner.taken == before + 1
        runner.close()
