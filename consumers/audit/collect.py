"""Gathers one run from the public topics: checks 0 (strict decoding) and 1 (signatures and key evidence).

Whoever can write to a topic can write anything, and play any record again. So only what an accepted key signed counts,
and each event once, however often and wherever it stands. The rest is *noise*. If it is one of the ledger's inputs and
the ledger has published it as a dead letter, it was noise from the beginning, and is only counted. Else it may be a
stranger's, or what is left of a record that was damaged later: no proof of a violation, and no sound log either.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace

from consumers.audit.reading import Item, Place, read_topics
from ledger.checkpoint import parse_checkpoint
from ledger.entries import Entry
from schemas.events import (
    Anchored,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    Event,
    ProofAttached,
    Role,
    RunFinished,
    RunStarted,
    StepCommitted,
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
    """One run's events, opened: steps in the order of their numbers, the rest in topic order; see the module's text.

    Attributes:
        noise: records that no accepted key signed for this topic and run, and that the ledger has not refused.
        refused: how many of these the ledger has refused.
        repeated: how many records say again what another says.
        named: whether a record that was not accepted claims to be the run's.
    """

    ring: KeyRing
    policy: Policy
    noise: list[Finding] = field(default_factory=list)
    refused: int = 0
    repeated: int = 0
    named: bool = False
    runs: dict[bytes, str] = field(default_factory=dict)
    start: Opened[RunStarted] | None = None
    chain: list[Opened[StepCommitted | RunFinished]] = field(default_factory=list)
    proofs: dict[tuple[int, int], list[Opened[ProofAttached]]] = field(default_factory=lambda: defaultdict(list))
    ledger: list[Opened[Entry]] = field(default_factory=list)
    checkpoints: list[Opened[CheckpointIssued]] = field(default_factory=list)
    anchored: list[Opened[Anchored]] = field(default_factory=list)
    records: int = 0
    used_keys: set[bytes] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)


def collect(log: EventLog, run_id: bytes, policy: Policy) -> Collected:
    """Everything the public topics hold about the run and the shared log."""
    topics = read_topics(log, run_id)
    roots = _roots_in(topics.steps) if policy.first_use else policy.roots
    # Evidence of every class is looked at here; which classes count is check 11.
    ring_policy = replace(policy, evidence_classes=frozenset(CLASSES), roots=roots)
    found = Collected(KeyRing(ring_policy), ring_policy, records=len(topics))
    for item in topics.steps:
        _introduce(found, item)
    refused = _letters(found, topics.letters)
    for item in (*sorted(topics.steps, key=_rank), *topics.proofs, *topics.checkpoints):
        _take(found, item, run_id, refused)
    covered = _covered(found)
    for number, item in enumerate(topics.ledger):
        # Entries without their checkpoint came while this was read. Leaves count, not records: anyone can copy those.
        if number < topics.settled or len(found.ledger) < covered:
            _take(found, item, run_id, refused)
    for item in topics.anchors:
        _take(found, item, run_id, refused)
    return found


def _rank(item: Item) -> int:
    """Starts, then steps by number, then ends: partitions have no common order, and copies may stand in any."""
    event = item.claimed.event if item.claimed else None
    if isinstance(event, StepCommitted):
        return event.step
    return 1 << 62 if isinstance(event, RunFinished) else 0


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
        # A key without good evidence is one that is not known; a bad signature becomes noise below.
        with suppress(VerificationError):
            found.ring.introduce(open_introduction("steps", item.value))


def _letters(found: Collected, items: list[Item]) -> set[Place]:
    """What the ledger has refused. No other role's word excuses a record, and no word excuses the ledger's own."""
    letters = set()
    for item in items:
        try:
            opened = found.ring.open("dead-letters", item.value)
        except (DecodeError, VerificationError):
            continue  # a letter by nobody excuses nothing
        event, signer, pinned = opened.event, found.ring.keys[opened.key_id], found.policy.ledger_keys
        excuses = signer.role is Role.LEDGER and (pinned is None or signer.public_key in pinned)
        if isinstance(event, DeadLetter) and event.source_topic in LEDGER_INPUTS and excuses:
            letters.add((event.source_topic, event.partition, event.offset, event.digest))
    return letters


def _take(found: Collected, item: Item, run_id: bytes, refused: set[Place]) -> None:
    """Keeps what is the run's or the shared log's, once."""
    try:
        if item.claimed is None:
            raise DecodeError(item.why)
        opened = _open(found, item, item.claimed, run_id)
    except (DecodeError, VerificationError) as error:
        found.named |= item.claimed is not None and _names(item.claimed, run_id)
        if item.place in refused:
            found.refused += 1
        else:
            found.noise.append(Finding(0 if item.claimed is None else 1, item.at(error)))
        return
    if opened is None:
        return
    if opened.event_id in found.seen:
        found.repeated += 1
    else:
        found.seen.add(opened.event_id)
        _keep(found, opened)


def _names(claimed: Opened[Event], run_id: bytes) -> bool:
    return run_id in (claimed.event_id, getattr(claimed.event, "run_id", None))


def _open(found: Collected, item: Item, claimed: Opened[Event], run_id: bytes) -> Opened[Event] | None:
    """The event, if it is about the run or the shared log."""
    if isinstance(claimed.event, EnclaveAttested):
        open_introduction("steps", item.value)
        return None
    opened = found.ring.open_decoded(item.place[0], claimed)
    event, start = opened.event, found.start
    if isinstance(event, RunStarted):
        found.runs[opened.event_id] = event.name
        return opened if opened.event_id == run_id else None
    if isinstance(event, StepCommitted | RunFinished) and start is not None and opened.key_id != start.key_id:
        # Any trainer can sign about any run: these are not the run's words.
        what = f"step {event.step}" if isinstance(event, StepCommitted) else "the end"
        raise VerificationError(f"{what}: signed by another key than the run's start")
    return opened


def _keep(found: Collected, opened: Opened[Event]) -> None:
    event = opened.event
    found.used_keys.add(opened.key_id)
    if isinstance(event, RunStarted):
        found.start = opened  # type: ignore[assignment]
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
