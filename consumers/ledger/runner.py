"""The ledger's I/O: reads the topics, folds, signs checkpoints, writes both in one transaction.

Its state is the log itself. A new instance first fences the old one off (same transactional id), then reads the topic
``ledger`` to its end: what is there stays, nothing is merged in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from consumers.dead_letters import dead_letter
from consumers.ledger.history import Voice, put_into
from consumers.options import Reporter
from consumers.receipts import check_beacon, verified_receipt
from ledger.checkpoint import sign_checkpoint
from ledger.entries import Entry, leaf_data
from ledger.fold import FindCircuit, Fold, VerifyProof
from ledger.frontier import Frontier
from ledger.note import VerifierKey
from ledger.order import Order
from ledger.tree import GrowingTree, Tree
from schemas.events import (
    Anchored,
    CheckpointIssued,
    DeadLetter,
    EpochClosed,
    ProofAttached,
    Role,
    RunClosed,
    RunOpened,
    StepProven,
    StepRecorded,
)
from schemas.keyring import KeyRing
from schemas.signing import decode_unverified, open_signed, seal
from tiles import Store
from tiles.publisher import Publisher
from zk_autograd.errors import DecodeError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Producer, Reader, Record
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import SigningKey

TRANSACTIONAL_ID = "zk-ledger"
BATCH = 200


@dataclass
class LedgerRunner:
    """One ledger instance over an open log."""

    log: EventLog
    policy: Policy
    key: SigningKey
    origin: str
    find_circuit: FindCircuit
    verify: VerifyProof
    report: Reporter
    tiles: Store | None = None
    tree: GrowingTree = field(init=False)

    def __post_init__(self) -> None:
        self._check_ours()  # before anybody is fenced off
        # Opening the producer fences an older instance off: from here on nobody else appends.
        self._producer: Producer = self.log.producer(TRANSACTIONAL_ID)
        self._fold = Fold(self.find_circuit, self.verify, lambda identity: check_beacon(identity, self.policy))
        self._ring = KeyRing(self.policy)
        self._publisher: Publisher | None = None
        if self.tiles is not None:
            self._publisher = Publisher(self.tiles, self.origin, VerifierKey(self.origin, self.key.public_key))
        self.tree = self._publisher.tree if self._publisher else Tree()
        self._buried = self._dead_letters()
        self._rebuild()
        self._steps: Reader = self.log.reader(["steps"])
        self._proofs: Reader = self.log.reader(["proofs"])
        self._anchors: Reader | None = None  # while no sampled run is there

    def _check_ours(self) -> None:
        """Raises UsageError if the log was begun under another key."""
        with self.log.reader(["ledger"]) as reader:
            others = None
            for record in reader.read_to_end():
                with suppress(DecodeError):
                    claimed = decode_unverified("ledger", record.value).key_id
                    if claimed == self.key.key_id:
                        return
                    others = others or claimed
        if others is not None:
            raise UsageError(
                f"this log's entries are by another key ({others.hex()[:12]}), none by this home's ledger key "
                f"({self.key.key_id.hex()[:12]}): run the ledger with the key that began the log, or start another log"
            )

    def _rebuild(self) -> None:
        """Takes over the log as it stands: what this key signed, each entry once. The rest is not the ledger's.

        Raises:
            UsageError: it was written under another origin, or entries are missing: refuse rather than fork.
        """
        voice = Voice(self.log, self.key.public_key, self.key.key_id, self.origin, self.report)
        heads, publisher = voice.heads(), self._publisher
        mark = publisher.mark if publisher else lambda: None
        for opened in put_into(self.tree, Frontier(), voice, Order(), heads, mark):
            self._fold.replay(opened.event)
        if heads.newest != self.tree.size:
            raise UsageError(
                f"the topic ledger has {self.tree.size} entries, its newest checkpoint {heads.newest}: entries were "
                "removed or altered; audit the log before anything is added to it"
            )
        if publisher and publisher.published < self.tree.size:
            publisher.publish(heads.note)
            self.report(f"published up to size {self.tree.size}", published=self.tree.size)

    def _dead_letters(self) -> set[tuple[str, int, int]]:
        """What this role has refused already, so that a restart does not say it twice."""
        keys, found = {self.key.key_id: self.key.public_key}, set()
        with self.log.reader(["dead-letters"]) as reader:
            for record in reader.read_to_end():
                try:
                    event = open_signed("dead-letters", record.value, keys).event
                except (DecodeError, VerificationError):
                    continue
                if isinstance(event, DeadLetter):
                    found.add((event.source_topic, event.partition, event.offset))
        return found

    def run_once(self, timeout: float) -> list[Entry]:
        """Takes what is new, at most one batch of proofs, and publishes the entries it completes.

        Raises:
            FencedError: a newer instance took over.
        """
        proofs = self._proofs.poll(timeout, BATCH)
        done: list[Entry] = []
        entries: list[Entry] = []
        refused: list[tuple[Record, object]] = []
        for record in self._inputs(proofs):
            self._take(record, entries, refused)
            if len(entries) + len(refused) >= BATCH:  # whatever strangers write, no more than this is held in memory
                self._publish(entries, refused)
                done, entries, refused = done + entries, [], []
        if entries or refused:
            self._publish(entries, refused)
        return done + entries

    def _inputs(self, proofs: list[Record]) -> Iterator[Record]:
        """What is new, causes first.

        A proof follows its step in time, and the receipt that drew its shard. So after the proofs were read, every step
        and receipt that they can rest on is there.
        """
        yield from self._steps.read_to_end()
        if self._anchors is None and self._fold.draws:
            self._anchors = self.log.reader(["anchors"])
        for record in self._anchors.read_to_end() if self._anchors else ():
            self._take_receipt(record)
        yield from proofs

    def _take_receipt(self, record: Record) -> None:
        """Receipts that do not hold are passed over: nobody's step may wait for a stranger's record."""
        try:
            event = self._ring.open(record.topic, record.value).event
            assert isinstance(event, Anchored)
            facts = verified_receipt(event, self.tree)
            if facts.randomness is not None:
                self._fold.receipt(facts)
        except ZkAutogradError as error:
            self.report(f"passed over {record.topic}/{record.partition}@{record.offset}: {error}", noise=record.offset)

    def _take(self, record: Record, entries: list[Entry], refused: list[tuple[Record, object]]) -> None:
        try:
            opened = self._ring.open(record.topic, record.value)
            if isinstance(opened.event, ProofAttached):
                entries += self._fold.proof_event(opened)  # type: ignore[arg-type]
            else:
                entries += self._fold.step_event(opened)  # type: ignore[arg-type]
        except ZkAutogradError as error:
            if (record.topic, record.partition, record.offset) not in self._buried:
                refused.append((record, error))

    def _publish(self, entries: list[Entry], refused: list[tuple[Record, object]]) -> None:
        for entry in entries:
            self.tree.append(leaf_data(entry))
        with self._producer.transaction() as transaction:
            for entry in entries:
                transaction.send("ledger", b"", seal("ledger", entry, self.key))
            if entries:
                note = sign_checkpoint(
                    self.origin, self.tree.size, self.tree.root(), self.origin, self.key.sign, self.key.public_key
                )
                transaction.send("checkpoints", b"", seal("checkpoints", CheckpointIssued(note), self.key))
            for record, reason in refused:
                transaction.send("dead-letters", b"", dead_letter(record, Role.LEDGER, reason, self.key))
        if entries and self._publisher:  # what is published is in the log, for good
            self._publisher.publish(note)
        for entry in entries:
            self.report(
                f"leaf {self.tree.size - len(entries) + entries.index(entry)}: {_describe(entry)}", size=self.tree.size
            )
        for record, reason in refused:
            self._buried.add((record.topic, record.partition, record.offset))
            self.report(f"refused {record.topic}/{record.partition}@{record.offset}: {reason}", refused=str(reason))

    @property
    def waiting(self) -> int:
        """Committed steps that are not proven yet."""
        return self._fold.waiting

    def close(self) -> None:
        """Closes readers and producer."""
        self._steps.close()
        self._proofs.close()
        if self._anchors is not None:
            self._anchors.close()
        self._producer.close()


def _describe(entry: Entry) -> str:
    run = entry.run_id.hex()[:12]
    if isinstance(entry, RunOpened):
        return f"run {run} opened"
    if isinstance(entry, StepProven):
        return f"run {run} step {entry.step} proven"
    if isinstance(entry, StepRecorded):
        return f"run {run} step {entry.step} recorded"
    if isinstance(entry, EpochClosed):
        return f"run {run} epoch {entry.epoch} closed: steps {entry.first_step} to {entry.last_step}"
    assert isinstance(entry, RunClosed)
    return f"run {run} closed after {entry.steps} steps"
