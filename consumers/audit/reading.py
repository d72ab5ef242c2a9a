"""Reads the public topics in an order that holds for a log that grows meanwhile, a few records at a time.

Effects are looked up before their causes: receipts, ledger, checkpoints, proofs, steps, and last what the ledger has
refused. So whatever is seen has its reasons in what is read later. What counts is the moment at which a topic's end is
asked for; the records up to there are read when they are needed.

Of records that do not decode, of which strangers may write many and large ones, only place, digest and reason are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

from consumers.audit.glance import OfRun
from schemas.events import Event
from schemas.signing import Opened, decode_unverified
from zk_autograd.errors import DecodeError
from zk_autograd.eventlog.base import EventLog, Record

Place: TypeAlias = tuple[str, int, int, bytes]
"""Topic, partition, offset, and SHA-256 of the value."""

_CHUNK_RECORDS, _CHUNK_BYTES = 512, 4 << 20


class Item:
    """One record.

    Attributes:
        topic, partition, offset: where it is.
        claimed: what it says it is, nothing of it verified; None if it does not decode.
        value: its bytes; of one that does not decode only their SHA-256.
        why: why it does not decode.
    """

    __slots__ = ("claimed", "offset", "partition", "topic", "value", "why")

    def __init__(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        self.topic, self.partition, self.offset = topic, partition, offset
        self.claimed: Opened[Event] | None = None
        self.why = ""
        try:
            self.claimed, self.value = decode_unverified(topic, value), value
        except DecodeError as error:
            self.why, self.value = str(error), hashlib.sha256(value).digest()

    @property
    def place(self) -> Place:
        """Where it is, and what."""
        digest = self.value if self.claimed is None else hashlib.sha256(self.value).digest()
        return self.topic, self.partition, self.offset, digest

    def at(self, finding: object) -> str:
        """A finding with the record's place before it."""
        return f"{self.topic}/{self.partition}@{self.offset}: {finding}"


@dataclass(frozen=True)
class Topics:
    """The topics' records, to be read once each.

    Attributes:
        settled: the ledger's first part: what was there before the checkpoints were read.
        ledger: its second part.
        heads: the steps once more, read first.
    """

    anchors: Iterator[Record]
    settled: Iterator[Record]
    checkpoints: Iterator[Record]
    ledger: Iterator[Record]
    proofs: Iterator[Record]
    steps: Iterator[Record]
    heads: Iterator[Record]
    letters: Iterator[Record]


def open_topics(log: EventLog, stack: ExitStack) -> Topics:
    """Everything that is in the log now; see the module's text. ``stack`` closes the readers."""

    def ends(topic: str) -> Iterator[Record]:
        return stack.enter_context(log.reader([topic])).read_to_end()

    anchors = ends("anchors")
    reader = stack.enter_context(log.reader(["ledger"]))
    settled = reader.read_to_end()
    checkpoints = ends("checkpoints")
    # By now the entries of every checkpoint are there, and perhaps newer ones without theirs.
    ledger = reader.read_to_end()
    return Topics(
        anchors, settled, checkpoints, ledger, ends("proofs"), ends("steps"), ends("steps"), ends("dead-letters")
    )


def item_of(record: Record) -> Item:
    """The record, decoded; see the module's text."""
    return Item(record.topic, record.partition, record.offset, record.value)


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in their order, some at a time: few enough to be held, enough to be handed on together."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += len(record.value)
        if len(chunk) >= _CHUNK_RECORDS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def of_another(item: Item, run_id: bytes) -> bool:
    """Whether it is a step, an end or a proof of another run."""
    event = item.claimed.event if item.claimed else None
    return isinstance(event, OfRun) and event.run_id != run_id
