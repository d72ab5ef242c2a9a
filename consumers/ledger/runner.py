"""The ledger's I/O: reads the topics, folds, signs checkpoints, writes both in one transaction.

Its state is the log itself. A new instance first fences the old one off (same transactional id), then reads the topic
``ledger`` to its end (from a snapshot on, if there is one that holds): what is there stays, nothing is merged in. What
is in the log is published as tiles, if it is to be, and never before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from consumers.dead_letters import dead_letter
from consumers.ledger.standing import Beginning, Standing
from consumers.ledger.witnesses import Cosigners
from consumers.options import Reporter
from consumers.receipts import check_beacon, verified_receipt
from ledger.checkpoint import sign_checkpoint
from ledger.entries import Entry, leaf_data
from ledger.fold import FindCircuit, Fold, VerifyProof
from ledger.sampling import chances, percent, rounded_down
from ledger.tree import GrowingTree
from schemas.events import (
    Anchored,
    CheckpointIssued,
    EpochClosed,
    ProofAttached,
    Role,
    RunClosed,
    RunOpened,
    StepProven,
    StepRecorded,
)
from schemas.signing import decode_unverified, seal
from tiles import Store
from zk_autograd.errors import DecodeError, UsageError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Producer, Reader, Record
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import SigningKey

TRANSACTIONAL_ID = "zk-ledger"
BATCH = 200
SAVE_EVERY, SAVE_SECONDS = 5000, 60.0
"""A snapshot is written after so many records, or, if there were any, so long after the last one."""


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
    snapshot: Path | None = None
    save_every: int = SAVE_EVERY
    cosigners: Cosigners | None = None
    """Who is asked to cosign each checkpoint; None: nobody."""

    def __post_init__(self) -> None:
        self._check_ours()  # before anybody is fenced off
        # Opening the producer fences an older instance off: from here on nobody else appends.
        self._producer: Producer = self.log.producer(TRANSACTIONAL_ID)
        self._at: Standing = Beginning(
            self.log, self.policy, self.key, self.origin, self.report, self.tiles, self.snapshot,
            lambda: Fold(self.find_circuit, self.verify, lambda identity: check_beacon(identity, self.policy)),
        ).standing()  # fmt: skip
        self.tree: GrowingTree = self._at.tree
        self._note: str | None = self._at.note or None
        """The newest checkpoint, with the cosignatures on it that are published."""
        self._steps = self._reader("steps")
        self._proofs = self._reader("proofs")
        self._anchors: Reader | None = None  # while no sampled run is there
        self._unsaved, self._saved_at = 0, time.monotonic()
        self.taken = 0
        """Records that were taken from the topics, whether they made an entry or not."""

    def _reader(self, topic: str) -> Reader:
        return self.log.reader([topic], {place: n for place, n in self._at.offsets.items() if place[0] == topic})

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
        self._cosign()
        self._save_if_due()
        return done + entries

    def _save_if_due(self) -> None:
        """Everything that was taken has been published: what is known now can be put down."""
        due = self._unsaved >= self.save_every or time.monotonic() - self._saved_at >= SAVE_SECONDS
        if self.snapshot is None or self.tiles is None or not self._unsaved or not due:
            return
        try:
            if size := self._at.save(self.snapshot, self.key, self.policy):
                self.report(f"snapshot at size {self.tree.size}, {size} bytes", saved=self.tree.size)
        except UsageError as error:
            self.report(f"no snapshot: {error}", unsaved=str(error))
        self._unsaved, self._saved_at = 0, time.monotonic()

    def _cosign(self) -> None:
        """Publishes the newest checkpoint once more, when witnesses have cosigned it since.

        Only what is published is shown to them: a tree that a crash undoes would be one that they hold for ever.
        """
        note = self.cosigners.cosign(self._note, self.tree) if self.cosigners and self._note else None
        if note is None:
            return
        with self._producer.transaction() as transaction:
            transaction.send("checkpoints", b"", seal("checkpoints", CheckpointIssued(note), self.key))
        self._note = note
        if self._at.publisher:
            self._at.publisher.publish(note)
        lacking = [key.name for key in self.uncosigned]
        self.report(
            f"cosigned at size {self.tree.size}" + (f", but not by {', '.join(lacking)}" if lacking else ""),
            cosigned=self.tree.size,
            lacking=lacking,
        )

    def _inputs(self, proofs: list[Record]) -> Iterator[Record]:
        """What is new, causes first.

        A proof follows its step in time, and the receipt that drew its shard. So after the proofs were read, every step
        and receipt that they can rest on is there.
        """
        # Receipts are read before the keys that they rest on, and taken after them.
        receipts = list(self._anchors.read_to_end()) if self._anchors else []
        yield from self._steps.read_to_end()
        if self._anchors is None and self._at.fold.draws:
            self._anchors = self._reader("anchors")
            receipts = list(self._anchors.read_to_end())
            yield from self._steps.read_to_end()
        for record in receipts:
            self._take_receipt(record)
        yield from proofs

    def _take_receipt(self, record: Record) -> None:
        """Receipts that do not hold are passed over: nobody's step may wait for a stranger's record."""
        try:
            event = self._at.open(record).event
            assert isinstance(event, Anchored)
            facts = verified_receipt(event, self.tree)
            if facts.randomness is not None:
                self._at.fold.receipt(facts)
        except ZkAutogradError as error:
            self.report(f"passed over {record.topic}/{record.partition}@{record.offset}: {error}", noise=record.offset)

    def _take(self, record: Record, entries: list[Entry], refused: list[tuple[Record, object]]) -> None:
        self._unsaved += 1
        self.taken += 1
        try:
            opened = self._at.open(record)
            if isinstance(opened.event, ProofAttached):
                entries += self._at.fold.proof_event(opened)  # type: ignore[arg-type]
            else:
                entries += self._at.fold.step_event(opened)  # type: ignore[arg-type]
        except ZkAutogradError as error:
            if (record.topic, record.partition, record.offset) not in self._at.buried:
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
                self._note = note
            for record, reason in refused:
                transaction.send("dead-letters", b"", dead_letter(record, Role.LEDGER, reason, self.key))
        if entries and self._at.publisher:  # what is published is in the log, for good
            self._at.publisher.publish(note)
        for leaf, entry in enumerate(entries, self.tree.size - len(entries)):
            self.report(f"leaf {leaf}: {_describe(entry)}", size=self.tree.size)
            if isinstance(entry, RunOpened):
                self._report_sampling(entry.run_id)
        for record, reason in refused:
            self._at.buried.add((record.topic, record.partition, record.offset))
            self.report(f"refused {record.topic}/{record.partition}@{record.offset}: {reason}", refused=str(reason))

    def _report_sampling(self, run_id: bytes) -> None:
        """What a run's entries will be worth, if only samples are proven."""
        start = self._at.fold.start_of(run_id)
        if start is None or not start.sampled:
            return
        likely = chances(start.shards, start.sampled, 100)
        self.report(
            f"run {run_id.hex()[:12]} is sampled: {start.sampled} of {start.shards} shards of each step, drawn by "
            f"{start.beacon[:80]}. A cheat is drawn with a probability of at least "
            + ", ".join(f"{percent(chance.probability)} % ({chance.cheat})" for chance in likely),
            run_id=run_id.hex(), drawn=start.sampled, shards=start.shards,
            detection=[asdict(chance) | {"probability": rounded_down(chance.probability)} for chance in likely],
        )  # fmt: skip

    @property
    def uncosigned(self) -> list[WitnessKey]:
        """The witnesses that were to be asked and have not cosigned the newest checkpoint."""
        return self.cosigners.lacking(self._note) if self.cosigners and self._note else []

    @property
    def waiting(self) -> int:
        """Committed steps that are not proven yet."""
        return self._at.fold.waiting

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
