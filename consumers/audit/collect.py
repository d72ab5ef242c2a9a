"""Reads the public topics for one run: checks 0 (strict decoding) and 1 (signatures and key evidence).

What is not about the run and not about the shared log (ledger, checkpoints, anchors) is left alone. A record that
cannot be taken is a finding, unless it is one of the ledger's inputs and the ledger has published it as a dead letter:
then it is known to have been refused, and is only counted.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace

from consumers.audit.reading import Item, Place, read_topics
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
from schemas.signing import Opened, open_introduction
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog
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
    seen: set[bytes] = field(default_factory=set)


def collect(log: EventLog, run_id: bytes, policy: Policy) -> Collected:
    """Everything the public topics hold about the run, and findings of checks 0 and 1."""
    topics = read_topics(log, run_id)
    roots = _roots_in(topics.steps) if policy.first_use else policy.roots
    # Evidence of every class is looked at here; which classes count is check 11.
    ring_policy = replace(policy, evidence_classes=frozenset(CLASSES), roots=roots)
    found = Collected(KeyRing(ring_policy), ring_policy, records=len(topics))
    for item in topics.steps:
        _introduce(found, item)
    refused = _letters(found, topics.letters)
    for item in (*_in_order(topics.steps, refused), *topics.proofs, *topics.checkpoints):
        _take(found, item, run_id, refused)
    for item in (*topics.ledger[: max(topics.settled, _covered(found))], *topics.anchors):
        _take(found, item, run_id, refused)
    return found


def _in_order(steps: list[Item], refused: set[Place]) -> list[Item]:
    """The start first, whatever its partition; and a refused copy after what it is a copy of."""
    taken = {i.claimed.event_id for i in steps if i.claimed and i.place not in refused}

    def rank(item: Item) -> tuple[bool, bool]:
        copy = item.claimed is not None and item.claimed.event_id in taken and item.place in refused
        return copy, item.claimed is None or not isinstance(item.claimed.event, RunStarted)

    return sorted(steps, key=rank)


def _covered(found: Collected) -> int:
    """The largest size that a checkpoint claims; whether it is right is for check 8."""
    sizes = [0]
    for opened in found.checkpoints:
        with suppress(DecodeError):
            sizes.append(parse_checkpoint(opened.event.note).size)
    return max(sizes)


def _roots_in(items: list[Item]) -> dict[str, frozenset[bytes]]:
    """Trust on first use: the roots that the log's own introductions name."""
    events = (item.claimed.event for item in items if item.claimed)
    return {"SIMULATED": frozenset(e.evidence[:32] for e in events if isinstance(e, EnclaveAttested))}


def _introduce(found: Collected, item: Item) -> None:
    if item.claimed and isinstance(item.claimed.event, EnclaveAttested):
        # A key without good evidence is one that is not known; a bad signature becomes a finding below.
        with suppress(VerificationError):
            found.ring.introduce(open_introduction("steps", item.value))


def _letters(found: Collected, items: list[Item]) -> set[Place]:
    """What the ledger has refused. No other role's word excuses a record, and no word excuses the ledger's own."""
    letters = set()
    for item in items:
        if item.claimed is None:
            found.findings.append(Finding(0, item.at(item.why)))
            continue
        try:
            opened = found.ring.open("dead-letters", item.value)
        except VerificationError as error:
            found.findings.append(Finding(1, item.at(error)))
            continue
        event, signer, pinned = opened.event, found.ring.keys[opened.key_id], found.policy.ledger_keys
        excuses = signer.role is Role.LEDGER and (pinned is None or signer.public_key in pinned)
        if isinstance(event, DeadLetter) and event.source_topic in LEDGER_INPUTS and excuses:
            letters.add((event.source_topic, event.partition, event.offset, event.digest))
    return letters


def _take(found: Collected, item: Item, run_id: bytes, refused: set[Place]) -> None:
    finding = _tried(found, item, run_id)
    if finding is None:
        return
    if item.place in refused:
        found.refused += 1
    else:
        found.findings.append(finding)


def _tried(found: Collected, item: Item, run_id: bytes) -> Finding | None:
    """Keeps what is the run's or the shared log's; or says why it cannot."""
    if item.claimed is None:
        return Finding(0, item.at(item.why))
    try:
        opened = _open(found, item, item.claimed, run_id)
    except VerificationError as error:
        return Finding(1, item.at(error))
    if opened is None:
        return None
    finding = _foreign(found, opened, item)
    if finding is None:
        _keep(found, opened)
    return finding


def _open(found: Collected, item: Item, claimed: Opened[Event], run_id: bytes) -> Opened[Event] | None:
    """The event, if it is about the run or the shared log."""
    if isinstance(claimed.event, EnclaveAttested):
        open_introduction("steps", item.value)
        return None
    if isinstance(claimed.event, RunStarted):
        found.runs[claimed.event_id] = claimed.event.name
        if claimed.event_id != run_id:
            return None
    return found.ring.open(item.place[0], item.value)


def _foreign(found: Collected, opened: Opened[Event], item: Item) -> Finding | None:
    """A finding about a step that is well signed and yet none of the run's words: anyone can play a record again, and
    any trainer can sign about any run. So the ledger's refusal excuses it, as it never does what the run's key said."""
    event, start = opened.event, found.start
    if isinstance(event, RunStarted) and start is not None:
        return Finding(3, item.at("the run is started twice"))
    if isinstance(event, StepCommitted | RunFinished):
        what = f"step {event.step}" if isinstance(event, StepCommitted) else "the end"
        if start is not None and opened.key_id != start.key_id:
            return Finding(3, item.at(f"{what}: signed by another key than the run's start"))
        if opened.event_id in found.seen:
            return Finding(3, item.at(f"{what}: repeated"))
    return None


def _keep(found: Collected, opened: Opened[Event]) -> None:
    event = opened.event
    found.used_keys.add(opened.key_id)
    if isinstance(event, RunStarted):
        found.start = opened  # type: ignore[assignment]
    elif isinstance(event, StepCommitted | RunFinished):
        found.seen.add(opened.event_id)
        found.chain.append(opened)  # type: ignore[arg-type]
    elif isinstance(event, ProofAttached):
        found.proofs[event.step, event.shard].append(opened)  # type: ignore[arg-type]
    elif isinstance(event, CheckpointIssued):
        found.checkpoints.append(opened)  # type: ignore[arg-type]
    elif isinstance(event, Anchored):
        found.anchored.append(opened)  # type: ignore[arg-type]
    else:
        found.ledger.append(opened)  # type: ignore[arg-type]
