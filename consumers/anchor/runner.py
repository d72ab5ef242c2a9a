"""The anchor consumer: takes each new checkpoint to the anchor, and publishes the receipt.

It believes no checkpoint: it rebuilds the Merkle tree from the topic ``ledger`` and goes on only while the signed
checkpoints, the tree and the anchor's own head agree. A disagreement is an alarm, never something to write over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from anchor.base import Anchor, Head, Receipt
from consumers.options import Reporter
from consumers.steps_view import StepsView
from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.note import VerifierKey
from ledger.tree import Tree
from schemas.events import Anchored, CheckpointIssued, Event
from schemas.signing import Opened, open_signed, seal
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import SigningKey


@dataclass
class AnchorRunner:
    """One anchor instance over an open log. Opening it fences an older instance for the same anchor off."""

    log: EventLog
    policy: Policy
    key: SigningKey
    origin: str
    anchor: Anchor
    report: Reporter
    tree: Tree = field(default_factory=Tree)

    def __post_init__(self) -> None:
        self._producer = self.log.producer(f"zk-anchor-{hashlib.sha256(self.anchor.uri.encode()).hexdigest()[:16]}")
        self._view = StepsView(self.log, self.policy)
        self._view.refresh()
        self._ledger = self.log.reader(["ledger"])
        self._checkpoints = self.log.reader(["checkpoints"])
        self._seen: set[bytes] = set()
        self._newest: tuple[Opened[CheckpointIssued], Checkpoint] | None = None
        self._head = self.anchor.head()
        self._catch_up()

    def _catch_up(self) -> None:
        """Publishes receipts that a crash held back, between the anchor's answer and the topic."""
        if self._head is None:
            return
        published, keys = 0, {self.key.key_id: self.key.public_key}
        with self.log.reader(["anchors"]) as reader:
            for record in reader.read_to_end():
                try:
                    event = open_signed("anchors", record.value, keys).event
                except (DecodeError, VerificationError):
                    continue
                if isinstance(event, Anchored) and event.anchor == self.anchor.identity():
                    published = max(published, event.counter)
        if published > self._head.counter:
            raise VerificationError(
                f"{self.anchor.uri} stands at counter {self._head.counter}, but its receipts in the log reach "
                f"{published}: it was rolled back"
            )
        notes = self._notes_by_tree()
        for counter in range(published + 1, self._head.counter + 1):
            receipt = self.anchor.receipt_for(counter)
            ids = notes.get((receipt.head.size, receipt.head.root), {}) if receipt else {}
            if receipt is not None and ids:
                # A checkpoint stands there twice if witnesses cosigned it: the receipt is of one of the two notes.
                bound = self.anchor.verify_receipt(receipt.data, self.anchor.identity() or "").checkpoint
                self._publish(receipt, ids.get(bound or b"", next(iter(ids.values()))))

    def _notes_by_tree(self) -> dict[tuple[int, bytes], dict[bytes, bytes]]:
        """Per tree, the event ids of its checkpoints by SHA-256 of the note."""
        found: dict[tuple[int, bytes], dict[bytes, bytes]] = {}
        with self.log.reader(["checkpoints"]) as reader:
            for opened, checkpoint in self._verified(reader.read_to_end()):
                digest = hashlib.sha256(opened.event.note.encode()).digest()
                found.setdefault((checkpoint.size, checkpoint.root), {}).setdefault(digest, opened.event_id)
        return found

    def _verified(self, records: Iterable[Record]) -> Iterator[tuple[Opened[CheckpointIssued], Checkpoint]]:
        """The checkpoints among ``records``; what no accepted key signed is passed over.

        Raises:
            VerificationError: one is not what its signature says.
        """
        for record in records:
            opened: Opened[CheckpointIssued] | None = self._opened(record)  # type: ignore[assignment]
            if opened is None:
                continue
            public_key = self._view.ring.keys[opened.key_id].public_key
            yield opened, verify_checkpoint(opened.event.note, self.origin, [VerifierKey(self.origin, public_key)])

    def _opened(self, record: Record) -> Opened[Event] | None:
        try:
            return self._view.open(record.topic, record.value)
        except (DecodeError, VerificationError) as error:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            self.report(f"passed over {place}: {error}", noise=record.offset)
            return None

    def run_once(self) -> bool:
        """Anchors the newest checkpoint if it is new; returns whether it did.

        Raises:
            VerificationError: checkpoints, ledger and anchor disagree: stop and look.
            AnchorRefused: the anchor moved under us.
        """
        issued = list(self._verified(self._checkpoints.poll(timeout=0.5)))
        # Entries and their checkpoint are one transaction: whoever sees the checkpoint finds its entries.
        for record in self._ledger.read_to_end():
            entry = self._opened(record)
            if entry is not None and entry.event_id not in self._seen:  # anyone who may write can play one again
                self._seen.add(entry.event_id)
                self.tree.append(entry.body)
        head = self._head
        if head is not None:
            self._check_head(head)
        for each in issued:
            self._check_tree(each[1])
            if self._newest is None or each[1].size >= self._newest[1].size:
                self._newest = each
        if self._newest is None:
            return False
        opened, checkpoint = self._newest
        size, root = checkpoint.size, checkpoint.root
        if head is not None and size <= head.size:
            return False
        consistency = self.tree.consistency_proof(head.size, size) if head else []
        receipt = self.anchor.advance(head, size, root, opened.event.note, consistency)
        self._head = receipt.head
        self._publish(receipt, opened.event_id)
        return True

    def _check_tree(self, checkpoint: Checkpoint) -> None:
        size = checkpoint.size
        if size > self.tree.size:
            raise VerificationError(
                f"the checkpoint has {size} leaves, the topic ledger {self.tree.size}: entries are missing"
            )
        if self.tree.root_at(size) != checkpoint.root:
            raise VerificationError(f"the checkpoint of size {size} is not of the entries in the topic ledger")

    def _check_head(self, head: Head) -> None:
        if head.size > self.tree.size or self.tree.root_at(head.size) != head.root:
            raise VerificationError(
                f"the anchor holds {head}, which the topic ledger ({self.tree.size} leaves) does not contain: "
                "the log was rolled back or forked, or the anchor is another log's"
            )

    def _publish(self, receipt: Receipt, checkpoint_id: bytes) -> None:
        identity, head = self.anchor.identity(), receipt.head
        if identity is None:
            raise VerificationError(f"{self.anchor.uri}: gave a receipt but has no identity")
        event = Anchored(identity, head.counter, head.size, head.root, checkpoint_id, receipt.data)
        with self._producer.transaction() as transaction:
            transaction.send("anchors", b"", seal("anchors", event, self.key))
        self.report(f"anchored size {head.size} at counter {head.counter}", size=head.size, counter=head.counter)

    @property
    def behind(self) -> int:
        """Leaves of the ledger that the anchor does not cover yet."""
        return self.tree.size - (self._head.size if self._head else 0)

    def close(self) -> None:
        """Closes readers and producer."""
        for reader in (self._ledger, self._checkpoints):
            reader.close()
        self._view.close()
        self._producer.close()
