"""All that a ledger knows when it begins, or goes on: read from its topics, or from a snapshot and what came after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from consumers.ledger import snapshot as snapshots
from consumers.ledger.history import Heads, Voice, put_into
from consumers.ledger.snapshot import Snapshot
from consumers.options import Reporter
from ledger.fold import Fold
from ledger.frontier import Frontier
from ledger.order import Order
from ledger.tree import GrowingTree, Tree
from schemas.events import DeadLetter, EnclaveAttested, Event
from schemas.keyring import KeyRing
from schemas.signing import Opened
from tiles import Store
from tiles.publisher import Publisher
from zk_autograd.errors import UsageError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Record, TopicPartition
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import SigningKey

OWN = ("ledger", "checkpoints", "dead-letters")
"""The topics that a ledger writes."""


@dataclass
class Standing:
    """Where a ledger stands.

    Attributes:
        voice: its own topics, as far as they have been read back.
        ring: the keys that it knows; ``introductions``: how it came to know them.
        fold: the runs.
        publisher: what is published; None without tiles.
        tree: the log's tree.
        before: the tree of the entries that were read back; ``order``: theirs; ``note``: its checkpoint.
        offsets: per topic and partition of its inputs, the first offset that it has not taken.
        buried: what it has refused already.
    """

    voice: Voice
    ring: KeyRing
    fold: Fold
    publisher: Publisher | None
    tree: GrowingTree
    before: Frontier = field(default_factory=Frontier)
    order: Order = field(default_factory=Order)
    note: str = ""
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    introductions: dict[bytes, bytes] = field(default_factory=dict)
    buried: set[tuple[str, int, int]] = field(default_factory=set)

    def open(self, record: Record) -> Opened[Event]:
        """The event in an input, and that it was taken; raises as :meth:`schemas.keyring.KeyRing.open`."""
        self.offsets[record.topic, record.partition] = record.offset + 1
        opened = self.ring.open(record.topic, record.value)
        if isinstance(opened.event, EnclaveAttested):
            self.introductions[opened.key_id] = record.value
        return opened

    def resume(self, was: Snapshot) -> None:
        """Brings a new standing to a snapshot's; raises a ZkAutogradError if it does not hold now."""
        for value in was.introductions:
            self.introductions[self.ring.open("steps", value).key_id] = value
        snapshots.resume(was, self.fold, lambda value: self.ring.open("steps", value))
        self.before, self.order = was.before, was.order
        self.offsets = {place: offset for place, offset in was.next.items() if place[0] not in OWN}

    def read_back(self, heads: Heads) -> None:
        """Takes over the log as it stands: what this key signed, each entry once. The rest is not the ledger's.

        Raises:
            UsageError: it was written under another origin, or entries are missing: refuse rather than fork.
        """
        for opened in self.voice.said("dead-letters", quiet=True):
            if isinstance(opened.event, DeadLetter):
                self.buried.add((opened.event.source_topic, opened.event.partition, opened.event.offset))
        mark = self.publisher.mark if self.publisher else lambda: None
        for entry in put_into(self.tree, self.before, self.voice, self.order, heads, mark):
            self.fold.replay(entry.event)
        if heads.newest != self.tree.size:
            raise UsageError(
                f"the topic ledger has {self.tree.size} entries, its newest checkpoint {heads.newest}: entries were "
                "removed or altered; audit the log before anything is added to it"
            )
        self.note = heads.note
        if self.publisher and self.publisher.published < self.tree.size:
            self.publisher.publish(heads.note)

    def save(self, path: Path, key: SigningKey, policy: Policy) -> int:
        """Writes a snapshot, once what this ledger wrote has been read back and found to be its tree.

        Returns:
            Its size in bytes; 0 if the log is empty, and there is nothing to bind a snapshot to.

        Raises:
            UsageError: it cannot be written, or the topics hold something else: the one before stays.
        """
        if not self.tree.size:
            return 0
        heads = self.voice.read_on().heads()
        if self.note:
            heads.take(self.before.size, self.before.root(), self.note)
        for _ in put_into(self.tree, self.before, self.voice, self.order, heads, lambda: None):
            if self.before.size > self.tree.size:
                raise UsageError("another ledger with this key has written to the topic: start only one")
        if heads.newest != self.tree.size:
            raise UsageError(f"the newest checkpoint is of {heads.newest} entries, the tree has {self.tree.size}")
        self.note, places = heads.note, self.voice.next | self.offsets
        taken = Snapshot(self.note, self.before, self.order, places, list(self.introductions.values()))
        return snapshots.save(path, taken, self.fold, key, self.voice.origin, policy)


@dataclass(frozen=True)
class Beginning:
    """How a ledger comes to its standing."""

    log: EventLog
    policy: Policy
    key: SigningKey
    origin: str
    report: Reporter
    tiles: Store | None
    snapshot: Path | None
    new_fold: Callable[[], Fold]

    def standing(self) -> Standing:
        """From the snapshot, if there is one that holds; else from all that the topics say.

        Raises:
            UsageError: the log is not one to go on with.
            StorageError, DecodeError, VerificationError: nor are its tiles.
        """
        if self.snapshot is not None and self.tiles is not None:
            try:
                was = snapshots.load(self.snapshot, self.key, self.origin, self.policy)
                if was is not None:
                    found = self._standing(was)
                    self.report(f"went on from the snapshot of {was.fold['size']} entries", snapshot=was.fold["size"])
                    return found
            except ZkAutogradError as error:
                self.report(f"the snapshot is not used, all of the log is read: {error}", unused=str(error))
        return self._standing(None)

    def _standing(self, was: Snapshot | None) -> Standing:
        voice = Voice(
            self.log, self.key.public_key, self.key.key_id, self.origin, self.report,
            {place: offset for place, offset in was.next.items() if place[0] in OWN} if was else {},
        )  # fmt: skip
        publisher = Publisher(self.tiles, self.origin, voice.verifier) if self.tiles else None
        tree: GrowingTree = publisher.tree if publisher else Tree()
        found = Standing(voice, KeyRing(self.policy), self.new_fold(), publisher, tree)
        heads = voice.heads()
        if was is not None:
            if was.before.size > tree.size:
                raise UsageError(f"the snapshot is of {was.before.size} entries, the published tiles of {tree.size}")
            if was.before.size == tree.size and was.before.root() != tree.root():
                raise UsageError("the snapshot is not of the published tiles")
            heads.take(was.before.size, was.before.root(), was.note)
            found.resume(was)
        found.read_back(heads)
        return found
