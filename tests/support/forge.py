"""Forging a log: what its host can do to the file (an outsider), and what holders of keys can add to it (insiders).

A :class:`Case` is a copy of the sound run. ``case.log`` rewrites its records behind everyone's back, signatures and
all; ``case.insider`` signs with the home's own keys; ``case.retell`` publishes the whole story anew as insiders of
every role would, consistent in everything but the lie. ``case.audit()`` is then the real audit.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from anchor import open_anchor
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit, Status
from consumers.audit.proofs import Verdict
from consumers.audit.report import as_json
from consumers.ledger.runner import LedgerRunner
from consumers.options import Reporter
from consumers.verifying import Verifiers
from ledger.checkpoint import sign_checkpoint
from ledger.entries import NO_CHALLENGE, Entry, leaf_data, proofs_digest
from ledger.tree import Tree
from schemas.codec import decode, encode
from schemas.events import (
    Anchored,
    CheckpointIssued,
    EpochClosed,
    Event,
    EvidenceClass,
    ProofAttached,
    Role,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    Signed,
    StepCommitted,
    StepProven,
)
from schemas.keyring import introduction
from schemas.signing import Opened, decode_unverified, event_id, seal
from schemas.topics import TOPICS
from schemas.wire import open_event_log
from tests.support.events import declared
from tests.support.pipeline import ORIGIN
from tests.support.sound_run import SoundRun
from tiles import Store
from zk_autograd.errors import DecodeError, VerificationError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.home import Home
from zk_autograd.merkle import all_paths
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit, Commitments
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.evidence import simulate
from zk_autograd.tee.keys import SigningKey

ChainEvent: TypeAlias = RunStarted | StepCommitted | RunFinished
Slot: TypeAlias = tuple[int, int]

SIGNER = {
    "steps": ("TRAINER", ""),
    "proofs": ("PROVER", "a"),
    "claims": ("PROVER", "a"),
    "ledger": ("LEDGER", ""),
    "checkpoints": ("LEDGER", ""),
    "anchors": ("ANCHOR", ""),
    "dead-letters": ("LEDGER", ""),
}
"""Per topic the role, and the name of the instance, whose key signs honestly."""


class LogFile:
    """The file of an embedded log, in its host's hands: no signature is looked at, none is made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection

    def records(self, topic: str) -> list[Record]:
        """The topic's records in the order in which an auditor meets them."""
        with open_event_log(f"{self.url}?mode=ro", create=False) as log, log.reader([topic]) as reader:
            return sorted(reader.read_to_end(), key=lambda r: (r.partition, r.offset))

    def opened(self, topic: str) -> list[tuple[Record, Opened[Event]]]:
        """The same with the events in them, for what decodes."""
        found = []
        for record in self.records(topic):
            with suppress(DecodeError):
                found.append((record, decode_unverified(topic, record.value)))
        return found

    def find(self, topic: str, kind: type[Event], **fields: Any) -> Record:
        """The one record whose event is of this kind and has these fields."""
        (found,) = (
            r
            for r, o in self.opened(topic)
            if isinstance(o.event, kind) and all(getattr(o.event, n) == v for n, v in fields.items())
        )
        return found

    def replace(self, record: Record, value: bytes) -> None:
        """Other bytes in the same place."""
        with self._changing() as connection:
            changed = connection.execute(f"UPDATE records SET value = ? WHERE {_PLACE}", (value, *_place(record)))
            assert changed.rowcount == 1

    def swap(self, a: Record, b: Record) -> None:
        """The two records' bytes change places."""
        self.replace(a, b.value)
        self.replace(b, a.value)

    def delete(self, *records: Record) -> None:
        """The records were never there; their offsets stay free."""
        with self._changing() as connection:
            for record in records:
                changed = connection.execute(f"DELETE FROM records WHERE {_PLACE}", _place(record))
                assert changed.rowcount == 1

    def insert(self, before: Record, value: bytes) -> None:
        """A record more, right before another; what follows moves up."""
        place = (before.topic, before.partition)
        with self._changing() as connection:
            # By way of the negative numbers, so that no two records ever meet.
            following = "UPDATE records SET offset = -offset - 1 WHERE topic = ? AND partition = ? AND offset >= ?"
            connection.execute(following, (*place, before.offset))
            back = "UPDATE records SET offset = -offset WHERE topic = ? AND partition = ? AND offset < 0"
            connection.execute(back, place)
            connection.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
                (*place, before.offset, before.key, value, before.timestamp_ms),
            )
            connection.execute(
                "UPDATE heads SET next_offset = next_offset + 1 WHERE topic = ? AND partition = ?", place
            )

    def append(self, topic: str, *values: bytes, partition: int = 0) -> list[Record]:
        """Records at the partition's end."""
        with self._changing() as connection:
            query = "SELECT next_offset FROM heads WHERE topic = ? AND partition = ?"
            (first,) = connection.execute(query, (topic, partition)).fetchone()
            now = time.time_ns() // 1_000_000  # an old record of a topic with a retention time would be deleted
            added = [Record(topic, partition, first + i, b"", value, now) for i, value in enumerate(values)]
            rows = [(topic, partition, r.offset, r.key, r.value, r.timestamp_ms) for r in added]
            connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute(
                "UPDATE heads SET next_offset = ? WHERE topic = ? AND partition = ?",
                (first + len(values), topic, partition),
            )
        return added

    def clear(self, topic: str) -> None:
        """The topic as it was when it was made."""
        with self._changing() as connection:
            connection.execute("DELETE FROM records WHERE topic = ?", (topic,))
            connection.execute("UPDATE heads SET next_offset = 0 WHERE topic = ?", (topic,))


_PLACE = "topic = ? AND partition = ? AND offset = ?"


def _place(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def flipped(value: bytes, at: int, mask: int = 0x01) -> bytes:
    """``value`` with some bits of one byte turned over."""
    return value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :]


def resigned(topic: str, value: bytes, key: SigningKey) -> bytes:
    """The body of a record under another key's envelope and signature."""
    return seal(topic, decode_unverified(topic, value).event, key)


def unsigned_edit(topic: str, value: bytes, **changes: Any) -> bytes:
    """A record whose event was changed by someone without a key: the old signature stays."""
    envelope = decode(value, (Signed,), TOPICS[topic].cap)
    event = replace(decode_unverified(topic, value).event, **changes)
    return encode(replace(envelope, body=encode(event)))


@dataclass(frozen=True)
class Insider:
    """Holds the keys of every role of a home."""

    home: Home

    def key(self, topic: str) -> SigningKey:
        """The key that signs honestly on a topic."""
        return self.home.signing_key(*SIGNER[topic])

    def seal(self, topic: str, event: Event) -> bytes:
        """The event, signed by the role that may."""
        return seal(topic, event, self.key(topic))

    def introduce(self, role: Role, key: SigningKey, root: SigningKey | None = None, topic: str = "steps") -> bytes:
        """A key's introduction, with the home's own root's evidence or that of another."""
        evidence = self.home.simulated_evidence(role.value, key)
        if root is not None:
            evidence = simulate(root, role.value, key.public_key)
        return introduction(role, key, EvidenceClass.SIMULATED, evidence, 0, topic)

    def checkpoint(self, entries: Sequence[bytes], origin: str = ORIGIN, key: SigningKey | None = None) -> bytes:
        """A checkpoint of a ledger of these leaves."""
        tree, signer = Tree(entries), key or self.key("checkpoints")
        note = sign_checkpoint(origin, tree.size, tree.root(), origin, signer.sign, signer.public_key)
        return seal("checkpoints", CheckpointIssued(note), signer)


@dataclass
class Story:
    """A whole run to tell: events in chain order, proofs by step and shard; the rest follows from these.

    ``entries`` may change what the ledger says; ``notes`` are the sizes at which it signs and is anchored.
    """

    events: list[ChainEvent]
    proofs: dict[Slot, ProofAttached]
    entries: Callable[[list[Entry]], list[Entry]] = list
    notes: Sequence[int] | None = None

    @property
    def start(self) -> RunStarted:
        assert isinstance(self.events[0], RunStarted)
        return self.events[0]

    def edit(self, kind: type[ChainEvent], step: int | None = None, **changes: Any) -> None:
        """Changes the events of a kind (and, for steps, of one number); of a start, also its first group or block."""
        self.events = [
            _changed(e, changes) if isinstance(e, kind) and (step is None or getattr(e, "step", None) == step) else e
            for e in self.events
        ]

    def step(self, number: int) -> StepCommitted:
        """The StepCommitted of this number."""
        (found,) = (e for e in self.events if isinstance(e, StepCommitted) and e.step == number)
        return found

    def commit(self, step: int, **points: Sequence[bytes]) -> None:
        """Puts other points (``post``, ``work``: one per shard) under a step's roots, and the paths into its proofs."""
        for name, found in points.items():
            root, paths = all_paths(found)
            self.edit(StepCommitted, step, **{"work_root" if name == "work" else "state_root": root})
            for shard, path in enumerate(paths):
                self.proofs[step, shard] = replace(self.proofs[step, shard], **{f"{name}_path": tuple(path)})

    def linked(self) -> tuple[list[ChainEvent], list[bytes]]:
        """The events, each naming the one before it, and their ids."""
        run_id = head = event_id(encode(self.events[0]))
        told: list[ChainEvent] = [self.events[0]]
        ids = [run_id]
        for event in self.events[1:]:
            assert not isinstance(event, RunStarted)
            told.append(replace(event, run_id=run_id, previous=head))
            head = event_id(encode(told[-1]))
            ids.append(head)
        return told, ids


@dataclass
class Case:
    """One copy of the sound run, to be forged and audited."""

    sound: SoundRun
    folder: Path
    verdicts: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]
    """Verification is pure, so its outcomes are shared between cases."""
    run_id: bytes = b""
    agree: bool = True
    """Whether an audit with ``--signatures chained`` has to say the same, word for word."""
    anchor_path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.run_id = self.run_id or self.sound.run_id
        self.log = LogFile(self.folder / "log.db")
        shutil.copyfile(self.sound.log_path, self.log.path)
        self.anchor_path = self.folder / "anchor"
        shutil.copyfile(self.sound.home.path / "anchor", self.anchor_path)
        self.insider = Insider(self.sound.home)

    @cached_property
    def circuits(self) -> CircuitStore:
        return CircuitStore(self.sound.home.path, None)

    @property
    def anchor_uri(self) -> str:
        return f"file:{self.anchor_path}"

    @property
    def policy(self) -> Policy:
        """What a careful auditor of this log pins: circuit, ledger key and anchor."""
        return replace(
            self.sound.home.policy(),
            ledger_keys=frozenset({self.insider.key("ledger").public_key}),
            anchors={open_anchor(self.anchor_uri).identity() or "": self.anchor_uri},
        )

    def audit(
        self, policy: Policy | None = None, live: bool = True, origin: str | None = ORIGIN, epoch: int | None = None
    ) -> Audit:
        """The audit of ``run_id`` under the pinned policy, or another."""
        out = self.audited("all", policy or self.policy, live, origin, epoch)
        if self.agree:
            other = self.audited("chained", policy or self.policy, live, origin, epoch)
            assert report(other) == report(out), f"{explain(out)}\n\nchained:\n{explain(other)}"
        return out

    def audited(
        self, mode: str, policy: Policy, live: bool = True, origin: str | None = ORIGIN, epoch: int | None = None
    ) -> Audit:
        """The audit in one mode of looking at signatures."""
        with open_event_log(f"{self.log.url}?mode=ro", create=False) as log:
            found = collect(log, self.run_id, policy, mode)
        anchors = [open_anchor(self.anchor_uri)] if live else []
        return audit(found, self.run_id, policy, self.circuits, self._verify, anchors, origin, epoch=epoch)

    def _verify(self, circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]]) -> list[Verdict]:
        return [self._verdict(circuit, proof, public) for proof, public in jobs]

    def _verdict(self, circuit: Circuit, proof: bytes, public: tuple[int, ...]) -> Verdict:
        key = (circuit.id, proof, public)
        if key not in self.verdicts:
            with Verifiers() as verifiers:
                try:
                    self.verdicts[key] = Verdict(verifiers(circuit, proof, public))
                except ZkAutogradError as error:
                    self.verdicts[key] = Verdict(None, str(error))
        return self.verdicts[key]

    def verify(self, circuit: Circuit, proof: bytes, public: tuple[int, ...]) -> Commitments:
        """What a ledger calls to verify a proof; answers from ``verdicts`` where it can."""
        verdict = self._verdict(circuit, proof, public)
        if verdict.commitments is None:
            raise VerificationError(verdict.reason)
        return verdict.commitments

    def run_ledger(self, rounds: int = 3) -> None:
        """Lets the real ledger go on with this log, as a new instance."""
        with open_event_log(self.log.url) as log:
            runner = self.ledger(log)
            for _ in range(rounds):
                runner.run_once(timeout=0.0)
            runner.close()

    def ledger(
        self, log: EventLog, tiles: Store | None = None, snapshot: Path | None = None, policy: Policy | None = None
    ) -> LedgerRunner:
        """A ledger instance over ``log`` with this home's key and policy; it saves a snapshot whenever it can."""
        home, key = self.sound.home, self.insider.key("ledger")
        chosen = policy or home.policy()
        circuits = CircuitStore(home.path, chosen.circuits)
        return LedgerRunner(log, chosen, key, ORIGIN, circuits, self.verify, Reporter(True), tiles, snapshot, 1)

    def proofs(self) -> dict[Slot, Record]:
        """The proofs' records by step and shard."""
        opened = ((r, o.event) for r, o in self.log.opened("proofs"))
        return {(e.step, e.shard): r for r, e in opened if isinstance(e, ProofAttached)}

    def leaves(self) -> list[bytes]:
        """The ledger's leaves as they are in the log."""
        return [o.body for _, o in self.log.opened("ledger")]

    def story(self) -> Story:
        """The run as the log tells it now."""
        events = [o.event for _, o in self.log.opened("steps") if isinstance(o.event, ChainEvent)]
        proofs = [o.event for _, o in self.log.opened("proofs") if isinstance(o.event, ProofAttached)]
        return Story(events, {(p.step, p.shard): p for p in proofs})

    def retell(self, story: Story) -> None:
        """Replaces the run, its ledger, checkpoints and anchor by the story's, all signed by the right keys."""
        log, sign = self.log, self.insider.seal
        told, ids = story.linked()
        self.run_id = ids[0]
        introductions = [r.value for r, o in log.opened("steps") if not isinstance(o.event, ChainEvent)]
        for topic in ("steps", "proofs", "ledger", "checkpoints", "anchors"):
            log.clear(topic)
        log.append("steps", *introductions, *(sign("steps", e) for e in told))
        proofs = {slot: replace(p, run_id=self.run_id) for slot, p in story.proofs.items()}
        log.append("proofs", *(sign("proofs", p) for p in proofs.values()))
        entries = story.entries(_honest_entries(told, ids, proofs))
        log.append("ledger", *(sign("ledger", e) for e in entries))
        leaves = [leaf_data(e) for e in entries]
        self.anchor_path = self.folder / f"anchor-{ids[0].hex()[:8]}-{len(list(self.folder.iterdir()))}"
        for size in story.notes if story.notes is not None else [2, len(leaves)]:
            self.sign_and_anchor(leaves[:size])

    def sign_and_anchor(self, leaves: Sequence[bytes]) -> None:
        """Appends a checkpoint of these leaves and the receipt of anchoring it."""
        (checkpoint,) = self.log.append("checkpoints", self.insider.checkpoint(leaves))
        self.anchor(checkpoint.value, leaves)

    def anchor(self, checkpoint: bytes, leaves: Sequence[bytes]) -> None:
        """Anchors a checkpoint and publishes the receipt."""
        opened, anchor, tree = decode_unverified("checkpoints", checkpoint), open_anchor(self.anchor_uri), Tree(leaves)
        assert isinstance(opened.event, CheckpointIssued)
        head = anchor.head()
        proof = tree.consistency_proof(head.size) if head else []
        receipt = anchor.advance(head, tree.size, tree.root(), opened.event.note, proof)
        at, identity = receipt.head, anchor.identity()
        assert identity is not None
        event = Anchored(identity, at.counter, at.size, at.root, opened.event_id, receipt.data)
        self.log.append("anchors", self.insider.seal("anchors", event))


def _changed(event: ChainEvent, changes: dict[str, Any]) -> ChainEvent:
    return declared(event, **changes) if isinstance(event, RunStarted) else replace(event, **changes)


def _honest_entries(told: list[ChainEvent], ids: list[bytes], proofs: dict[Slot, ProofAttached]) -> list[Entry]:
    """What the ledger would say of these events and proofs if it looked at none of them."""
    start, run_id = told[0], ids[0]
    assert isinstance(start, RunStarted)
    entries: list[Entry] = [RunOpened(run_id)]
    for event, name in zip(told[1:], ids[1:], strict=True):
        if isinstance(event, StepCommitted):
            row = [proofs.get((event.step, s)) for s in range(start.shards)]
            digest = proofs_digest([event_id(encode(p)) for p in row if p is not None])
            roots = (event.state_root, event.work_root)
            entries.append(StepProven(run_id, event.step, name, digest, NO_CHALLENGE, *roots))
            size, last = start.epoch_steps, event.step
            if size and (last % size == 0 or (isinstance(told[-1], RunFinished) and event is told[-2])):
                first = (last - 1) // size * size + 1
                before = start.state_root if first == 1 else told[first - 1].state_root  # type: ignore[union-attr]
                proven = [encode(e) for e in entries if isinstance(e, StepProven) and e.step >= first]
                number, closed = (last - 1) // size + 1, (before, event.state_root, name, Tree(proven).root())
                entries.append(EpochClosed(run_id, number, first, last, *closed))
        elif isinstance(event, RunFinished):
            entries.append(RunClosed(run_id, name, event.steps))
    return entries


def report(found: Audit) -> dict[str, Any]:
    """Everything that the audit says, but for how signatures were looked at."""
    return as_json(found, "") | {"signatures": None}


def violated(found: Audit) -> set[int]:
    """The numbers of the checks that did not hold."""
    return {c.number for c in found.checks if c.status is Status.VIOLATED}


def explain(found: Audit) -> str:
    """Every finding, for a test's message."""
    lines = [f"{c.number} {c.status} {c.detail}: {'; '.join(c.findings)}" for c in found.checks]
    return f"exit code {found.exit_code}\n" + "\n".join(lines)
