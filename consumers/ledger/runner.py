"""The ledger's I/O: reads the topics, folds, signs checkpoints, writes both in one transaction.

Its state is the log itself. A new instance first fences the old one off (same transactional id), then reads the topic
``ledger`` to its end: what is there stays, nothing is merged in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from consumers.dead_letters import dead_letter
from consumers.ledger.witnesses import Cosigners
from consumers.options import Reporter
from consumers.receipts import check_beacon, verified_receipt
from ledger.checkpoint import sign_checkpoint, verify_checkpoint
from ledger.entries import Entry, leaf_data
from ledger.fold import FindCircuit, Fold, VerifyProof
from ledger.note import VerifierKey
from ledger.tree import Tree
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
from zk_autograd.errors import DecodeError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Producer, Reader, Record
from zk_autograd.note_keys import WitnessKey
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
    tree: Tree = field(default_factory=Tree)
    cosigners: Cosigners | None = None
    """Who is asked to cosign each checkpoint; None: nobody."""

    def __post_init__(self) -> None:
        self._note: str | None = None
        """The newest checkpoint, with the cosignatures on it that are published."""
        self._check_ours()  # before anybody is fenced off
        # Opening the producer fences an older instance off: from here on nobody else appends.
        self._producer: Producer = self.log.producer(TRANSACTIONAL_ID)
        self._fold = Fold(self.find_circuit, self.verify, lambda identity: check_beacon(identity, self.policy))
        self._ring = KeyRing(self.policy)
        self._verifier = VerifierKey(self.origin, self.key.public_key)
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
        keys, seen = {self.key.key_id: self.key.public_key}, set()
        with self.log.reader(["ledger"]) as reader:
            for record in reader.read_to_end():
                try:
                    opened = open_signed("ledger", record.value, keys)
                except (DecodeError, VerificationError) as error:
                    self.report(f"passed over ledger/{record.partition}@{record.offset}: {error}", noise=record.offset)
                    continue
                if opened.event_id not in seen:  # anyone who may write can play an entry again
                    seen.add(opened.event_id)
                    self.tree.append(opened.body)
                    self._fold.replay(opened.event)  # type: ignore[arg-type]
        size = self._signed_size(keys)
        if size != self.tree.size:
            raise UsageError(
                f"the topic ledger has {self.tree.size} entries, its newest checkpoint {size}: entries were removed or "
                "altered; audit the log before anything is added to it"
            )

    def _signed_size(self, keys: dict[bytes, bytes]) -> int:
        """The size of the newest checkpoint; UsageError if one is not of this tree or origin."""
        newest = 0
        with self.log.reader(["checkpoints"]) as reader:
            for record in reader.read_to_end():
                try:
                    issued = open_signed("checkpoints", record.value, keys).event
                except (DecodeError, VerificationError) as error:
                    place = f"checkpoints/{record.partition}@{record.offset}"
                    self.report(f"passed over {place}: {error}", noise=record.offset)
                    continue
                assert isinstance(issued, CheckpointIssued)
                try:
                    head = verify_checkpoint(issued.note, self.origin, [self._verifier])
                except (DecodeError, VerificationError) as error:
                    raise UsageError(
                        f"a checkpoint is not this ledger's ({error}); give the --origin and key that began it"
                    ) from None
                if head.size > self.tree.size or self.tree.root_at(head.size) != head.root:
                    raise UsageError(
                        f"the topic ledger does not match its own checkpoint of size {head.size}: entries were "
                        "removed or altered; audit the log before anything is added to it"
                    )
                if head.size >= newest:
                    newest, self._note = head.size, issued.note
        return newest

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
        self._cosign()
        return done + entries

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
                self._note = note
            for record, reason in refused:
                transaction.send("dead-letters", b"", dead_letter(record, Role.LEDGER, reason, self.key))
        for entry in entries:
            self.report(
                f"leaf {self.tree.size - len(entries) + entries.index(entry)}: {_describe(entry)}", size=self.tree.size
            )
        for record, reason in refused:
            self._buried.add((record.topic, record.partition, record.offset))
            self.report(f"refused {record.topic}/{record.partition}@{record.offset}: {reason}", refused=str(reason))

    @property
    def uncosigned(self) -> list[WitnessKey]:
        """The witnesses that were to be asked and have not cosigned the newest checkpoint."""
        return self.cosigners.lacking(self._note) if self.cosigners and self._note else []

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
