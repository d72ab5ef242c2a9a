"""Gathers one run from the public topics: checks 0 (strict decoding) and 1 (signatures and key evidence).

Whoever can write to a topic can write anything, and play any record again. So only what an accepted key signed counts,
and each event once, however often and wherever it stands. The rest is *noise*. If it is one of the ledger's inputs and
the ledger has published it as a dead letter, it was noise from the beginning, and is only counted. Else it may be a
stranger's, or what is left of a record that was damaged later: no proof of a violation, and no sound log either.

Steps, proofs and entries are kept on the disk (``kept.py``): memory does not grow with their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

from consumers.audit.collected import Collected
from consumers.audit.reading import Item, Topics, item_of, open_topics
from consumers.audit.signatures import ByCheckpoints, Judge, Refusal, Root
from consumers.audit.workers import Workers
from ledger.checkpoint import parse_checkpoint
from ledger.entries import Entry, proofs_digest
from schemas.avro import HEADER_BYTES, SCHEMAS
from schemas.events import (
    DeadLetter,
    EnclaveAttested,
    Event,
    EvidenceClass,
    Role,
    RunStarted,
    StepCommitted,
)
from schemas.keyring import KeyRing
from schemas.signing import Opened, looks_like, open_introduction
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.policy import CLASSES, Policy

LEDGER_INPUTS = ("steps", "proofs")
"""What the ledger reads, and so may refuse."""

_INTRODUCTION = SCHEMAS[EnclaveAttested].header
"""Stands near the beginning of every introduction, behind the envelope's own header and a length."""


def collect(
    log: EventLog, run_id: bytes, policy: Policy, mode: str = "all", workers: Workers | None = None
) -> Collected:  # fmt: skip
    """Everything the public topics hold about the run and the shared log.

    Args:
        mode: which signatures are verified: see :mod:`consumers.audit.signatures`.
        workers: where they are; None means here.
    """
    own = workers or Workers(0)
    with ExitStack() as stack:
        topics = open_topics(log, stack)
        found = _heads(topics.heads, run_id, policy, mode)
        judge = Judge(found.ring, run_id, own, mode)
        _letters(found, judge, topics.letters)
        _steps(found, judge, topics.steps)
        _listed(found, judge, "checkpoints", topics.checkpoints)
        _ledger(found, judge, topics)
        _proofs(found, judge, topics.proofs)
        _listed(found, judge, "anchors", topics.anchors)
        found.records += judge.records
    return found


def started_runs(log: EventLog, policy: Policy) -> dict[bytes, str]:
    """The runs that have started, by id with their names."""
    with ExitStack() as stack:
        steps, heads = (stack.enter_context(log.reader(["steps"])).read_to_end() for _ in range(2))
        found = _heads(heads, bytes(32), policy, "all")
        _steps(found, Judge(found.ring, bytes(32), Workers(0), "all"), (
            record for record in steps if looks_like(record.value, RunStarted)
        ))  # fmt: skip
    return found.runs


def _heads(records: Iterator[Record], run_id: bytes, policy: Policy, mode: str) -> Collected:
    """The keys that are introduced, with their evidence; of two words on one key the first counts, by its place."""
    # Evidence of every class is looked at here; which classes count is check 11.
    ring_policy = replace(policy, evidence_classes=frozenset(CLASSES))
    good: dict[bytes, tuple[int, int]] = {}
    roots: set[bytes] = set()
    for record in records:
        if _INTRODUCTION not in record.value[: 3 * HEADER_BYTES] or not looks_like(record.value, EnclaveAttested):
            continue
        # A key without good evidence is one that is not known; a bad signature becomes noise later.
        with suppress(DecodeError, VerificationError):
            introduction = open_introduction("steps", record.value)
            root = introduction.event.evidence[:32]
            # Trust on first use: the roots that the log's own introductions name, whoever signed them.
            own = replace(ring_policy, roots={"SIMULATED": frozenset({root})}) if policy.first_use else ring_policy
            # Strangers may bring any number that are not good.
            KeyRing(own).introduce(introduction)
            if introduction.event.evidence_class is EvidenceClass.SIMULATED:
                roots.add(root)
            place = (record.partition, record.offset)
            good[record.value] = min(place, good.get(record.value, place))
    if policy.first_use:
        ring_policy = replace(ring_policy, roots={"SIMULATED": frozenset(roots)})
    found = Collected(KeyRing(ring_policy), ring_policy, run_id, mode)
    for value, _ in sorted(good.items(), key=lambda one: one[1]):
        with suppress(VerificationError):
            found.ring.introduce(open_introduction("steps", value))
    return found


def _letters(found: Collected, judge: Judge, records: Iterator[Record]) -> None:
    """What the ledger has refused. No other role's word excuses a record, and no word excuses the ledger's own."""
    pinned = found.policy.ledger_keys
    for _, opened in judge.judged("dead-letters", records):
        if not isinstance(opened, Opened):
            continue  # a letter by nobody excuses nothing
        event, signer = opened.event, found.ring.keys[opened.key_id]
        excuses = signer.role is Role.LEDGER and (pinned is None or signer.public_key in pinned)
        if isinstance(event, DeadLetter) and event.source_topic in LEDGER_INPUTS and excuses:
            found.unaccepted.letter((event.source_topic, event.partition, event.offset, event.digest))


def _steps(found: Collected, judge: Judge, records: Iterator[Record]) -> None:
    first = (0, 0)
    for record, what in judge.glanced("steps", records):
        if isinstance(what, tuple):
            found.chain.add(what, record.value, record.partition, record.offset)
        elif not isinstance(what, Opened):
            found.refuse(item_of(record), what)
        elif isinstance(what.event, RunStarted):
            found.runs[what.event_id] = what.event.name
            if what.event_id != found.run_id:
                continue
            found.repeated += found.start is not None
            if found.start is None or (record.partition, record.offset) < first:
                found.start, first = what, (record.partition, record.offset)  # type: ignore[assignment]
                found.used_keys.add(what.key_id)
    _settle_steps(found)


def _settle_steps(found: Collected) -> None:
    """Each event once, by number; any trainer can sign about any run: these are not the run's words."""
    chain, start = found.chain, found.start
    if not (chain.ascending and (start is None or chain.keys <= {start.key_id})):
        kept, ids, keys = list[int](), set[bytes](), set[bytes]()
        for index, other in chain.sort():
            opened = chain.sealed[index]
            ids = set() if other else ids
            if start is not None and opened.key_id != start.key_id:
                event = opened.event
                what = f"step {event.step}" if isinstance(event, StepCommitted) else "the end"
                value, place = chain.sealed.value(index), (chain.partitions[index], chain.offsets[index])
                found.refuse(Item("steps", *place, value), f"{what}: signed by another key than the run's start")
            elif opened.event_id in ids:
                found.repeated += 1
            else:
                ids.add(opened.event_id)
                keys.add(opened.key_id)
                kept.append(index)
        chain.keep(kept, keys)
    found.used_keys |= chain.keys


def _listed(found: Collected, judge: Judge, topic: str, records: Iterator[Record]) -> None:
    """Checkpoints or receipts, in the order of the log."""
    # Of each the first record, by its place: whoever can write to a topic can play one any number of times.
    first = dict[bytes, tuple[tuple[int, int], Opened[Event]]]()
    for item, opened in judge.judged(topic, records):
        if not isinstance(opened, Opened):
            found.refuse(item, opened)
            continue
        place, known = (item.partition, item.offset), first.get(opened.event_id)
        found.repeated += known is not None
        if known is None or place < known[0]:
            first[opened.event_id] = place, opened
    once = [event for _, event in sorted(first.values(), key=lambda one: one[0])]
    found.used_keys |= {event.key_id for event in once}
    (found.checkpoints if topic == "checkpoints" else found.anchored).extend(once)  # type: ignore[arg-type]


def _ledger(found: Collected, judge: Judge, topics: Topics) -> None:
    """Entries without their checkpoint came while this was read. Leaves count, not records: anyone can copy those."""
    roots: dict[int, list[Root]] = {}
    for issued in found.checkpoints:
        with suppress(DecodeError):
            checkpoint = parse_checkpoint(issued.event.note)
            roots.setdefault(checkpoint.size, []).append((checkpoint.root, issued.key_id))
    covered = max(roots, default=0)

    def take(item: Item, opened: Opened[Entry]) -> None:
        found.used_keys.add(opened.key_id)
        found.ledger.add(opened, item.value)

    if judge.chained:
        rule = ByCheckpoints(judge, found.ledger, roots, take, found.refuse, found.repeat)
        for records, most in ((topics.settled, None), (topics.ledger, covered)):
            for record in records:
                judge.records += 1
                if most is None or rule.size < most:
                    rule.take(item_of(record))
        rule.finish()
        return

    def judged(item: Item, opened: Opened[Event] | Refusal) -> None:
        if not isinstance(opened, Opened):
            found.refuse(item, opened)
        elif found.ledger.has(opened):  # type: ignore[arg-type]
            found.repeated += 1
        else:
            take(item, opened)  # type: ignore[arg-type]

    for item, opened in judge.judged("ledger", topics.settled):
        judged(item, opened)
    for item, opened in judge.judged("ledger", topics.ledger):
        if len(found.ledger) < covered:
            judged(item, opened)


def _proofs(found: Collected, judge: Judge, records: Iterator[Record]) -> None:
    for record, what in judge.glanced("proofs", records):
        if not isinstance(what, tuple):
            found.refuse(item_of(record), what)
        elif not found.proofs.add(what, record.value, record.partition, record.offset):
            _repeat(found, judge, item_of(record))
    if judge.chained or not found.proofs.ascending:
        _settle_proofs(found, judge)
    found.used_keys |= found.proofs.signers()


def _repeat(found: Collected, judge: Judge, item: Item) -> None:
    """A copy of a proof; where signatures are not looked at yet, it may be one of a record that will be refused."""
    try:
        if judge.chained:
            judge.open("proofs", item)
        found.repeat(item)
    except VerificationError as error:
        found.refuse(item, error)


def _settle_proofs(found: Collected, judge: Judge) -> None:
    """Of each event only the first record, by its place; with ``chained`` also what each is taken on.

    That is the ledger's entry for its step, where it names just the proofs that are there, of each shard one; else its
    own signature. Two records of one event may be by different keys, and the entry names only the event.
    """
    proofs, entries = found.proofs, found.ledger.by_step()
    entered, digest = next(entries, (0, b""))
    for step, rows in proofs.by_step():
        while 0 < entered < step:
            entered, digest = next(entries, (0, b""))
        sure = not judge.chained or (
            entered == step
            and len({shard for shard, _ in rows}) == len(rows)
            and digest == proofs_digest([proofs.ids[index] for _, index in rows])
        )
        seen = set[bytes]()
        for _, index in rows:
            if not sure and not _holds(found, judge, index):
                continue
            if proofs.ids[index] in seen:
                found.repeated += 1
                proofs.drop(index)
            seen.add(proofs.ids[index])


def _holds(found: Collected, judge: Judge, index: int) -> bool:
    """Whether a proof's own signature holds; if not, it is out."""
    proofs = found.proofs
    item = Item("proofs", proofs.partitions[index], proofs.offsets[index], proofs.sealed.value(index))
    try:
        judge.open("proofs", item)
    except VerificationError as error:
        found.refuse(item, error)
        proofs.drop(index)
        return False
    return True
