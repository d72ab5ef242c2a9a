"""A fold put down as plain values, and taken up again: what a ledger needs to go on without reading its log anew. Pure.

Events are put down as they were signed, and are opened again by the reader. What cannot be computed from them is
how far each run has come. Nothing in here is for strangers: whoever keeps it signs it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from ledger.chain import RunChain
from ledger.fold import Ended, Fold, _Replayed, _Run
from ledger.frontier import Frontier
from ledger.order import Order
from ledger.order import _Run as _Place
from ledger.sampling import Beacon
from ledger.steps import Steps
from schemas.codec import encode
from schemas.events import Event, RunFinished, RunStarted, Signed, StepCommitted
from schemas.signing import Opened
from zk_autograd.errors import DecodeError

State: TypeAlias = dict[str, Any]
"""Of strings, integers, booleans, lists and dictionaries by string: what JSON can say."""
OpenEvent: TypeAlias = Callable[[bytes], Opened[Event]]
E = TypeVar("E", bound=Event)


def put_down(fold: Fold) -> State:
    """The fold's state."""
    return {
        "size": fold._size,
        "sampled": fold._sampled,
        "runs": [_run(run) for run in fold._runs.values()],
        "ended": {run.hex(): [ended.key_id.hex(), ended.steps] for run, ended in fold._ended.items()},
        "replayed": {
            run_id.hex(): {
                "entered": run.entered, "closed": run.closed, "epoch": frontier(run.epoch),
                "leaves": _numbered(run.leaves),
            }
            for run_id, run in fold._replayed.items()
        },
        "beacons": {
            name: [beacon._sizes, [drawn.hex() for drawn in beacon._drawn]] for name, beacon in fold._beacons.items()
        },
    }  # fmt: skip


def take_up(fold: Fold, state: State, open_event: OpenEvent) -> None:
    """Brings a new fold to a state.

    Args:
        fold: new, for the circuits and beacons that are allowed now.
        state: as :func:`put_down` gave it.
        open_event: opens a sealed event of the topic ``steps``; raises a ZkAutogradError.

    Raises:
        DecodeError: not such a state.
        VerificationError, UsageError: an event of it, or a circuit, does not hold now.
    """
    try:
        fold._size, fold._sampled = int(state["size"]), bool(state["sampled"])
        for each in state["runs"]:
            run = _taken_up(fold, each, open_event)
            fold._runs[run.chain.run_id] = run
        for name, (key_id, steps) in state["ended"].items():
            fold._ended[bytes.fromhex(name)] = Ended(bytes.fromhex(key_id), int(steps))
        for name, was in state["replayed"].items():
            fold._replayed[bytes.fromhex(name)] = _Replayed(
                int(was["entered"]), bool(was["closed"]), taken_frontier(was["epoch"]), _by_number(was["leaves"])
            )
        for name, (sizes, drawn) in state["beacons"].items():
            beacon = Beacon(name)
            beacon._sizes, beacon._drawn = [int(size) for size in sizes], [bytes.fromhex(each) for each in drawn]
            fold._beacons[name] = beacon
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"not the state of a fold: {type(error).__name__}") from None


def _run(run: _Run) -> State:
    chain = run.chain
    # The last step that entered is kept: an epoch may yet close with it.
    forgotten = max(chain.steps.forgotten, min(run.entered, len(chain.steps)) - 1, 0)
    base = run.entered - run.epoch.size
    return {
        "start": _sealed(chain.opened),
        "forgotten": forgotten,
        "roots": {str(n): chain.state_root(n).hex() for n in {forgotten, base} if 0 < n <= forgotten},
        "changes": [_sealed(opened) for opened in chain.changes if opened.event.step <= forgotten],
        "steps": [_sealed(chain.steps[i]) for i in range(forgotten, len(chain.steps))],
        "finished": _sealed(chain.finished) if chain.finished else "",
        "entered": run.entered,
        "closed": run.closed,
        "epoch": frontier(run.epoch),
        "proofs": {str(n): {str(s): p.hex() for s, p in proofs.items()} for n, proofs in run.proofs.items()},
        "leaves": _numbered(run.leaves),
    }


def _taken_up(fold: Fold, state: State, open_event: OpenEvent) -> _Run:
    def opened(sealed: str, kind: type[E]) -> Opened[E]:
        found = open_event(base64.b64decode(sealed, validate=True))
        if not isinstance(found.event, kind):
            raise DecodeError(f"not the state of a fold: expected a {kind.__name__}")
        return found  # type: ignore[return-value]

    def steps(sealed: Sequence[str]) -> list[Opened[StepCommitted]]:
        return [opened(each, StepCommitted) for each in sealed]

    start = opened(state["start"], RunStarted)
    chain = RunChain(start, fold._find(start.event.circuit_id))
    if chain.start.sampled:
        fold._check_beacon(chain.start.beacon)
    roots = {int(n): bytes.fromhex(root) for n, root in state["roots"].items()}
    chain.resume(Steps(int(state["forgotten"]), roots), steps(state["changes"]), steps(state["steps"]))
    if state["finished"]:
        chain.append(opened(state["finished"], RunFinished))
    proofs = {int(n): {int(s): bytes.fromhex(p) for s, p in each.items()} for n, each in state["proofs"].items()}
    return _Run(
        chain, int(state["entered"]), bool(state["closed"]), proofs, taken_frontier(state["epoch"]),
        _by_number(state["leaves"]),
    )  # fmt: skip


def put_down_order(order: Order) -> State:
    """The state of an order."""
    return {
        "open": {name.hex(): [r.recorded, r.entered, r.epoch, r.closed_to] for name, r in order._open.items()},
        "closed": [name.hex() for name in sorted(order._closed)],
    }


def take_up_order(state: State) -> Order:
    """The order of a state; DecodeError if it is none."""
    order = Order()
    try:
        for name, numbers in state["open"].items():
            recorded, entered, epoch, closed_to = (int(n) for n in numbers)
            order._open[bytes.fromhex(name)] = _Place(recorded, entered, epoch, closed_to)
        order._closed.update(bytes.fromhex(name) for name in state["closed"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"not the state of an order: {type(error).__name__}") from None
    return order


def frontier(tree: Frontier) -> list[Any]:
    """Size and subtrees."""
    return [tree.size, [node.hex() for node in tree.subtrees]]


def taken_frontier(state: Any) -> Frontier:
    """What :func:`frontier` gave."""
    size, subtrees = state
    return Frontier(int(size), [bytes.fromhex(node) for node in subtrees])


def _sealed(opened: Opened[Any]) -> str:
    return base64.b64encode(encode(Signed(opened.body, opened.key_id, opened.signature))).decode()


def _numbered(leaves: dict[int, int]) -> dict[str, int]:
    return {str(step): leaf for step, leaf in leaves.items()}


def _by_number(leaves: dict[str, int]) -> dict[int, int]:
    return {int(step): int(leaf) for step, leaf in leaves.items()}
