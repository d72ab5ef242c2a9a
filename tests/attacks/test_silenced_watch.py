"""Attacks on ``zk-audit watch``: a host that takes back so much, or so little, that nobody alarms; a false alarm."""

from __future__ import annotations

from schemas.events import RunClosed, RunFinished
from tests.attacks.test_watched_logs import Watching
from tests.support.forge import Case


def test_a_log_of_which_everything_is_taken_back(case: Case) -> None:
    """What: the host empties every topic. Why: the worst roll-back is told as "no such run", and not as an alarm.
    Where: ``Watch.round``, where :func:`collect_run` raises."""
    watching = Watching(case)
    watching.look()
    for topic in ("steps", "proofs", "ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    assert "log rolled back" in watching.look()


def test_the_end_of_a_run_that_is_taken_back(case: Case) -> None:
    """What: a run's end was there, and is not any more, so that it can go on. Why: its trainer has signed both.
    Where: what is remembered between rounds."""
    story = case.story()
    story.entries = lambda entries: [e for e in entries if not isinstance(e, RunClosed)]
    case.retell(story)
    watching = Watching(case)
    assert watching.look() == set()
    case.log.delete(case.log.find("steps", RunFinished))
    assert "log rolled back" in watching.look()


def test_an_auditors_own_missing_circuit_accuses_nobody(case: Case) -> None:
    """What: the auditor's own circuit cannot be read any more. Why: the host is accused of a roll-back. Where: an
    unread chain is not one of no steps."""
    watching = Watching(case)
    watching.look()
    watching.watch._args.home = case.folder / "no home"
    assert watching.look() == set()
