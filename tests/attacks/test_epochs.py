"""Attacks on epochs: what the ledger says when it closes one, and what an audit of a single epoch rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consumers.audit.report import as_json, as_text
from ledger.entries import Entry, leaf_data
from ledger.tree import Tree
from schemas.events import EpochClosed, RunFinished, RunStarted, StepCommitted, StepProven
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.events import digest
from tests.support.forge import Case, explain, flipped
from tests.support.sound_run import STEPS
from zk_autograd.errors import UsageError


@pytest.fixture
def epochs(case: Case) -> Case:
    """The sound run in epochs of two steps: one full, and a short one at the end."""
    return told(case, lambda entries: entries)


def told(case: Case, entries: Callable[[list[Entry]], list[Entry]]) -> Case:
    story = case.story()
    story.edit(RunStarted, epoch_steps=2)
    story.entries = entries
    case.retell(story)
    return case


def test_a_run_in_epochs_is_sound_and_so_is_each_of_them(epochs: Case) -> None:
    whole = epochs.audit()
    assert whole.exit_code == 0, explain(whole)
    assert whole.proofs_verified == STEPS * 2
    parts = [epochs.audit(epoch=number) for number in (1, 2)]
    for part in parts:
        assert part.exit_code == 0, explain(part)
    assert [part.proofs_verified for part in parts] == [4, 2]
    assert [list(part.steps) for part in parts] == [[1, 2], [3]]
    one, two = (as_json(part, "")["epoch"] for part in parts)
    assert one["after"] == two["before"]
    assert f"ends with state {two['after']}. Proofs of other epochs were not verified" in as_text(parts[1], "")
    assert as_text(parts[0], "").splitlines()[-1].startswith("verdict: SOUND: epoch 1, steps 1 to 2, every one proven")


def test_a_bad_proof_is_found_by_the_audit_of_its_epoch_and_by_no_other(epochs: Case) -> None:
    """What an audit of one epoch does not say of the others."""
    story = epochs.story()
    bad = story.proofs[3, 1]
    story.proofs[3, 1] = replace(bad, proof=flipped(bad.proof, 3000))
    epochs.retell(story)
    assert_violates(epochs.audit(epoch=2), 5)
    first = epochs.audit(epoch=1)
    assert first.exit_code == 0, explain(first)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 2},
        {"first_step": 2},
        {"last_step": 1},
        {"last_step": 3},
        {"before": digest("other")},
        {"after": digest("other")},
        {"last_event": digest("other")},
        {"entries_root": digest("other")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_epoch_that_says_what_the_topics_do_not(case: Case, change: dict[str, Any]) -> None:
    """The ledger closes an epoch with another number, range, state, chain or set of entries than it had."""

    def other(entries: list[Entry]) -> list[Entry]:
        at = next(i for i, e in enumerate(entries) if isinstance(e, EpochClosed))
        return [*entries[:at], replace(entries[at], **change), *entries[at + 1 :]]

    assert_violates(told(case, other).audit(), 7, only=True)
    assert_violates(case.audit(epoch=1), 7, only=True)


def test_an_epoch_that_is_not_closed_before_the_next_begins(case: Case) -> None:
    """Without its entry nobody could verify it as one unit."""
    assert_violates(told(case, lambda entries: [e for e in entries if not isinstance(e, EpochClosed)]).audit(), 7)
    assert case.audit(epoch=1).exit_code == 1


def test_an_epoch_that_is_closed_early(case: Case) -> None:
    """After its first step: the second would be in no epoch."""

    def early(entries: list[Entry]) -> list[Entry]:
        at = next(i for i, e in enumerate(entries) if isinstance(e, EpochClosed))
        return [*entries[: at - 1], entries[at], entries[at - 1], *entries[at + 1 :]]

    assert_violates(told(case, early).audit(), 7, only=True)


def test_an_epoch_that_is_closed_twice(case: Case) -> None:
    """Two records of one epoch, with one and the same content: the second closes nothing."""

    def twice(entries: list[Entry]) -> list[Entry]:
        at = next(i for i, e in enumerate(entries) if isinstance(e, EpochClosed))
        again = replace(entries[at], epoch=2)
        return [*entries[: at + 1], again, *entries[at + 1 :]]

    assert_violates(told(case, twice).audit(), 7, only=True)


def test_epochs_of_a_run_that_declared_none(case: Case) -> None:
    """The ledger closes what the run never had."""
    story = case.story()
    story.entries = lambda entries: [
        *entries[:3],
        EpochClosed(entries[0].run_id, 1, 1, 2, *(bytes(32) for _ in range(4))),
        *entries[3:],
    ]
    case.retell(story)
    assert_violates(case.audit(), 7, only=True)


def test_an_epoch_that_is_still_open(case: Case) -> None:
    """The run goes on: its full epoch is sound, the other is not closed yet, and a third is not there at all."""
    story = case.story()
    story.edit(RunStarted, epoch_steps=2)
    story.events = [e for e in story.events if not isinstance(e, RunFinished)]
    case.retell(story)
    assert case.audit(epoch=1).exit_code == 0
    assert_doubts(case.audit(epoch=2), 7)
    with pytest.raises(UsageError, match="2 epochs so far"):
        case.audit(epoch=3)


def test_a_step_that_the_ledger_has_not_proven_leaves_its_epoch_open(case: Case) -> None:
    """The topics have the epoch's last step, the ledger does not yet: no verdict on the epoch."""

    def behind(entries: list[Entry]) -> list[Entry]:
        return [e for e in entries if not isinstance(e, EpochClosed) and not (isinstance(e, StepProven) and e.step > 1)]

    story = case.story()
    story.edit(RunStarted, epoch_steps=2)
    story.events = [e for e in story.events if not isinstance(e, StepCommitted) or e.step < STEPS]
    story.events = [e for e in story.events if not isinstance(e, RunFinished)]
    story.proofs = {slot: p for slot, p in story.proofs.items() if slot[0] < STEPS}
    story.entries = behind
    case.retell(story)
    assert_doubts(case.audit(epoch=1), 5, 7)


def test_an_epoch_of_a_run_without_epochs(case: Case) -> None:
    """Nothing to verify as one unit: the audit says so instead of calling nothing sound."""
    with pytest.raises(UsageError, match="has no epochs"):
        case.audit(epoch=1)


@pytest.mark.parametrize("field", ["event_id", "state_root", "work_root", "challenge"])
def test_an_audit_of_one_epoch_checks_the_ledger_of_the_others_as_always(case: Case, field: str) -> None:
    """docs/auditing.md: "verifies the proofs of that epoch only, and checks everything else (chain, schedule, ledger,
    checkpoints, receipts) as always": an entry of another epoch may not name another event, state or work, either.
    """

    def other(entries: list[Entry]) -> list[Entry]:
        lie = [
            replace(e, **{field: digest("other")}) if isinstance(e, StepProven) and e.step == 3 else e for e in entries
        ]
        third = [e for e in lie if isinstance(e, StepProven) and e.step == 3]
        root = Tree(leaf_data(e) for e in third).root()
        return [replace(e, entries_root=root) if isinstance(e, EpochClosed) and e.epoch == 2 else e for e in lie]

    lying = told(case, other)
    assert lying.audit().exit_code == 1
    found = lying.audit(epoch=1)
    assert found.exit_code != 0, explain(found)
