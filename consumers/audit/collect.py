"""Reads the public topics for one run: checks 0 (strict decoding) and 1 (signatures and key evidence).

What is not about the run and not about the shared log (ledger, checkpoints, anchors) is left alone. A record that
cannot be taken is a finding, unless it is one of the ledger's inputs and the ledger has published it as a dead letter:
then it is known to have been refused, and is only counted.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ledger.checkpoint import parse_checkpoint
from schemas.events import (
    Anchored,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    Event,
    ProofAttached,
    Role,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    StepCommitted,
    StepProven,
)
from schemas.keyring import KeyRing
from schemas.signing import Opened, decode_unverified, open_introduction
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.policy import CLASSES, Policy

LEDGER_INPUTS = ("steps", "proofs")
"""What the ledger reads, and so may refuse."""


@dataclass(frozen=True)
class Finding:
    """Something that does not hold: which check, and where and why."""

    check: int
    text: str


@dataclass
class Collected:
    """One run's events, opened, in topic order; see the module docstring."""

    ring: KeyRing
    policy: Policy
    findings: list[Finding] = field(default_factory=list)
    runs: dict[bytes, str] = field(default_factory=dict)
    start: Opened[RunStarted] | None = None
    chain: list[Opened[StepCommitted | RunFinished]] = field(default_factory=list)
    proofs: dict[tuple[int, int], list[Opened[ProofAttached]]] = field(default_factory=lambda: defaultdict(list))
    ledger: list[Opened[RunOpened | StepProven | RunClosed]] = field(default_factory=list)
    checkpoints: list[Opened[CheckpointIssued]] = field(default_factory=list)
    anchored: list[Opened[Anchored]] = field(default_factory=list)
    records: int = 0
    refused: int = 0
    used_keys: set[bytes] = field(default_factory=set)


def collect(log: EventLog, run_id: bytes, policy: Policy) -> Collected:
    """Everything the public topics hold about the run, and findings of checks 0 and 1.

    The log may grow meanwhile. So effects are read before their causes, and whatever is seen has its reasons in what is
    read later: receipts, ledger, checkpoints, proofs, steps, and last what the ledger has refused.
    """
    anchors = _read(log, "anchors", run_id)
    with log.reader(["ledger"]) as reader:
        entries = [_kept(r) for r in reader.read_to_end()]
        settled = len(entries)
        checkpoints = _read(log, "checkpoints", run_id)
        # The entries of every checkpoint just read are there now, and perhaps newer ones, which are cut off below.
        entries += [_kept(r) for r in reader.read_to_end()]
    proofs, steps = _read(log, "proofs", run_id), _read(log, "steps", run_id)
    letters = _read(log, "dead-letters", run_id)

    roots = _roots_in(steps) if policy.first_use else policy.roots
    # Evidence of every class is looked at here; which classes count is check 11.
    ring_policy = replace(policy, evidence_classes=frozenset(CLASSES), roots=roots)
    found = Collected(KeyRing(ring_policy), ring_policy)
    for item in steps:
        _introduce(found, item)
    refused = _letters(found, letters)
    for item in (*steps, *proofs):
        _take(found, item, run_id, refused)
    for item in checkpoints:
        _take(found, item, run_id, refused)
    for item in entries[: max(settled, _covered(found))]:
        _take(found, item, run_id, refused)
    for item in anchors:
        _take(found, item, run_id, refused)
    found.records = sum(map(len, (steps, proofs, entries, checkpoints, anchors, letters)))
    return found


@dataclass(frozen=True, slots=True)
class _Unread:
    """A record that does not decode: where it is and what it was, without its bytes, of which there may be many."""

    topic: str
    partition: int
    offset: int
    digest: bytes
    why: str


_Item: TypeAlias = Record | _Unread


def _read(log: EventLog, topic: str, run_id: bytes) -> list[_Item]:
    """The topic's records, but for those of other runs, of which only the starts are kept."""
    with log.reader([topic]) as reader:
        items = (_kept(record) for record in reader.read_to_end())
        return [item for item in items if not _of_another(item, run_id)]


def _kept(record: Record) -> _Item:
    try:
        decode_unverified(record.topic, record.value)
    except DecodeError as error:
        digest = hashlib.sha256(record.value).digest()
        return _Unread(record.topic, record.partition, record.offset, digest, str(error))
    return record


def _of_another(item: _Item, run_id: bytes) -> bool:
    if isinstance(item, _Unread) or item.topic not in LEDGER_INPUTS:
        return False
    event = decode_unverified(item.topic, item.value).event
    return isinstance(event, StepCommitted | RunFinished | ProofAttached) and event.run_id != run_id


def _covered(found: Collected) -> int:
    """The largest size that a checkpoint claims; whether it is right is for check 8."""
    sizes = [0]
    for opened in found.checkpoints:
        with suppress(DecodeError):
            sizes.append(parse_checkpoint(opened.event.note).size)
    return max(sizes)


def _roots_in(items: list[_Item]) -> dict[str, frozenset[bytes]]:
    """Trust on first use: the roots that the log's own introductions name."""
    events = (decode_unverified("steps", i.value).event for i in items if isinstance(i, Record))
    return {"SIMULATED": frozenset(e.evidence[:32] for e in events if isinstance(e, EnclaveAttested))}


def _introduce(found: Collected, item: _Item) -> None:
    if isinstance(item, Record) and isinstance(decode_unverified("steps", item.value).event, EnclaveAttested):
        # A key without good evidence is one that is not known; a bad signature becomes a finding below.
        with suppress(VerificationError):
            found.ring.introduce(open_introduction("steps", item.value))


def _letters(found: Collected, items: list[_Item]) -> set[tuple[str, int, int, bytes]]:
    """What the ledger has refused. No other role's word excuses a record, and no word excuses the ledger's own."""
    letters = set()
    for item in items:
        if isinstance(item, _Unread):
            found.findings.append(Finding(0, _where(item, item.why)))
            continue
        try:
            opened = found.ring.open("dead-letters", item.value)
        except VerificationError as error:
            found.findings.append(Finding(1, _where(item, error)))
            continue
        event, signer, pinned = opened.event, found.ring.keys[opened.key_id], found.policy.ledger_keys
        excuses = signer.role is Role.LEDGER and (pinned is None or signer.public_key in pinned)
        if isinstance(event, DeadLetter) and event.source_topic in LEDGER_INPUTS and excuses:
            letters.add((event.source_topic, event.partition, event.offset, event.digest))
    return letters


def _where(item: _Item, why: object) -> str:
    return f"{item.topic}/{item.partition}@{item.offset}: {why}"


def _take(found: Collected, item: _Item, run_id: bytes, refused: set[tuple[str, int, int, bytes]]) -> None:
    if isinstance(item, _Unread):
        check, digest, why = 0, item.digest, item.why
    else:
        try:
            _open(found, item, run_id)
            return
        except VerificationError as error:
            check, digest, why = 1, hashlib.sha256(item.value).digest(), str(error)
    if (item.topic, item.partition, item.offset, digest) in refused:
        found.refused += 1
    else:
        found.findings.append(Finding(check, _where(item, why)))


def _open(found: Collected, record: Record, run_id: bytes) -> None:
    claimed = decode_unverified(record.topic, record.value)
    if isinstance(claimed.event, EnclaveAttested):
        open_introduction(record.topic, record.value)
        return
    if isinstance(claimed.event, RunStarted):
        found.runs[claimed.event_id] = claimed.event.name
        if claimed.event_id != run_id:
            return
    opened = found.ring.open(record.topic, record.value)
    found.used_keys.add(opened.key_id)
    _keep(found, opened, record)


def _keep(found: Collected, opened: Opened[Event], record: Record) -> None:
    event = opened.event
    if isinstance(event, RunStarted):
        if found.start is not None:
            found.findings.append(Finding(3, f"steps/{record.partition}@{record.offset}: the run is started twice"))
        found.start = found.start or opened  # type: ignore[assignment]
    elif isinstance(event, StepCommitted | RunFinished):
        found.chain.append(opened)  # type: ignore[arg-type]
    elif isinstance(event, ProofAttached):
        found.proofs[event.step, event.shard].append(opened)  # type: ignore[arg-type]
    elif isinstance(event, CheckpointIssued):
        found.checkpoints.append(opened)  # type: ignore[arg-type]
    elif isinstance(event, Anchored):
        found.anchored.append(opened)  # type: ignore[arg-type]
    else:
        found.ledger.append(opened)  # type: ignore[arg-type]
