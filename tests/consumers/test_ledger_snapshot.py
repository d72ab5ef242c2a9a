"""A ledger that goes on from its snapshot writes the same log, reads less, and believes no snapshot but its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.ledger.runner import LedgerRunner
from schemas.events import DeadLetter, RunStarted
from schemas.wire import open_event_log
from tests.consumers import test_ledger_sampled as sampled
from tests.consumers.test_ledger_runner import Fresh, honest, troubled
from tests.support.forge import Case, flipped
from tests.tiles.logs import files
from tiles import open_store
from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import Record
from zk_autograd.tee.keys import new_signing_key


class Kept:
    """A log, its tiles and its ledger's snapshot."""

    def __init__(self, made: Any, folder: Path) -> None:
        self.made, self.tiles, self.snapshot = made, folder / "tiles", folder / "snapshot"

    def run(self, rounds: int = 2, **options: Any) -> LedgerRunner:
        with open_event_log(self.made.log.url) as log, open_store(str(self.tiles)) as store:
            runner: LedgerRunner = self.made.case.ledger(log, store, self.snapshot, **options)
            for _ in range(rounds):
                runner.run_once(timeout=0.0)
            runner.close()
        return runner


@pytest.fixture
def kept(case: Case, tmp_path: Path) -> Callable[[], Kept]:
    numbers: Iterator[int] = iter(range(100))

    def make() -> Kept:
        folder = tmp_path / f"kept-{next(numbers)}"
        folder.mkdir()
        return Kept(Fresh(case, folder / "log.db"), folder)

    return make


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("records", [honest, troubled])
def test_a_ledger_that_goes_on_from_a_snapshot_after_every_event_writes_the_same_log(
    case: Case, kept: Callable[[], Kept], records: Callable[[Case], list[Record]], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = kept(), kept()
    inputs = records(case)
    for record in inputs:
        one.made.append(record)
        one.run(rounds=1)
        one.snapshot.unlink(missing_ok=True)
    said(capsys)
    for record in inputs:
        two.made.append(record)
        two.run(rounds=1)
    lines = said(capsys)
    empty = next(i for i, record in enumerate(inputs) if record == case.log.find("steps", RunStarted))
    assert sum("saved" in line for line in lines) == len(inputs) - empty, "there is none of an empty log"
    assert sum("snapshot" in line for line in lines) == len(inputs) - empty - 1
    for topic in ("ledger", "checkpoints"):
        assert two.made.written()[topic] == one.made.written()[topic]
    letters = [
        [(e.source_topic, e.partition, e.offset) for e in each.made.letters() if isinstance(e, DeadLetter)]
        for each in (one, two)
    ]
    assert letters[0] == letters[1]
    assert files(two.tiles) == files(one.tiles)


def test_a_sampled_run_goes_on_from_snapshots_with_its_draws(sampled_case: Case, tmp_path: Path) -> None:
    made = sampled.Fresh(sampled_case, tmp_path / "fresh.db")
    kept = Kept(made, tmp_path)
    made.append(*made.steps)
    kept.run(rounds=1)
    for record in made.inputs[len(made.steps) :]:
        made.append(record)
        kept.run(rounds=1)
    assert made.leaves() == sampled_case.leaves()
    assert made.letters() == []


def test_what_the_snapshot_covers_is_not_read_again(case: Case, kept: Callable[[], Kept]) -> None:
    """It may not even be there any more, but for the first entry, by which the log is known."""
    one, inputs = kept(), honest(case)
    one.made.append(*inputs[:-2])
    one.run()
    log = one.made.log
    log.delete(*log.records("ledger")[1:], *log.records("steps")[:2], *log.records("proofs")[:1])
    one.made.append(*inputs[-2:])
    one.run()
    assert one.made.written()["ledger"][1:] == [r.value for r in case.log.records("ledger")][-2:]
    one.snapshot.unlink()
    with pytest.raises(UsageError, match="does not match its own checkpoint"):
        one.run()


def test_a_snapshot_older_than_the_log_is_gone_on_from(
    case: Case, kept: Callable[[], Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    one, inputs, old = kept(), honest(case), b""
    for record in inputs[:-1]:
        one.made.append(record)
        one.run(rounds=1)
        if not old and one.snapshot.exists():  # there is none before the run's start, whose place depends on its id
            old = one.snapshot.read_bytes()
    assert one.snapshot.read_bytes() != old
    one.snapshot.write_bytes(old)
    one.made.append(inputs[-1])
    said(capsys)
    one.run()
    assert any("snapshot" in line for line in said(capsys))
    assert one.made.written()["ledger"] == [r.value for r in case.log.records("ledger")]


def test_a_snapshot_by_anyone_else_or_altered_or_cut_is_not_used(
    case: Case, kept: Callable[[], Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    one = kept()
    one.made.append(*honest(case)[:-1])
    one.run()
    sound, stranger = one.snapshot.read_bytes(), new_signing_key()
    domain = b"zk-autograd/ledger-snapshot/v1\0"
    key = case.insider.key("ledger")
    reordered = json.dumps(json.loads(sound[64:])).encode()
    forged = {
        "another's": stranger.sign(domain + sound[64:]) + sound[64:],
        "signed for something else": key.sign(sound[64:]) + sound[64:],
        "altered": flipped(sound, len(sound) // 2),
        "a signature altered": flipped(sound, 3),
        "cut": sound[:-1],
        "empty": b"",
        "longer": sound + b" ",
        "another spelling": key.sign(domain + reordered) + reordered,
        "no JSON": key.sign(domain + b"{") + b"{",
        "another shape": key.sign(domain + b"{}") + b"{}",
    }
    for name, data in forged.items():
        one.snapshot.write_bytes(data)
        said(capsys)
        one.run()
        lines = said(capsys)
        assert any("unused" in line for line in lines), name
        assert not any("snapshot" in line for line in lines), name
    one.made.append(honest(case)[-1])
    one.run()
    assert one.made.written()["ledger"] == [r.value for r in case.log.records("ledger")]


def test_a_snapshot_made_under_another_policy_is_not_used(
    case: Case, kept: Callable[[], Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was allowed then may not be allowed now."""
    one = kept()
    one.made.append(*honest(case))
    one.run()
    said(capsys)
    one.run(policy=replace(case.sound.home.policy(), circuits=frozenset({bytes(32)})))
    assert any("of another origin or policy" in line["message"] for line in said(capsys))
    assert any("not one that the policy allows" in letter.reason for letter in one.made.letters())


def test_a_snapshot_is_not_used_where_the_tiles_are_behind_it(
    case: Case, kept: Callable[[], Kept], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = kept()
    one.made.append(*honest(case))
    one.run()
    whole = files(one.tiles)
    one.tiles = tmp_path / "elsewhere"
    said(capsys)
    one.run()
    assert any("the published tiles of 0" in line["message"] for line in said(capsys))
    assert files(one.tiles) == whole


@pytest.mark.parametrize("lost", ["entries", "checkpoints", "both"])
def test_a_snapshot_does_not_hide_that_the_log_was_rolled_back(case: Case, kept: Callable[[], Kept], lost: str) -> None:
    one = kept()
    one.made.append(*honest(case))
    for _ in range(2):
        one.run()
    log = one.made.log
    if lost != "checkpoints":
        values = [r.value for r in log.records("ledger")]
        log.clear("ledger")
        log.append("ledger", *values[:-2])
    if lost != "entries":
        log.clear("checkpoints")
    with pytest.raises(UsageError, match=r"entries were removed|audit the log"):
        one.run()


def test_an_entry_altered_behind_the_ledgers_back_is_noticed_before_the_next_snapshot(
    case: Case, kept: Callable[[], Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    one, inputs = kept(), honest(case)
    one.made.append(*inputs[:-1])
    with open_event_log(one.made.log.url) as log, open_store(str(one.tiles)) as store:
        runner = case.ledger(log, store, one.snapshot)
        runner.snapshot = None
        runner.run_once(timeout=0.0)
        runner.snapshot = one.snapshot
        records = one.made.log.records("ledger")
        one.made.log.swap(records[1], records[2])
        one.made.append(inputs[-1])
        said(capsys)
        runner.run_once(timeout=0.0)
        runner.close()
    assert any("no snapshot:" in line["message"] for line in said(capsys))
    assert not one.snapshot.exists()


def test_a_snapshot_that_cannot_be_written_stops_nothing(
    case: Case, kept: Callable[[], Kept], capsys: pytest.CaptureFixture[str]
) -> None:
    one = kept()
    one.made.append(*honest(case))
    one.snapshot.parent.joinpath("file").write_bytes(b"")
    one.snapshot = one.snapshot.parent / "file" / "snapshot"
    with pytest.raises(NotADirectoryError):
        one.snapshot.read_bytes()
    one.run()
    assert one.made.written()["ledger"] == [r.value for r in case.log.records("ledger")]
    assert any("unsaved" in line for line in said(capsys))


def test_a_snapshot_is_its_owners_alone(case: Case, kept: Callable[[], Kept]) -> None:
    one = kept()
    one.made.append(*honest(case))
    one.run()
    assert one.snapshot.stat().st_mode & 0o777 == 0o600
