"""What a ledger has said so far, read back from its topics: the entries in order, each once, and its checkpoints."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from consumers.options import Reporter
from ledger.checkpoint import verify_checkpoint
from ledger.entries import Entry
from ledger.frontier import Frontier
from ledger.note import VerifierKey
from ledger.order import Order
from ledger.tree import GrowingTree
from schemas.events import CheckpointIssued, Event
from schemas.signing import Opened, open_signed
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.eventlog.base import EventLog, TopicPartition
from zk_autograd.merkle import HASH_BYTES

Starts = Mapping[TopicPartition, int]


@dataclass
class Voice:
    """One ledger's key, as its topics are read with it; what others wrote is passed over.

    Attributes:
        next: per topic and partition, the offset after the last record that was read.
    """

    log: EventLog
    public_key: bytes
    key_id: bytes
    origin: str
    report: Reporter
    starts: Starts = field(default_factory=dict)
    next: dict[TopicPartition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.verifier = VerifierKey(self.origin, self.public_key)
        self.next.update(self.starts)

    def read_on(self) -> Voice:
        """Makes the next reading begin where this one ended."""
        self.starts = dict(self.next)
        return self

    def said(self, topic: str, quiet: bool = False) -> Iterator[Opened[Event]]:
        """The events of a topic that are under this key, up to its end as it is now."""
        keys = {self.key_id: self.public_key}
        starts = {place: offset for place, offset in self.starts.items() if place[0] == topic}
        with self.log.reader([topic], starts) as reader:
            for record in reader.read_to_end():
                self.next[topic, record.partition] = record.offset + 1
                try:
                    yield open_signed(topic, record.value, keys)
                except (DecodeError, VerificationError) as error:
                    if quiet:
                        continue
                    place = f"{topic}/{record.partition}@{record.offset}"
                    self.report(f"passed over {place}: {error}", noise=record.offset)

    def entries(self, order: Order) -> Iterator[Opened[Entry]]:
        """The log's entries. Anyone who may write can play an entry again: what is said already is passed over."""
        for opened in self.said("ledger"):
            entry: Entry = opened.event  # type: ignore[assignment]
            if order.repeats(entry):
                continue
            try:
                order.take(entry)
            except VerificationError as error:
                raise UsageError(
                    f"the topic ledger does not match its own checkpoint: entries were removed or altered ({error}); "
                    "audit the log before anything is added to it"
                ) from None
            yield opened  # type: ignore[misc]

    def heads(self) -> Heads:
        """The checkpoints.

        Raises:
            UsageError: one is of another origin, or two of one size have two roots.
        """
        heads = Heads()
        for opened in self.said("checkpoints"):
            assert isinstance(opened.event, CheckpointIssued)
            try:
                head = verify_checkpoint(opened.event.note, self.origin, [self.verifier])
            except (DecodeError, VerificationError) as error:
                raise UsageError(
                    f"a checkpoint is not this ledger's ({error}); give the --origin and key that began it"
                ) from None
            heads.take(head.size, head.root, opened.event.note)
        return heads


class Heads:
    """Sizes and roots of checkpoints, 40 bytes each; the newest as a note.

    Attributes:
        newest: the largest size.
        note: its note.
    """

    def __init__(self) -> None:
        self._sizes, self._roots = array("Q"), bytearray()
        self.newest, self.note = 0, ""

    def take(self, size: int, root: bytes, note: str) -> None:
        """Takes a checkpoint, in whatever order; UsageError if there is one of this size with another root."""
        at = bisect_left(self._sizes, size)
        if at < len(self._sizes) and self._sizes[at] == size:
            self.check(size, root)
            if size == self.newest:
                self.note = note  # the same once more, with cosignatures
            return
        self._sizes.insert(at, size)
        self._roots[at * HASH_BYTES : at * HASH_BYTES] = root
        if size >= self.newest:
            self.newest, self.note = size, note

    def check(self, size: int, root: bytes) -> bool:
        """Whether there is a checkpoint of this size; UsageError if it has another root."""
        at = bisect_left(self._sizes, size)
        if at == len(self._sizes) or self._sizes[at] != size:
            return False
        if self._roots[at * HASH_BYTES :][:HASH_BYTES] != root:
            raise mismatch(size)
        return True


def mismatch(size: int) -> UsageError:
    """The error for a ledger that is not what it signed."""
    return UsageError(
        f"the topic ledger does not match its own checkpoint of size {size}: entries were removed or altered; audit "
        "the log before anything is added to it"
    )


def put_into(
    tree: GrowingTree, before: Frontier, voice: Voice, order: Order, heads: Heads, mark: Callable[[], None]
) -> Iterator[Opened[Entry]]:
    """Puts the topic's entries into a tree that has the first of them already, and checks every checkpoint on the way.

    Args:
        tree: what the entries are appended to.
        before: the tree of the entries before the first that ``voice`` reads.
        voice: reads the topics.
        order: of the entries before.
        heads: the checkpoints that it issued.
        mark: called wherever there is one, once the tree has its size.

    Yields:
        Each entry read.

    Raises:
        UsageError: topic, tree and checkpoints do not agree.
    """
    known, root = tree.size, tree.root()
    for opened in voice.entries(order):
        before.append(opened.body)
        if before.size > known:
            tree.append(opened.body)
        elif before.size == known and before.root() != root:
            raise UsageError(
                f"the published tiles, of {known} entries, are not of the topic ledger: they are another log's, or one "
                "of the two was altered; check the tiles with zk-ledger fsck, and audit the log"
            )
        if heads.check(before.size, before.root()) and before.size >= known:
            mark()
        yield opened
    if before.size < known:
        raise UsageError(
            f"the topic ledger has {before.size} entries, the published tiles have {known}: entries were removed; "
            "audit the log before anything is added to it"
        )
    if heads.newest > before.size:
        raise mismatch(heads.newest)
