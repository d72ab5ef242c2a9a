"""The ledger's rule: what it refuses, each by itself, and that a refusal leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger.entries import NO_CHALLENGE, leaf_data, run_closed, run_opened, step_proven
from ledger.fold import Entry, Fold
from schemas.events import (
    EpochClosed,
    ProofAttached,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    StepCommitted,
    StepProven,
)
from schemas.signing import Opened, decode_unverified, seal
from tests.support.events import declared
from tests.support.forge import Case, flipped
from tests.support.sound_run import HOT_LR, SHARDS, STEPS
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.merkle import root
from zk_autograd.proofs.base import Circuit
from zk_autograd.tee.keys import new_signing_key


class World:
    """A fold and the sound run's events, to be fed in any order."""

    def __init__(self, case: Case) -> None:
        self.case = case
        kinds = RunStarted | StepCommitted | RunFinished
        self.events = [o for _, o in case.log.opened("steps") if isinstance(o.event, kinds)]
        self.proofs = {
            slot: decode_unverified("proofs", record.value) for slot, record in sorted(case.proofs().items())
        }
        self.verified = 0
        self.fold = self.new_fold()

    def new_fold(self) -> Fold:
        return Fold(self._find, self._verify)

    def _find(self, circuit_id: bytes) -> Circuit:
        if circuit_id != self.case.sound.circuit.id:
            raise VerificationError("not allowed")
        return self.case.sound.circuit

    def _verify(self, circuit: Circuit, proof: bytes, public: tuple[int, ...]) -> Any:
        self.verified += 1
        return self.case.verify(circuit, proof, public)

    def feed(self, steps: int = STEPS, proofs: int = 0, end: bool = False) -> list[Entry]:
        """Start, steps, the first proofs in order, and the end."""
        out: list[Entry] = []
        for event in self.events[: steps + 1] + (self.events[-1:] if end else []):
            out += self.fold.step_event(event)
        for proof in list(self.proofs.values())[:proofs]:
            out += self.fold.proof_event(proof)
        return out

    def step(self, number: int, **changes: Any) -> Opened[Any]:
        """A step signed by its trainer, changed."""
        return self.signed("steps", replace(self.events[number].event, **changes))

    def proof(self, slot: tuple[int, int], **changes: Any) -> Opened[Any]:
        """A proof event signed by its prover, changed."""
        return self.signed("proofs", replace(self.proofs[slot].event, **changes))

    def signed(self, topic: str, event: Any) -> Opened[Any]:
        return decode_unverified(topic, self.case.insider.seal(topic, event))


@pytest.fixture
def world(case: Case) -> World:
    return World(case)


def kinds(entries: list[Entry]) -> list[str]:
    return [f"{e.step}" if isinstance(e, StepProven) else type(e).__name__ for e in entries]


# The rule


def test_a_run_is_opened_at_its_start_and_closed_after_its_last_step(world: World) -> None:
    assert kinds(world.feed(end=True)) == ["RunOpened"]
    assert world.fold.waiting == STEPS
    entries: list[Entry] = []
    for proof in world.proofs.values():
        entries += world.fold.proof_event(proof)
    assert kinds(entries) == ["1", "2", "3", "RunClosed"]
    assert world.fold.waiting == 0


def test_an_entry_says_what_the_topics_say(world: World) -> None:
    entries = world.feed(proofs=2)
    (chain,) = (run.chain for run in world.fold._runs.values())
    ids = [world.proofs[1, s].event_id for s in range(SHARDS)]
    assert entries == [run_opened(chain), step_proven(chain, 1, ids)]
    step = world.events[1]
    roots = (step.event.state_root, step.event.work_root)
    digest = entries[1].proofs_digest
    assert entries[1] == StepProven(chain.run_id, 1, step.event_id, digest, NO_CHALLENGE, *roots)
    with pytest.raises(UsageError, match="not finished"):
        run_closed(chain)


def test_steps_enter_in_order_whatever_the_order_of_their_proofs(world: World) -> None:
    world.feed()
    late_first = [world.proofs[slot] for slot in ((3, 1), (2, 0), (3, 0), (1, 1), (2, 1))]
    assert [world.fold.proof_event(p) for p in late_first] == [[]] * 5
    assert kinds(world.fold.proof_event(world.proofs[1, 0])) == ["1", "2", "3"]


def test_proofs_may_come_before_later_steps(world: World) -> None:
    assert kinds(world.feed(steps=1, proofs=2)) == ["RunOpened", "1"]
    for event in world.events[2:]:
        assert world.fold.step_event(event) == []
    entries = [e for p in list(world.proofs.values())[2:] for e in world.fold.proof_event(p)]
    assert kinds(entries) == ["2", "3", "RunClosed"]


def test_a_run_without_steps_is_closed_at_its_end(world: World, case: Case) -> None:
    start = world.events[0]
    world.fold.step_event(start)
    end = RunFinished(start.event_id, start.event_id, 0, start.event.state_root)
    assert kinds(world.fold.step_event(world.signed("steps", end))) == ["RunClosed"]


def test_a_slot_is_proven_once_by_the_first_proof_that_holds(world: World, case: Case) -> None:
    world.feed(proofs=3)
    twin = world.proof((2, 1), proof=case.sound.twin_proof)
    (entry,) = world.fold.proof_event(twin)
    assert isinstance(entry, StepProven)
    verified = world.verified
    assert world.fold.proof_event(world.proofs[2, 1]) == []
    assert world.fold.proof_event(world.proofs[1, 0]) == []
    assert world.verified == verified, "what is proven already is not verified again"
    honest = step_proven(world.fold._runs[entry.run_id].chain, 2, [world.proofs[2, s].event_id for s in (0, 1)])
    assert entry.proofs_digest != honest.proofs_digest


def test_two_runs_in_one_log_do_not_meet(world: World, case: Case) -> None:
    story = case.story()
    story.edit(RunStarted, nonce=bytes(32))
    told, ids = story.linked()
    world.feed()
    entries = [e for event in told for e in world.fold.step_event(world.signed("steps", event))]
    assert entries == [RunOpened(ids[0])]
    for slot in world.proofs:
        entries += world.fold.proof_event(world.proof(slot, run_id=ids[0]))
    assert kinds(entries) == ["RunOpened", "1", "2", "3", "RunClosed"]
    assert {e.run_id for e in entries} == {ids[0]}
    assert world.fold.waiting == STEPS


# Refusals


def refused(world: World, message: str, act: Callable[[], object]) -> None:
    """``act`` is refused with this message, and the rest of the run goes on as if it had not been."""
    waiting = world.fold.waiting
    with pytest.raises(VerificationError, match=message):
        act()
    assert world.fold.waiting == waiting


def finish(world: World, steps: int = STEPS) -> None:
    """The run comes to its end as it would have without the refusal."""
    entries: list[Entry] = []
    for event in world.events[steps + 1 :]:
        entries += world.fold.step_event(event)
    for proof in world.proofs.values():
        entries += world.fold.proof_event(proof)
    assert isinstance(entries[-1], RunClosed), kinds(entries)


def test_an_unknown_circuit_is_refused(world: World) -> None:
    start = world.signed("steps", replace(world.events[0].event, circuit_id=bytes(32)))
    refused(world, "not allowed", lambda: world.fold.step_event(start))
    refused(world, "no such run", lambda: world.fold.step_event(world.step(1, run_id=start.event_id)))
    world.feed()
    finish(world)


def test_a_start_that_declares_what_cannot_be_is_refused(world: World) -> None:
    start = world.signed("steps", declared(world.events[0].event, hyper=()))
    refused(world, "declares what cannot be", lambda: world.fold.step_event(start))


def test_a_second_start_is_refused(world: World) -> None:
    world.feed()
    refused(world, "started twice", lambda: world.fold.step_event(world.events[0]))
    finish(world)


def test_a_step_of_no_run_is_refused(world: World) -> None:
    refused(world, "no such run", lambda: world.fold.step_event(world.events[1]))


def test_a_gap_is_refused(world: World) -> None:
    world.feed(steps=1)
    refused(world, "leaves a gap", lambda: world.fold.step_event(world.events[3]))
    finish(world, steps=1)


def test_a_fork_is_refused(world: World) -> None:
    world.feed(steps=2)
    refused(world, "forks the chain", lambda: world.fold.step_event(world.step(2, limited=9)))
    finish(world, steps=2)


def test_a_repeat_is_refused(world: World) -> None:
    world.feed(steps=2)
    refused(world, "repeated", lambda: world.fold.step_event(world.events[2]))
    finish(world, steps=2)


def test_another_trainers_step_is_refused(world: World) -> None:
    world.feed(steps=1)
    other = decode_unverified("steps", seal("steps", world.events[2].event, new_signing_key()))
    refused(world, "another key", lambda: world.fold.step_event(other))
    finish(world, steps=1)


def test_integers_off_their_schedule_are_refused_and_so_is_what_follows(world: World) -> None:
    world.feed(steps=1)
    public = list(world.events[2].event.public)
    public[4] += 2
    bad = world.step(2, public=tuple(public))
    refused(world, "A is .* expected", lambda: world.fold.step_event(bad))
    follower = world.step(3, previous=bad.event_id)
    refused(world, "leaves a gap", lambda: world.fold.step_event(follower))
    finish(world, steps=1)


def test_a_rate_off_the_schedule_is_refused(world: World) -> None:
    world.feed(steps=1)
    refused(world, "learning rate", lambda: world.fold.step_event(world.step(2, rates=(HOT_LR,))))
    finish(world, steps=1)


def test_an_end_that_lies_is_refused(world: World) -> None:
    world.feed()
    lie = world.signed("steps", replace(world.events[-1].event, steps=2))
    refused(world, "names 2 steps", lambda: world.fold.step_event(lie))
    finish(world)


def test_a_proof_of_no_run_is_refused(world: World) -> None:
    refused(world, "no such run", lambda: world.fold.proof_event(world.proofs[1, 0]))
    assert world.verified == 0


def test_a_proof_of_a_step_that_is_not_there_is_refused_before_it_is_verified(world: World) -> None:
    world.feed(steps=1)
    refused(world, "1 steps are committed", lambda: world.fold.proof_event(world.proofs[2, 0]))
    assert world.verified == 0


@pytest.mark.parametrize("shard", [2, 100, (1 << 20) - 1])
def test_a_proof_of_a_shard_that_is_not_there_is_refused(world: World, shard: int) -> None:
    world.feed()
    refused(world, "no such step or shard", lambda: world.fold.proof_event(world.proof((1, 0), shard=shard)))
    finish(world)


def test_an_invalid_proof_is_refused(world: World) -> None:
    world.feed()
    bad = flipped(world.proofs[1, 0].event.proof, 3000)
    refused(world, "refused by the verifier", lambda: world.fold.proof_event(world.proof((1, 0), proof=bad)))
    finish(world)


def test_a_proof_with_other_integers_is_refused(world: World, case: Case) -> None:
    world.feed()
    hot = world.proof((3, 0), proof=case.sound.hot_proofs[0])
    refused(world, "other public integers", lambda: world.fold.proof_event(hot))
    finish(world)


def test_a_valid_proof_in_another_place_is_refused(world: World, case: Case) -> None:
    world.feed()
    for bad, what in (
        (world.proof((2, 0), shard=1), "state before"),
        (world.proof((1, 0), proof=case.sound.foreign_proof), "state before"),
        (world.proof((1, 0), post_path=()), "state after"),
        (world.proof((1, 0), work_path=(bytes(32),)), "gradient"),
        (world.proof((1, 0), circuit_id=bytes(32)), "another run, circuit"),
    ):
        refused(world, what, lambda bad=bad: world.fold.proof_event(bad))  # type: ignore[misc]
    finish(world)


def test_a_proof_by_another_system_is_refused(world: World) -> None:
    world.feed()
    bad = world.proof((1, 0), proof_system="another-1")
    refused(world, "proof system", lambda: world.fold.proof_event(bad))
    finish(world)


# Going on


@pytest.mark.parametrize("entered", range(6))
def test_a_fold_that_takes_over_goes_on_where_the_log_ends(world: World, entered: int) -> None:
    whole = world.feed(proofs=6, end=True)
    assert len(whole) == 5
    world.fold = world.new_fold()
    for entry in whole[:entered]:
        world.fold.replay(entry)
    assert world.feed(proofs=6, end=True) == whole[entered:]


def test_a_fold_that_takes_over_does_not_verify_again_what_has_entered(world: World) -> None:
    whole = world.feed(proofs=6)
    world.fold, world.verified = world.new_fold(), 0
    for entry in whole[:3]:
        world.fold.replay(entry)
    world.feed(proofs=6)
    assert world.verified == SHARDS


def test_a_fold_that_takes_over_refuses_again_what_was_refused(world: World) -> None:
    world.fold.replay(RunOpened(world.events[0].event_id))
    assert world.feed(steps=2) == []
    refused(world, "forks the chain", lambda: world.fold.step_event(world.step(2, limited=9)))


def test_entries_of_runs_whose_start_is_not_seen_are_kept_apart(world: World) -> None:
    world.fold.replay(RunOpened(bytes(32)))
    world.fold.replay(StepProven(bytes(32), 7, *(bytes(32),) * 5))
    assert kinds(world.feed(proofs=6, end=True)) == ["RunOpened", "1", "2", "3", "RunClosed"]


def test_a_proof_is_about_its_own_step(world: World) -> None:
    assert all(isinstance(p.event, ProofAttached) and p.event.step == step for (step, _), p in world.proofs.items())
    assert [e.event.step for e in world.events if isinstance(e.event, StepCommitted)] == [1, 2, 3]


# Epochs


@pytest.fixture
def epochs(case: Case) -> World:
    """The same run, in epochs of two steps."""
    story = case.story()
    story.edit(RunStarted, epoch_steps=2)
    case.retell(story)
    return World(case)


def test_an_epoch_is_closed_with_its_last_step_and_a_short_one_with_the_run(epochs: World) -> None:
    entries = epochs.feed(proofs=STEPS * SHARDS, end=True)
    assert kinds(entries) == ["RunOpened", "1", "2", "EpochClosed", "3", "EpochClosed", "RunClosed"]
    one, two = (e for e in entries if isinstance(e, EpochClosed))
    steps = [o.event for o in epochs.events[1:-1]]
    assert (one.epoch, one.first_step, one.last_step, two.epoch, two.first_step, two.last_step) == (1, 1, 2, 2, 3, 3)
    assert (one.before, one.after) == (epochs.events[0].event.state_root, steps[1].state_root)
    assert (two.before, two.after) == (one.after, steps[2].state_root)
    assert one.entries_root == root([leaf_data(e) for e in entries[1:3]])
    assert two.entries_root == root([leaf_data(entries[4])])


def test_a_short_epoch_waits_for_the_runs_end(epochs: World) -> None:
    entries = epochs.feed(proofs=STEPS * SHARDS)
    assert kinds(entries)[-1] == "3"
    assert kinds(epochs.fold.step_event(epochs.events[-1])) == ["EpochClosed", "RunClosed"]


@pytest.mark.parametrize("there", range(8))
def test_a_restart_anywhere_closes_the_same_epochs(epochs: World, there: int) -> None:
    whole = epochs.feed(proofs=STEPS * SHARDS, end=True)
    epochs.fold = epochs.new_fold()
    for entry in whole[:there]:
        epochs.fold.replay(entry)
    assert whole[:there] + epochs.feed(proofs=STEPS * SHARDS, end=True) == whole
