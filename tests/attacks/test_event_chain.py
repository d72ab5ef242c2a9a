"""Attacks on a run's own events: its start, its steps, its end, and the integers that each step declares."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from schemas.events import Hyper, Role, RunFinished, RunStarted, ScheduleKind, SrsClass, StepCommitted
from schemas.signing import decode_unverified
from tests.attacks.conftest import assert_violates, hot_story
from tests.support.forge import Case, explain, resigned, unsigned_edit
from tests.support.pipeline import LR
from tests.support.sound_run import HOT_LR
from zk_autograd.tee.keys import new_signing_key

PUBLIC = ("b1", "c1", "b2", "c2", "A", "E", "r")


# Order and completeness


def test_a_skipped_step(case: Case) -> None:
    """The host drops a step. The next one names its predecessor, which is not there."""
    case.log.delete(case.log.find("steps", StepCommitted, step=2))
    assert_violates(case.audit(), 3)


def test_a_skipped_step_that_its_trainer_covers_up(case: Case) -> None:
    """The trainer signs the next step anew, with the predecessor's id that fits: its number does not."""
    story = case.story()
    story.events = [e for e in story.events if e != story.step(2)]
    case.retell(story)
    assert_violates(case.audit(), 3)


def test_a_skipped_step_whose_followers_are_renumbered(case: Case) -> None:
    """Chain and numbers fit now, but the proof starts from a state that no step ended in, and with later integers."""
    story = case.story()
    third = story.step(3)
    story.events = [e for e in story.events if e not in (story.step(2), third)]
    story.events.insert(2, replace(third, step=2))
    story.edit(RunFinished, steps=2)
    for shard in range(2):
        story.proofs[2, shard] = replace(story.proofs.pop((3, shard)), step=2)
    case.retell(story)
    assert_violates(case.audit(), 4, 6)


def test_a_step_that_is_played_again_is_harmless(case: Case) -> None:
    """Signature and all, by whoever can write to the topic: it says nothing that was not said."""
    step = case.log.find("steps", StepCommitted, step=2)
    case.log.insert(case.log.find("steps", StepCommitted, step=3), step.value)
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert "1 repeated" in found.checks[0].detail


def test_a_repeated_step(case: Case) -> None:
    """The trainer takes step 2 again in place of step 3: same state before, same gradient, same result."""
    story = case.story()
    second = story.step(2)
    story.edit(StepCommitted, 3, public=second.public, state_root=second.state_root, work_root=second.work_root)
    story.proofs |= {(3, shard): replace(story.proofs[2, shard], step=3) for shard in (0, 1)}
    case.retell(story)
    assert_violates(case.audit(), 4)
    assert_violates(case.audit(), 6)


@pytest.mark.parametrize("place", ["before the honest one", "after the end"])
def test_a_forked_chain(case: Case, place: str) -> None:
    """The trainer signs two second steps, to show one story to one auditor and another to the next."""
    honest = case.log.find("steps", StepCommitted, step=2)
    event = decode_unverified("steps", honest.value).event
    fork = case.insider.seal("steps", replace(event, saturated=event.saturated + 1))
    if place == "after the end":
        case.log.append("steps", fork, partition=honest.partition)
    else:
        case.log.insert(honest, fork)
    assert_violates(case.audit(), 3)


def test_steps_that_stand_in_another_order_are_read_by_their_numbers(case: Case) -> None:
    """The host swaps two records. Their order is in what they say, and cannot be changed by that."""
    case.log.swap(*(case.log.find("steps", StepCommitted, step=n) for n in (2, 3)))
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_steps_that_are_numbered_in_another_order(case: Case) -> None:
    """The trainer signs the third step as the second."""
    story = case.story()
    at = {2: 3, 3: 2}
    story.events = [
        replace(e, step=at.get(e.step, e.step)) if isinstance(e, StepCommitted) else e for e in story.events
    ]
    case.retell(story)
    assert_violates(case.audit(), 3)


def test_a_change_of_scale_that_the_run_did_not_undertake(case: Case) -> None:
    """The trainer says that a step's integers are in other units than those that were declared."""
    story = case.story()
    story.edit(StepCommitted, 2, shifts=(1,))
    case.retell(story)
    assert_violates(case.audit(), 4, only=True)


def test_a_step_after_the_end(case: Case) -> None:
    """A finished run takes no further step, not even from its own trainer."""
    end = case.log.find("steps", RunFinished)
    opened = decode_unverified("steps", end.value)
    step = replace(case.story().step(3), step=4, previous=opened.event_id)
    case.log.append("steps", case.insider.seal("steps", step), partition=end.partition)
    assert_violates(case.audit(), 3, only=True)


def test_an_end_that_is_hidden(case: Case) -> None:
    """The host drops the end, so that the run looks as if it went on: the ledger has closed it."""
    case.log.delete(case.log.find("steps", RunFinished))
    assert_violates(case.audit(), 7, only=True)


@pytest.mark.parametrize("lie", [{"steps": 2}, {"steps": 4}, {"state_root": bytes(32)}], ids=["fewer", "more", "root"])
def test_an_end_that_lies(case: Case, lie: dict[str, Any]) -> None:
    """The trainer's last word names another number of steps, or another model, than the chain ends in."""
    story = case.story()
    story.edit(RunFinished, **lie)
    case.retell(story)
    assert_violates(case.audit(), 3)


@pytest.mark.parametrize("partition", range(4))
def test_a_start_that_is_published_twice_is_harmless(case: Case, partition: int) -> None:
    """One run id, one start, wherever it stands."""
    case.log.append("steps", case.log.find("steps", RunStarted).value, partition=partition)
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_a_start_that_is_hidden(case: Case) -> None:
    """Without its start a run declares nothing that it could be held to."""
    case.log.delete(case.log.find("steps", RunStarted))
    assert_violates(case.audit(), 2)


# Who signs


def test_a_step_by_another_trainer(case: Case) -> None:
    """A key with good evidence and the right role, but not the one that began this run."""
    other = new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.TRAINER, other))
    step = case.log.find("steps", StepCommitted, step=2)
    case.log.replace(step, resigned("steps", step.value, other))
    assert_violates(case.audit(), 3)


def test_a_step_by_a_prover(case: Case) -> None:
    """A key with good evidence and another role may not sign steps at all."""
    step = case.log.find("steps", StepCommitted, step=2)
    case.log.replace(step, resigned("steps", step.value, case.insider.key("proofs")))
    assert_violates(case.audit(), 1)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (RunStarted, {"sampled": 1}),
        (StepCommitted, {"rates": (HOT_LR,)}),
        (StepCommitted, {"public": (1, 2, 3)}),
        (StepCommitted, {"state_root": bytes(32)}),
        (StepCommitted, {"saturated": 7}),
        (RunFinished, {"steps": 2}),
    ],
)
def test_an_event_that_is_changed_without_a_key(case: Case, kind: type, change: dict[str, Any]) -> None:
    """The host changes a field and leaves the signature: well-formed, and not signed."""
    found = [r for r, o in case.log.opened("steps") if isinstance(o.event, kind)]
    case.log.replace(found[-1], unsigned_edit("steps", found[-1].value, **change))
    # A start that is changed has another id: it is another run's, and this run has lost its own.
    assert_violates(case.audit(), 2 if kind is RunStarted else 1)


# What was declared


@pytest.mark.parametrize("index", range(len(PUBLIC)), ids=PUBLIC)
@pytest.mark.parametrize("off", [1, -1, 1 << 35])
def test_a_public_integer_off_its_schedule(case: Case, index: int, off: int) -> None:
    """The trainer declares an honest rate and uses another integer."""
    story = case.story()
    public = list(story.step(2).public)
    public[index] += off
    story.edit(StepCommitted, 2, public=tuple(public))
    case.retell(story)
    assert_violates(case.audit(), 4)


def test_a_hot_step_that_declares_the_honest_rate(case: Case) -> None:
    """A real step at a higher rate, proven with the integers that it really used: all proofs hold. Only the schedule
    tells it from an honest one."""
    case.retell(hot_story(case, lr=LR))
    assert_violates(case.audit(), 4, only=True)


def test_a_hot_step_that_declares_its_own_rate(case: Case) -> None:
    """The same, and it owns up to its rate: another rate than the one that the run's start has promised."""
    case.retell(hot_story(case, lr=HOT_LR))
    assert_violates(case.audit(), 4, only=True)


def test_a_hot_step_above_the_largest_rate_of_an_open_schedule(case: Case) -> None:
    """An open schedule still has its bound, from which the format was chosen."""
    story = hot_story(case, lr=HOT_LR)
    story.edit(RunStarted, schedule_kind=ScheduleKind.OPEN, schedule=())
    case.retell(story)
    assert_violates(case.audit(), 4, only=True)


@pytest.mark.parametrize("change", [(), (0,) * 7, (1,) * 32, (-1,) * 7], ids=["none", "zeros", "32", "negative"])
def test_public_integers_that_are_none(case: Case, change: tuple[int, ...]) -> None:
    """Too few, too many, or no integers of the statement: refused before anything is computed with them."""
    story = case.story()
    story.edit(StepCommitted, 1, public=change)
    case.retell(story)
    assert_violates(case.audit(), 4)


@pytest.mark.parametrize(
    "change",
    [
        {"scale_w": 20},
        {"scale_g": 30},
        {"guard": 8},
        {"hyper": (Hyper("beta1", 0.8), Hyper("beta2", 0.999), Hyper("eps", 1e-8))},
        {"hyper": (Hyper("beta1", 0.9), Hyper("beta2", 0.99), Hyper("eps", 1e-8))},
        {"hyper": (Hyper("beta1", 0.9), Hyper("beta2", 0.999), Hyper("eps", 1e-2))},
        {"schedule": (LR / 2,)},
        {"schedule_kind": ScheduleKind.TABLE, "schedule": (LR, LR / 2)},
    ],
    ids=["scale_w", "scale_g", "guard", "beta1", "beta2", "eps", "rate", "table"],
)
def test_a_start_that_declares_what_the_steps_do_not_do(case: Case, change: dict[str, Any]) -> None:
    """A format, a hyper-parameter or a schedule other than those that the integers of the steps follow from."""
    story = case.story()
    story.edit(RunStarted, **change)
    case.retell(story)
    assert_violates(case.audit(), 4, only=True)


@pytest.mark.parametrize(
    "change",
    [
        {"hyper": ()},
        {"hyper": (Hyper("beta1", 0.9), Hyper("beta2", 0.999), Hyper("eps", 1e-8), Hyper("extra", 1.0))},
        {"hyper": (Hyper("beta1", 2.0), Hyper("beta2", 0.999), Hyper("eps", 1e-8))},
        {"scale_w": 62},
        {"clip": (1 << 31) - 1},
        {"schedule": ()},
        {"schedule": (1.0,)},
        {"optimizer": "sgd"},
        {"proof_system": "trust-me"},
        {"shard_size": 1},
        {"srs_id": bytes(32)},
        {"srs_class": SrsClass.CEREMONY},
        {"shards": 1},
        {"shards": 1 << 20},
        {"group": 1},
        {"sampled": 1},
        {"sampled": 1, "beacon": "file:" + "00" * 32},
        {"sampled": 3, "beacon": "file:" + "00" * 32, "window": 1},
        {"window": 1},
    ],
    ids=lambda change: "-".join(f"{k}" for k in change),
)
def test_a_start_that_no_step_could_follow(case: Case, change: dict[str, Any]) -> None:
    """It contradicts itself or the circuit; among others, a development SRS that calls itself a ceremony's."""
    story = case.story()
    story.edit(RunStarted, **change)
    case.retell(story)
    assert_violates(case.audit(), 2, only=True)


def test_a_start_that_declares_fewer_shards_than_were_trained(case: Case) -> None:
    """Half of the model would go unproven."""
    story = case.story()
    story.edit(RunStarted, shards=1, blocks=(replace(story.start.blocks[0], shards=1),))
    case.retell(story)
    assert_violates(case.audit(), 6)


def test_another_genesis(case: Case) -> None:
    """The start commits to other weights than the first step begins with."""
    story = case.story()
    story.edit(RunStarted, state_root=story.step(1).state_root)
    case.retell(story)
    assert_violates(case.audit(), 6)


def test_a_start_that_declares_a_million_shards(case: Case) -> None:
    """Whoever audits such a run must not pay for what it declares."""
    story = case.story()
    story.edit(RunStarted, shards=1 << 20, blocks=(replace(story.start.blocks[0], shards=1 << 20),))
    case.retell(story)
    found = case.audit()
    assert_violates(found, 6)
    assert sum(len(c.findings) for c in found.checks) < 100


@pytest.mark.parametrize("change", [{"scale_w": 0, "guard": 0}, {"max_lr": 1e-12, "schedule": (1e-12,)}])
def test_a_format_in_which_the_declared_rate_stands_for_a_larger_one(case: Case, change: dict[str, object]) -> None:
    """A is an integer of at least 1: in too coarse a format it is a rate far above the declared one."""
    story = case.story()
    story.edit(RunStarted, **change)
    case.retell(story)
    found = case.audit()
    assert_violates(found, 2)
    assert re.search("multiples of|at least 12 fractional bits", found.checks[2].findings[0])
