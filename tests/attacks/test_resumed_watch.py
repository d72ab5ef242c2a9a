"""Attacks between two watches of one log: what one has seen, the next one holds the log to (``--resume``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.audit.seen import SeenFile
from schemas.events import RunFinished
from tests.attacks.test_watched_logs import Watching
from tests.consumers.test_audit_collect import cut_back
from tests.support.forge import Case
from zk_autograd.errors import UsageError


@pytest.fixture
def watch(case: Case, auditor_home: Path) -> Callable[[], Watching]:
    """A new watch, of a home that remembers what the ones before saw."""
    return lambda: Watching(case, live=True, words=("--home", str(auditor_home), "--resume"))


def kept(watching: Watching) -> SeenFile:
    found = watching.watch._file
    assert found is not None
    return found


def test_a_log_that_grew_between_two_watches_is_no_alarm(case: Case, watch: Callable[[], Watching]) -> None:
    go_on = cut_back(case)
    first = watch()
    assert "nothing is kept" in first.watch.begins
    assert first.look() == set()
    go_on()
    again = watch()
    assert again.watch.begins == "goes on from 1 steps and 2 entries"
    assert again.look() == set()
    assert watch().watch.begins == "goes on from 3 steps and 5 entries"


def test_a_log_that_was_taken_back_between_two_watches(case: Case, watch: Callable[[], Watching]) -> None:
    """What: the host waits until the watch has ended, and takes the log and the anchor's file back. Why: what is left
    is a sound beginning, and a new watch knows no other. Where: ``SeenFile``."""
    assert watch().look() == set()
    cut_back(case)
    again = watch()
    assert "log rolled back" in again.look()
    assert "log rolled back" in watch().look(), "an alarm is not forgotten because it was given once"


def test_a_log_that_was_emptied_between_two_watches(case: Case, watch: Callable[[], Watching]) -> None:
    assert watch().look() == set()
    for topic in ("steps", "proofs", "ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    assert "log rolled back" in watch().look()


def test_an_end_that_was_taken_back_between_two_watches(case: Case, watch: Callable[[], Watching]) -> None:
    assert watch().look() == set()
    case.log.delete(case.log.find("steps", RunFinished))
    assert "log rolled back" in watch().look()


@pytest.mark.parametrize("at", [0, 70, -5])
def test_what_was_seen_cannot_be_rewritten(case: Case, watch: Callable[[], Watching], at: int) -> None:
    """What: who can write to the home puts a smaller log into the file. Why: then the roll-back is none. Where: the
    home's key, over place and content."""
    first = watch()
    assert first.look() == set()
    path = kept(first).path
    written = bytearray(path.read_bytes())
    written[at] ^= 1
    path.write_bytes(written)
    with pytest.raises(UsageError, match="not what this home's watch has written"):
        watch()


def test_what_was_seen_of_another_log_does_not_count(case: Case, watch: Callable[[], Watching]) -> None:
    """What: a file of another log's watch is put in its place. Where: the place is under the key too."""
    first = watch()
    assert first.look() == set()
    file = kept(first)
    other = SeenFile(file.path.parents[1], "another log")
    other.save("00", first.watch._seen)
    other.path.replace(file.path)
    with pytest.raises(UsageError, match="not what this home's watch has written"):
        watch()
