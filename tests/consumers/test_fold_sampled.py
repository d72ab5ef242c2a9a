"""The ledger's rule for sampled runs: record, draw, prove; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ledger.entries import Entry, leaf_data, proofs_digest
from ledger.fold import Fold
from ledger.sampling import challenge, draw
from ledger.tree import Tree
from schemas.events import ProofAttached, RunClosed, RunFinished, RunStarted, StepCommitted, StepProven, StepRecorded
from schemas.signing import Opened, decode_unverified
from tests.support.forge import Case, flipped
from tests.support.sampled import COUNT, SHARDS, STEPS, Teller
from zk_autograd.errors import VerificationError
from zk_autograd.proofs.base import Circuit


@dataclass(frozen=True)
class Facts:
    anchor: str
    counter: int
    size: int
    root: bytes
    randomness: bytes | None


class World:
    """A fold, the sampled run's events and proofs, and a beacon that a test raises as it likes."""

    def __init__(self, case: Case) -> None:
        self.case, self.told = case, Teller(case)
        kinds = RunStarted | StepCommitted | RunFinished
        self.events = [o for _, o in case.log.opened("steps") if isinstance(o.event, kinds)]
        self.start: RunStarted = self.events[0].event  # type: ignore[assignment]
        opened = [decode_unverified("proofs", record.value) for record in case.log.records("proofs")]
        self.proofs: dict[int, Opened[Any]] = {o.event.step: o for o in opened if isinstance(o.event, ProofAttached)}
        self.entries: list[Entry] = []
        self.receipts: list[Facts] = []
        self.fold = self.new_fold()

    def new_fold(self) -> Fold:
        return Fold(lambda _: self.case.sound.circuit, self._verify, lambda _: None)

    def _verify(self, circuit: Circuit, proof: bytes, public: tuple[int, ...]) -> Any:
        return self.case.verify(circuit, proof, public)

    def feed(self, *events: Opened[Any]) -> list[Entry]:
        out: list[Entry] = []
        for event in events:
            out += (
                self.fold.proof_event(event) if isinstance(event.event, ProofAttached) else self.fold.step_event(event)
            )
        self.entries += out
        return out

    def raise_beacon(self, randomness: bytes | None = None, size: int | None = None) -> None:
        """A receipt for the entries so far; unless told otherwise, one that draws the shards that are proven."""
        leaves = {e.step: i for i, e in enumerate(self.entries) if isinstance(e, StepRecorded)}
        proven = max((e.step for e in self.entries if isinstance(e, StepProven)), default=0)
        tree = Tree(leaf_data(e) for e in self.entries)
        at = tree.size if size is None else size
        covered = max((r.size for r in self.receipts), default=0)
        fresh = [s for s, leaf in leaves.items() if covered <= leaf < at and s > proven]
        facts = Facts(
            self.start.beacon, len(self.receipts) + 1, at, tree.root_at(at), randomness or self.told.luck(fresh)
        )
        self.fold.receipt(facts)
        self.receipts.append(facts)

    def proof(self, step: int, **changes: Any) -> Opened[Any]:
        event = replace(self.proofs[step].event, **changes)
        return decode_unverified("proofs", self.case.insider.seal("proofs", event))


@pytest.fixture
def world(sampled_case: Case) -> World:
    return World(sampled_case)


def kinds(entries: list[Entry]) -> list[str]:
    marks = {StepRecorded: "r", StepProven: "p"}
    return [
        f"{marks[type(e)]}{e.step}" if isinstance(e, StepRecorded | StepProven) else type(e).__name__ for e in entries
    ]


def refused(world: World, message: str, act: Callable[[], object]) -> None:
    waiting = world.fold.waiting
    with pytest.raises(VerificationError, match=message):
        act()
    assert world.fold.waiting == waiting


def finish(world: World) -> None:
    """The run comes to its end."""
    fed: list[Entry] = []
    for step in range(1, STEPS + 1):
        world.raise_beacon()
        fed += world.feed(world.proofs[step])
    assert isinstance(world.entries[-1], RunClosed), kinds(world.entries)


# The rule


def test_steps_are_recorded_as_far_as_the_window_goes_then_drawn_then_proven(world: World) -> None:
    assert kinds(world.feed(*world.events)) == ["RunOpened", "r1", "r2"]
    world.raise_beacon()
    assert kinds(world.feed(world.proofs[2])) == []
    assert kinds(world.feed(world.proofs[1])) == ["p1", "r3", "p2"]
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[3]))
    world.raise_beacon()
    assert kinds(world.feed(world.proofs[3])) == ["p3", "RunClosed"]


def test_an_entry_names_what_drew_it(world: World) -> None:
    world.feed(*world.events)
    world.raise_beacon()
    entries = world.feed(world.proofs[1])
    step, proven = world.events[1], entries[0]
    assert isinstance(proven, StepProven)
    randomness = world.receipts[0].randomness
    assert randomness is not None
    assert proven.challenge == challenge(randomness, step.event.run_id, 1, step.event_id)
    assert draw(proven.challenge, COUNT, SHARDS) == (world.proofs[1].event.shard,)
    assert proven.proofs_digest == proofs_digest([world.proofs[1].event_id])
    assert world.entries[1] == StepRecorded(step.event.run_id, 1, step.event_id)


def test_only_the_first_receipt_that_covers_the_record_draws(world: World) -> None:
    """The second would have drawn what is proven; the first does not."""
    world.feed(*world.events)
    world.raise_beacon(world.told.luck([1, 2], miss=True))
    world.raise_beacon(world.told.luck([1, 2]))
    refused(world, "not one of the shards that were drawn", lambda: world.feed(world.proofs[1]))


def test_a_receipt_that_does_not_cover_the_record_draws_nothing(world: World) -> None:
    world.feed(*world.events)
    world.raise_beacon(world.told.luck([1]), size=1)
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[1]))
    world.raise_beacon(size=2)
    assert kinds(world.feed(world.proofs[1])) == ["p1", "r3"]
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[2]))


def test_another_anchors_receipts_draw_nothing(world: World) -> None:
    world.feed(*world.events)
    world.fold.receipt(Facts("file:" + "0" * 64, 1, 3, bytes(32), world.told.luck([1, 2])))
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[1]))
    finish(world)


def test_a_hidden_receipt_stops_its_beacon(world: World) -> None:
    world.feed(*world.events)
    later = Facts(world.start.beacon, 2, 3, bytes(32), world.told.luck([1, 2]))
    with pytest.raises(VerificationError, match="is hidden"):
        world.fold.receipt(later)
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[1]))
    finish(world)


def test_proofs_of_other_shards_are_refused_and_not_even_verified(world: World) -> None:
    world.feed(*world.events)
    world.raise_beacon()
    other = (world.proofs[1].event.shard + 1) % SHARDS
    refused(world, "not one of the shards that were drawn", lambda: world.feed(world.proof(1, shard=other, proof=b"")))
    finish(world)


def test_a_proof_of_a_step_beyond_the_window_is_refused(world: World) -> None:
    world.feed(*world.events)
    world.raise_beacon()
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[3]))
    finish(world)


def test_a_drawn_shards_proof_must_hold_like_any_other(world: World) -> None:
    world.feed(*world.events)
    world.raise_beacon()
    good = world.proofs[1].event.proof
    bad = flipped(good, len(good) - 1)
    refused(world, "verif", lambda: world.feed(world.proof(1, proof=bad)))
    moved = world.told.luck([])  # any draw
    assert moved
    finish(world)


def test_a_beacon_that_may_not_draw_is_refused_with_its_run(world: World) -> None:
    def check(identity: str) -> None:
        raise VerificationError(f"not {identity}")

    world.fold = Fold(lambda _: world.case.sound.circuit, world._verify, check)
    refused(world, "not file:", lambda: world.feed(world.events[0]))
    world.fold = Fold(lambda _: world.case.sound.circuit, world._verify)
    refused(world, "takes no sampled runs", lambda: world.feed(world.events[0]))
    assert not world.fold.draws
    refused(world, "no such run", lambda: world.feed(world.events[1]))


def test_steps_that_come_one_by_one_are_recorded_one_by_one(world: World) -> None:
    assert kinds(world.feed(world.events[0])) == ["RunOpened"]
    assert world.fold.draws
    for step in range(1, STEPS + 1):
        assert kinds(world.feed(world.events[step])) == [f"r{step}"]
        world.raise_beacon()
        assert kinds(world.feed(world.proofs[step])) == [f"p{step}"]
    assert kinds(world.feed(world.events[-1])) == ["RunClosed"]


# Going on


def whole(world: World) -> list[Any]:
    """Everything that happens, in an order that an honest log allows."""
    return [*world.events, None, world.proofs[1], None, world.proofs[2], None, world.proofs[3], None]


@pytest.mark.parametrize("at", range(13))
def test_a_fold_that_takes_over_goes_on_where_the_log_ends(world: World, at: int) -> None:
    """Wherever it is stopped: a new one replays the entries, reads everything again, and nothing is said twice."""
    for number, happening in enumerate(whole(world)):
        if number == at:
            world.fold = world.new_fold()
            for entry in world.entries:
                world.fold.replay(entry)
            said = len(world.entries)
            for earlier in whole(world)[:at]:  # steps first, then receipts, then proofs: as a runner reads
                if earlier is not None and not isinstance(earlier.event, ProofAttached):
                    assert world.feed(earlier) == []
            for facts in world.receipts:
                world.fold.receipt(facts)
            for earlier in whole(world)[:at]:
                if earlier is not None and isinstance(earlier.event, ProofAttached):
                    assert world.feed(earlier) == []
            assert len(world.entries) == said
        if happening is None:
            world.raise_beacon()
        else:
            world.feed(happening)
    assert kinds(world.entries) == ["RunOpened", "r1", "r2", "p1", "r3", "p2", "p3", "RunClosed"]


def test_entries_of_other_runs_move_the_leaves(world: World) -> None:
    """The place of a record in the log is what a receipt has to cover, whoever else is in there."""
    for entry in [*world.entries, *[StepProven(bytes(32), 1, *(bytes(32),) * 5)] * 5]:
        world.fold.replay(entry)
    world.feed(*world.events)
    world.fold.receipt(Facts(world.start.beacon, 1, 6, bytes(32), world.told.luck([1])))
    refused(world, "before its step's shards were drawn", lambda: world.feed(world.proofs[1]))
    world.fold.receipt(Facts(world.start.beacon, 2, 7, bytes(32), world.told.luck([1])))
    assert kinds(world.feed(world.proofs[1])) == ["p1", "r3"]
