"""Reads the public topics in an order that holds for a log that grows meanwhile, and keeps no more than one run needs.

Effects are read before their causes: receipts, ledger, checkpoints, proofs, steps, and last what the ledger has
refused. So whatever is seen has its reasons in what is read later.

Of records that do not decode, of which strangers may write many and large ones, only place, digest and reason are kept;
of other runs, only their starts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

from schemas.events import Event, ProofAttached, RunFinished, StepCommitted
from schemas.signing import Opened, decode_unverified
from zk_autograd.errors import DecodeError
from zk_autograd.eventlog.base import EventLog, Record

Place: TypeAlias = tuple[str, int, int, bytes]
"""Topic, partition, offset, and SHA-256 of the value."""


@dataclass(frozen=True, slots=True)
class Item:
    """One record.

    Attributes:
        place: where it is, and what.
        claimed: what it says it is, nothing of it verified; None if it does not decode.
        value: its bytes; empty if it does not decode.
        why: why it does not decode.
    """

    place: Place
    claimed: Opened[Event] | None
    value: bytes = b""
    why: str = ""

    def at(self, finding: object) -> str:
        """A finding with the record's place before it."""
        return f"{self.place[0]}/{self.place[1]}@{self.place[2]}: {finding}"


@dataclass(frozen=True)
class Topics:
    """The topics' records; ``settled`` entries of the ledger were there before the checkpoints were read."""

    steps: list[Item]
    proofs: list[Item]
    ledger: list[Item]
    settled: int
    checkpoints: list[Item]
    anchors: list[Item]
    letters: list[Item]

    def __len__(self) -> int:
        topics = (self.steps, self.proofs, self.ledger, self.checkpoints, self.anchors, self.letters)
        return sum(map(len, topics))


def read_topics(log: EventLog, run_id: bytes) -> Topics:
    """What there is about one run, and the shared log; see the module's text."""
    anchors = _read(log, "anchors", run_id)
    with log.reader(["ledger"]) as reader:
        ledger = [item_of(record) for record in reader.read_to_end()]
        settled = len(ledger)
        checkpoints = _read(log, "checkpoints", run_id)
        # By now the entries of every checkpoint just read are there, and perhaps newer ones without theirs.
        ledger += [item_of(record) for record in reader.read_to_end()]
    proofs, steps = _read(log, "proofs", run_id), _read(log, "steps", run_id)
    return Topics(steps, proofs, ledger, settled, checkpoints, anchors, _read(log, "dead-letters", run_id))


def _read(log: EventLog, topic: str, run_id: bytes) -> list[Item]:
    """One partition after the other: the verdict must not depend on the order in which a reader came to them."""
    with log.reader([topic]) as reader:
        items = (item_of(record) for record in reader.read_to_end())
        return sorted((item for item in items if not of_another(item, run_id)), key=lambda item: item.place[1:3])


def item_of(record: Record) -> Item:
    """The record, decoded; see the module's text."""
    place = (record.topic, record.partition, record.offset, hashlib.sha256(record.value).digest())
    try:
        return Item(place, decode_unverified(record.topic, record.value), record.value)
    except DecodeError as error:
        return Item(place, None, why=str(error))


def of_another(item: Item, run_id: bytes) -> bool:
    """Whether it is a step, an end or a proof of another run."""
    event = item.claimed.event if item.claimed else None
    return isinstance(event, StepCommitted | RunFinished | ProofAttached) and event.run_id != run_id
