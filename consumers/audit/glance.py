"""A run's steps and proofs at a glance: what a record is, if there is nothing unusual about it.

A glance needs no more than some records' bytes, the keys that may sign there and the run's id, so another process can
take it, and gives back a few numbers. A record that does not decode, of another kind, by a key that may not sign there
or with a signature that does not hold is unusual, and then judged by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from schemas.events import Event, ProofAttached, RunFinished, StepCommitted
from schemas.signing import Opened, decode_unverified, verify_body
from zk_autograd.errors import DecodeError, VerificationError

Linked: TypeAlias = StepCommitted | RunFinished
"""What names the event before it."""

OfRun: TypeAlias = Linked | ProofAttached
"""Events that name the run that they are of."""

END = 1 << 62
"""Stands for the number of a step where the run ends."""

Seen: TypeAlias = tuple[int, int, bytes, bytes]
"""Step (or :data:`END`), shard (0 but for proofs), the signer's key id, the event's id."""

Glance: TypeAlias = Seen | Literal[False] | None
"""What a record is; False: another run's; None: something unusual."""

Named: TypeAlias = set[tuple[bytes, bytes]]
"""Keys, and ids of events that were named under them."""


def seen(opened: Opened[Event]) -> Seen:
    """What is kept of an event that was accepted."""
    event = opened.event
    step = event.step if isinstance(event, StepCommitted | ProofAttached) else END
    return step, event.shard if isinstance(event, ProofAttached) else 0, opened.key_id, opened.event_id


def glance(
    topic: str, values: Sequence[bytes], keys: Mapping[bytes, bytes], run_id: bytes, chained: bool
) -> list[Glance]:  # fmt: skip
    """What each of these records, in their order, is.

    Args:
        keys: by id the public keys that may sign on the topic.
        chained: take a step that a later one of these names, under the same key, without looking at its signature, and
            any proof (it is settled with the ledger's entries).
    """
    found: list[Glance] = []
    named = Named()
    for value in reversed(values):  # what names comes after what it names
        found.append(_glance(topic, value, keys, run_id, named if chained else None))
    return found[::-1]


def _glance(
    topic: str, value: bytes, keys: Mapping[bytes, bytes], run_id: bytes, named: Named | None
) -> Glance:  # fmt: skip
    try:
        claimed = decode_unverified(topic, value)
    except DecodeError:
        return None
    event, key = claimed.event, keys.get(claimed.key_id)
    if not isinstance(event, OfRun):
        return None
    if event.run_id != run_id:
        return False
    if key is None:
        return None
    if not _is_named(claimed, named):
        try:
            verify_body(topic, claimed.body, claimed.signature, key)
        except VerificationError:
            return None
    if named is not None and not isinstance(event, ProofAttached):
        named.add((claimed.key_id, event.previous))
    return seen(claimed)


def _is_named(claimed: Opened[Event], named: Named | None) -> bool:
    if named is None:
        return False
    return isinstance(claimed.event, ProofAttached) or (claimed.key_id, claimed.event_id) in named
