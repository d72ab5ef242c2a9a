"""A ledger's snapshot: where it was, signed by its own key, so that a restart need not read the log from the beginning.

It holds no more than what the topics say, and can be thrown away at any time. It counts only if this ledger signed it,
for this origin and policy, and the topics still go on from its checkpoint; in any other case all is read anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.checkpoint import verify_checkpoint
from ledger.fold import Fold
from ledger.fold_state import OpenEvent, frontier, put_down, put_down_order, take_up, take_up_order, taken_frontier
from ledger.frontier import Frontier
from ledger.note import VerifierKey
from ledger.order import Order
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.eventlog.base import TopicPartition
from zk_autograd.files import read_capped
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import SigningKey, verify_signature, write_private

MAX_BYTES = 256 << 20
_DOMAIN = b"zk-autograd/ledger-snapshot/v1\0"


@dataclass
class Snapshot:
    """Where a ledger was.

    Attributes:
        note: its newest checkpoint.
        before: the tree of that size.
        order: of the entries so far.
        next: per topic and partition, the first offset that was not read.
        introductions: the sealed introductions of the keys that it knew.
        fold: the fold's state.
    """

    note: str
    before: Frontier
    order: Order
    next: dict[TopicPartition, int]
    introductions: list[bytes]
    fold: dict[str, Any] = field(default_factory=dict)


def path_of(folder: Path, origin: str, url: str) -> Path:
    """Where the snapshot of a ledger over an event log is kept."""
    name = hashlib.sha256("\n".join((origin, url)).encode()).hexdigest()[:16]
    return folder / f"ledger-{name}.snapshot"


def save(path: Path, snapshot: Snapshot, fold: Fold, key: SigningKey, origin: str, policy: Policy) -> int:
    """Signs and writes a snapshot of ``fold``; returns its size in bytes.

    Raises:
        UsageError: it cannot be written, or is over MAX_BYTES: the one before stays.
    """
    body = _canonical(
        {
            "origin": origin,
            "policy": _digest(policy),
            "note": snapshot.note,
            "before": frontier(snapshot.before),
            "order": put_down_order(snapshot.order),
            "next": {f"{topic}/{partition}": offset for (topic, partition), offset in snapshot.next.items()},
            "introductions": [base64.b64encode(value).decode() for value in snapshot.introductions],
            "fold": put_down(fold),
        }
    )
    if len(body) > MAX_BYTES:
        raise UsageError(f"snapshot: {len(body)} bytes, expected at most {MAX_BYTES}; a restart reads all of the log")
    write_private(path, key.sign(_DOMAIN + body) + body, replace=True)
    return len(body)


def load(path: Path, key: SigningKey, origin: str, policy: Policy) -> Snapshot | None:
    """The snapshot in a file; None if there is none.

    Raises:
        DecodeError, VerificationError, UsageError: it is not this ledger's, or not for this policy.
    """
    try:
        data = read_capped(path, MAX_BYTES + 64)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"snapshot {path}: cannot be read: {error.strerror}") from None
    signature, body = data[:64], data[64:]
    # Nothing is looked at that this ledger did not write.
    verify_signature(key.public_key, signature, _DOMAIN + body)
    try:
        state = json.loads(body)
        if _canonical(state) != body:
            raise DecodeError("snapshot: not in its one encoding")
        if (state["origin"], state["policy"]) != (origin, _digest(policy)):
            raise VerificationError("snapshot: of another origin or policy")
        places = (place.rsplit("/", 1) for place in state["next"])
        found = Snapshot(
            state["note"],
            taken_frontier(state["before"]),
            take_up_order(state["order"]),
            {(topic, int(n)): int(state["next"][f"{topic}/{n}"]) for topic, n in places},
            [base64.b64decode(value, validate=True) for value in state["introductions"]],
            state["fold"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"snapshot: {type(error).__name__}: not one of this version") from None
    head = verify_checkpoint(found.note, origin, [VerifierKey(origin, key.public_key)])
    if (head.size, head.root) != (found.before.size, found.before.root()):
        raise VerificationError("snapshot: its tree is not that of its checkpoint")
    return found


def resume(snapshot: Snapshot, fold: Fold, open_event: OpenEvent) -> None:
    """Brings a new fold to where the snapshot's was; raises as :func:`ledger.fold_state.take_up`."""
    take_up(fold, snapshot.fold, open_event)
    if snapshot.fold["size"] != snapshot.before.size:
        raise DecodeError("snapshot: its fold is not that of its checkpoint")


def _canonical(state: dict[str, Any]) -> bytes:
    return json.dumps(state, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _digest(policy: Policy) -> str:
    return hashlib.sha256(policy.to_json().encode()).hexdigest()
