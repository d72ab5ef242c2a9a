"""The ledger of sampled runs over a real log: what it waits for, restarts, and strangers among the receipts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.sampling import detection, percent
from schemas.events import DeadLetter, RunStarted, StepProven, StepRecorded
from schemas.wire import open_event_log
from tests.support.forge import Case, LogFile, resigned
from tests.support.sampled import STEPS
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.tee.keys import new_signing_key


def _short(event: object) -> str:
    if isinstance(event, StepRecorded):
        return f"r{event.step}"
    return f"p{event.step}" if isinstance(event, StepProven) else type(event).__name__


class Fresh:
    """A log with nothing but what a test appends of the sampled run's records, in the order in which they came."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case, self.log = case, LogFile(path)
        with open_event_log(self.log.url):
            pass
        by_step = {o.event.step: r for r, o in case.log.opened("proofs")}  # type: ignore[union-attr]
        self.steps, receipts = case.log.records("steps"), case.log.records("anchors")
        # As it was: the receipts of the first two checkpoints each stand between the entries that they draw and prove.
        self.inputs = [*self.steps, receipts[0], by_step[1], by_step[2], receipts[1], by_step[3], receipts[2]]

    def append(self, *records: Record) -> None:
        for record in records:
            self.log.append(record.topic, record.value, partition=record.partition)

    def run(self, rounds: int = 2) -> None:
        with open_event_log(self.log.url) as log:
            runner = self.case.ledger(log)
            for _ in range(rounds):
                runner.run_once(timeout=0.0)
            runner.close()

    def leaves(self) -> list[bytes]:
        return [o.body for _, o in self.log.opened("ledger")]

    def kinds(self) -> list[str]:
        return [_short(o.event) for _, o in self.log.opened("ledger")]

    def letters(self) -> list[str]:
        return [o.event.reason for _, o in self.log.opened("dead-letters") if isinstance(o.event, DeadLetter)]


@pytest.fixture
def fresh(sampled_case: Case, tmp_path: Path) -> Fresh:
    return Fresh(sampled_case, tmp_path / "fresh.db")


def test_an_instance_that_runs_through_writes_the_log_of_the_sampled_run(fresh: Fresh) -> None:
    with open_event_log(fresh.log.url) as log:
        runner = fresh.case.ledger(log)
        fresh.append(*fresh.steps)
        runner.run_once(timeout=0.0)
        assert fresh.kinds() == ["RunOpened", "r1", "r2"]
        assert runner.waiting == STEPS
        for record in fresh.inputs[len(fresh.steps) :]:
            fresh.append(record)
            runner.run_once(timeout=0.0)
        runner.close()
    assert fresh.leaves() == fresh.case.leaves()
    assert fresh.letters() == []


def test_what_a_sampled_run_is_worth_is_said_when_it_opens(fresh: Fresh, capsys: pytest.CaptureFixture[str]) -> None:
    fresh.append(*fresh.steps)
    fresh.run()
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = (line for line in said if "detection" in line)
    start = next(o.event for _, o in fresh.log.opened("steps") if isinstance(o.event, RunStarted))
    assert (found["drawn"], found["shards"]) == (start.sampled, start.shards)
    once, each = found["detection"][0], found["detection"][-1]
    assert once["probability"] == pytest.approx(start.sampled / start.shards)
    assert each["probability"] == pytest.approx(1 - (1 - start.sampled / start.shards) ** 100)
    assert f"{percent(detection(start.shards, start.sampled, 1))} % (one shard in one step)" in found["message"]


def test_a_ledger_that_is_restarted_after_every_event_writes_the_same_log(fresh: Fresh) -> None:
    fresh.append(*fresh.steps)
    fresh.run()
    for record in fresh.inputs[len(fresh.steps) :]:
        fresh.append(record)
        fresh.run()
    assert fresh.leaves() == fresh.case.leaves()
    assert fresh.letters() == []


def test_a_ledger_that_was_away_while_receipt_and_proof_came_takes_both(fresh: Fresh) -> None:
    """The receipt is read before the proof, whichever topic is read first."""
    fresh.append(*fresh.steps)
    fresh.run()
    first, second = len(fresh.steps), len(fresh.steps) + 3
    fresh.append(*fresh.inputs[first:second])
    fresh.run(rounds=1)
    fresh.append(*fresh.inputs[second:])
    fresh.run(rounds=1)
    assert fresh.leaves() == fresh.case.leaves()
    assert fresh.letters() == []


def test_without_a_receipt_no_proof_is_taken(fresh: Fresh) -> None:
    fresh.append(*fresh.steps)
    fresh.run()
    fresh.append(*(r for r in fresh.inputs if r.topic == "proofs"))
    fresh.run()
    assert fresh.kinds() == ["RunOpened", "r1", "r2"]
    assert len(fresh.letters()) == STEPS
    assert all("before its step's shards were drawn" in reason for reason in fresh.letters())


def test_strangers_among_the_receipts_stop_nothing(fresh: Fresh) -> None:
    """Garbage, a receipt under a stranger's key, and one that is played again: passed over, and the run goes on."""
    fresh.append(*fresh.steps)
    fresh.run()
    receipts = fresh.case.log.records("anchors")
    stranger = new_signing_key()
    fresh.log.append("anchors", b"garbage", *(resigned("anchors", r.value, stranger) for r in receipts))
    for record in fresh.inputs[len(fresh.steps) :]:
        fresh.append(record)
        if record.topic == "anchors":
            fresh.append(record, receipts[0])
        fresh.run()
    assert fresh.leaves() == fresh.case.leaves()


def test_a_receipt_of_another_log_draws_nothing(fresh: Fresh) -> None:
    """The beacon was raised for a larger tree than this ledger has written."""
    fresh.append(*fresh.steps)
    fresh.run()
    fresh.append(fresh.case.log.records("anchors")[1])
    fresh.append(*(r for r in fresh.inputs if r.topic == "proofs"))
    fresh.run()
    assert fresh.kinds() == ["RunOpened", "r1", "r2"]


def test_a_log_without_sampled_runs_does_not_read_the_anchors(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    with open_event_log(fresh.log.url) as log:
        original = type(log).reader

        def reader(self: EventLog, topics: list[str], *start: Any) -> object:
            opened.extend(topics)
            return original(self, topics, *start)

        monkeypatch.setattr(type(log), "reader", reader)
        runner = fresh.case.ledger(log)
        runner.run_once(timeout=0.0)
        assert "anchors" not in opened
        fresh.append(*fresh.steps)
        runner.run_once(timeout=0.0)
        assert "anchors" in opened
        runner.close()
