"""Reads the public topics for one run: checks 0 (strict decoding) and 1 (signatures and key evidence).

What is not about the run and not about the shared log (ledger, checkpoints, anchors) is left alone. A record that
cannot be taken is a finding, unless it is one of the ledger's inputs and the ledger has published it as a dead letter:
then it is known to have been refused, and is only counted.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TypeVar

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

E = TypeVar("E", bound=Event)

PUBLIC_TOPICS = ("steps", "proofs", "ledger", "checkpoints", "anchors", "dead-letters")
LEDGER_INPUTS = ("steps", "proofs")


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
    """Everything the public topics hold about the run, and findings of checks 0 and 1."""
    records = _read(log)
    roots = _roots_in(records["steps"]) if policy.first_use else policy.roots
    # Evidence of every class is looked at here; which classes count is check 11.
    ring_policy = replace(policy, evidence_classes=frozenset(CLASSES), roots=roots)
    found = Collected(KeyRing(ring_policy), ring_policy)
    found.records = sum(map(len, records.values()))
    for record in records["steps"]:
        _introduce(found, record)
    letters = _letters(found, records["dead-letters"])
    for topic in PUBLIC_TOPICS[:-1]:
        for record in records[topic]:
            try:
                _take(found, topic, record, run_id)
            except (DecodeError, VerificationError) as error:
                if (topic, record.partition, record.offset, hashlib.sha256(record.value).digest()) in letters:
                    found.refused += 1
                    continue
                check = 0 if isinstance(error, DecodeError) else 1
                found.findings.append(Finding(check, f"{topic}/{record.partition}@{record.offset}: {error}"))
    return found


def _read(log: EventLog) -> dict[str, list[Record]]:
    out: dict[str, list[Record]] = {}
    for topic in PUBLIC_TOPICS:
        with log.reader([topic]) as reader:
            out[topic] = list(reader.read_to_end())
    return out


def _roots_in(records: list[Record]) -> dict[str, frozenset[bytes]]:
    """Trust on first use: the roots that the log's own introductions name."""
    roots = set()
    for record in records:
        try:
            event = decode_unverified("steps", record.value).event
        except DecodeError:
            continue
        if isinstance(event, EnclaveAttested):
            roots.add(event.evidence[:32])
    return {"SIMULATED": frozenset(roots)}


def _introduce(found: Collected, record: Record) -> None:
    try:
        if isinstance(decode_unverified("steps", record.value).event, EnclaveAttested):
            found.ring.introduce(open_introduction("steps", record.value))
    except (DecodeError, VerificationError):
        return  # undecodable records become findings below; a key without good evidence is one that is not known


def _letters(found: Collected, records: list[Record]) -> set[tuple[str, int, int, bytes]]:
    """What the ledger has refused. No other role's word excuses a record, and no word excuses the ledger's own."""
    letters = set()
    for record in records:
        try:
            opened = found.ring.open("dead-letters", record.value)
        except (DecodeError, VerificationError) as error:
            check = 0 if isinstance(error, DecodeError) else 1
            found.findings.append(Finding(check, f"dead-letters/{record.partition}@{record.offset}: {error}"))
            continue
        event, signer = opened.event, found.ring.keys[opened.key_id]
        allowed = found.policy.ledger_keys is None or signer.public_key in found.policy.ledger_keys
        if (
            isinstance(event, DeadLetter)
            and event.source_topic in LEDGER_INPUTS
            and signer.role is Role.LEDGER
            and allowed
        ):
            letters.add((event.source_topic, event.partition, event.offset, event.digest))
    return letters


def _take(found: Collected, topic: str, record: Record, run_id: bytes) -> None:
    claimed = decode_unverified(topic, record.value)
    event = claimed.event
    if isinstance(event, EnclaveAttested):
        open_introduction(topic, record.value)
        return
    if isinstance(event, RunStarted):
        found.runs[claimed.event_id] = event.name
        if claimed.event_id != run_id:
            return
    elif isinstance(event, StepCommitted | RunFinished | ProofAttached) and event.run_id != run_id:
        return
    opened = found.ring.open(topic, record.value)
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
