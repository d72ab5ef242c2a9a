"""Attacks on ``zk-audit watch``: a host that takes back so much, or so little, that nobody alarms; and a false alarm.

Each fails for now, and says what would have to be seen.
"""

from __future__ import annotations

import pytest

from schemas.events import RunClosed, RunFinished
from tests.attacks.test_watched_logs import Watching
from tests.support.forge import Case
from zk_autograd.errors import UsageError


@pytest.mark.xfail(reason="a run that is gone ends the watch with an error, exit code 2", raises=UsageError)
def test_a_log_of_which_everything_is_taken_back(case: Case) -> None:
    """What: the host empties every topic. Why: the worst roll-back is told as "no such run", and not as an alarm.
    Where: ``Watch.round``, where :func:`collect_run` raises before anything is compared."""
    watching = Watching(case)
    watching.look()
    for topic in ("steps", "proofs", "ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    assert "log rolled back" in watching.look()


@pytest.mark.xfail(reason="a run's end is not among what is remembered between rounds", raises=AssertionError)
def test_the_end_of_a_run_that_is_taken_back(case: Case) -> None:
    """What: a run's end was there, and is not any more, so that it can go on. Why: its trainer has signed both.
    Where: ``Seen`` remembers the last step only."""
    story = case.story()
    story.entries = lambda entries: [e for e in entries if not isinstance(e, RunClosed)]
    case.retell(story)
    watching = Watching(case)
    assert watching.look() == set()
    case.log.delete(case.log.find("steps", RunFinished))
    assert "log rolled back" in watching.look()


@pytest.mark.xfail(reason="a chain that could not be read counts as one without steps", raises=AssertionError)
def test_an_auditors_own_missing_circuit_accuses_nobody(case: Case) -> None:
    """What: the auditor's own circuit cannot be read any more. Why: the host is accused of a roll-back. Where: ``Seen``
    takes an unread chain for one of no steps."""
    watching = Watching(case)
    watching.look()
    watching.watch._args.home = case.folder / "no home"
    assert watching.look() == set()
