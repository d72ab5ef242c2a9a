"""A fold that was put down and taken up goes on as if it had not been; and holds no more the longer a run is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bench.fold import _run as long_run
from ledger import fold as folds
from ledger.entries import Entry
from ledger.fold import Fold
from ledger.fold_state import put_down, put_down_order, take_up, take_up_order
from ledger.order import Order
from schemas.events import RunStarted
from schemas.signing import Opened, decode_unverified, open_signed
from tests.consumers.test_fold import World, epochs, world
from tests.support.forge import Case
from tests.support.sound_run import SHARDS, STEPS
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.proofs.base import POINT_BYTES, Commitments
from zk_autograd.tee.keys import new_signing_key

__all__ = ["epochs", "world"]


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


def again(world: World, fold: Fold) -> Fold:
    """The fold, put down and taken up."""
    found = world.new_fold()
    take_up(found, through_json(put_down(fold)), lambda value: decode_unverified("steps", value))
    assert put_down(found) == put_down(fold)
    return found


def fed(world: World, restart: bool) -> Iterator[list[Entry]]:
    for event in [*world.events[:-1], *world.proofs.values(), world.events[-1]]:
        is_proof = not hasattr(event.event, "state_root") and hasattr(event.event, "proof")
        yield world.fold.proof_event(event) if is_proof else world.fold.step_event(event)  # type: ignore[arg-type]
        if restart:
            world.fold = again(world, world.fold)


@pytest.mark.parametrize("kind", ["plain", "epochs"])
def test_a_fold_that_is_put_down_after_every_event_gives_the_same_entries(
    request: pytest.FixtureRequest, kind: str
) -> None:
    one: World = request.getfixturevalue("world" if kind == "plain" else "epochs")
    whole = [entry for entries in fed(one, False) for entry in entries]
    one.fold = one.new_fold()
    assert [entry for entries in fed(one, True) for entry in entries] == whole
    assert len(whole) == STEPS + 2 + (2 if kind == "epochs" else 0)


def test_a_fold_that_was_taken_up_refuses_what_was_there_before(world: World) -> None:
    world.feed(proofs=STEPS * SHARDS - 1)
    world.fold = again(world, world.fold)
    for event in (world.events[0], world.events[1], world.events[2]):
        with pytest.raises(VerificationError, match=r"started twice|repeated"):
            world.fold.step_event(event)
    assert world.fold.proof_event(next(iter(world.proofs.values()))) == []
    world.fold.proof_event(list(world.proofs.values())[-1])
    world.fold.step_event(world.events[-1])
    world.fold = again(world, world.fold)
    with pytest.raises(VerificationError, match="comes after the run's end"):
        world.fold.step_event(world.events[1])
    with pytest.raises(VerificationError, match="started twice"):
        world.fold.step_event(world.events[0])


def test_entries_that_came_after_the_fold_was_put_down_are_replayed(world: World) -> None:
    """A snapshot may be older than the log."""
    world.feed()
    entries: list[Entry] = []
    old = put_down(world.fold)
    for proof in world.proofs.values():
        entries += world.fold.proof_event(proof)
    found = world.new_fold()
    take_up(found, through_json(old), lambda value: decode_unverified("steps", value))
    for entry in entries[:2]:
        found.replay(entry)
    world.fold, before = found, world.verified
    assert [e for proof in world.proofs.values() for e in found.proof_event(proof)] == entries[2:]
    assert world.verified - before == SHARDS, "what has entered is not verified again"


def test_a_state_that_is_none_is_refused(world: World) -> None:
    world.feed(proofs=3)
    state = put_down(world.fold)

    def opened(value: bytes) -> Opened[Any]:
        return decode_unverified("steps", value)

    for change in (
        {"size": "x"}, {"runs": 7}, {"runs": [{}]}, {"ended": {"zz": ["00", 1]}}, {"beacons": {"a": 1}},
        {"runs": [state["runs"][0] | {"epoch": [3, []]}]}, {"runs": [state["runs"][0] | {"start": "AAAA"}]},
        {"runs": [state["runs"][0] | {"start": state["runs"][0]["steps"][0]}]},
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            take_up(world.new_fold(), through_json(state | change), opened)
    with pytest.raises(DecodeError):
        take_up_order({"open": {"00": [1]}, "closed": []})


def test_a_circuit_that_is_not_allowed_any_more_is_refused_with_its_runs(world: World) -> None:
    world.feed()

    def refuse(_: bytes) -> Any:
        raise VerificationError("not allowed")

    with pytest.raises(VerificationError, match="not allowed"):
        take_up(Fold(refuse, world._verify), put_down(world.fold), lambda value: decode_unverified("steps", value))


def test_a_long_run_takes_no_more_memory_than_a_short_one(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what entered only a window is kept, in memory and in the state."""
    monkeypatch.setattr(folds, "KEPT", 5)
    circuit, key, count = case.sound.circuit, new_signing_key(), 60

    def places(_circuit: object, body: bytes, _public: object) -> Commitments:
        return Commitments(*(body[i : i + POINT_BYTES] for i in range(0, 4 * POINT_BYTES, POINT_BYTES)))

    events, proofs = long_run(circuit, key, count)
    keys = {key.key_id: key.public_key}
    fold = Fold(lambda _: circuit, places)
    start, *steps = (open_signed("steps", value, keys) for value in events)
    assert isinstance(start.event, RunStarted)
    fold.step_event(start)  # type: ignore[arg-type]
    sizes, entered = [], 0
    for step, proof in zip(steps, proofs, strict=True):
        fold.step_event(step)  # type: ignore[arg-type]
        entered += len(fold.proof_event(open_signed("proofs", proof, keys)))  # type: ignore[arg-type]
        (run,) = fold._runs.values()
        assert len(run.chain.steps) == entered
        assert len(run.chain.steps.kept) <= 6
        sizes.append(len(json.dumps(put_down(fold))))
    assert entered == count
    assert max(sizes[10:]) - min(sizes[10:]) < 200
    with pytest.raises(VerificationError, match="repeated, or forks the chain: this step entered long ago"):
        fold.step_event(steps[3])  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match=r"repeated$"):
        fold.step_event(steps[-2])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="step 1: expected one of"):
        run.chain.steps[0]


def test_an_order_that_is_put_down_goes_on(world: World) -> None:
    entries = world.feed(proofs=STEPS * SHARDS, end=True)
    order = Order()
    for entry in entries:
        order = take_up_order(through_json(put_down_order(order)))
        assert not order.repeats(entry)
        order.take(entry)
        assert order.repeats(entry)
    with pytest.raises(VerificationError, match="in the log already"):
        order.take(entries[0])
