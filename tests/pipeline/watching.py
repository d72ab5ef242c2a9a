"""What the public topics hold, seen while it happens and once more at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from schemas.events import (
    Anchored,
    CheckpointIssued,
    DeadLetter,
    Event,
    ProofAttached,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    StepCommitted,
    StepProven,
)
from schemas.signing import decode_unverified
from schemas.topics import TOPICS
from schemas.wire import open_event_log
from zk_autograd.eventlog.base import Record
from zk_autograd.eventlog.kafka_config import KafkaConfig

PUBLIC = ["steps", "claims", "proofs", "ledger", "checkpoints", "anchors", "dead-letters"]


@dataclass(frozen=True)
class Seen:
    """One record and the event in it."""

    record: Record
    event: Event
    event_id: bytes
    key_id: bytes


@dataclass
class Contents:
    """Records of the public topics, each topic in order of partition and offset, or in the order they were seen."""

    seen: list[Seen] = field(default_factory=list)

    def add(self, records: list[Record]) -> None:
        for record in records:
            opened = decode_unverified(record.topic, record.value)
            self.seen.append(Seen(record, opened.event, opened.event_id, opened.key_id))

    def of(self, topic: str) -> list[Seen]:
        return [s for s in self.seen if s.record.topic == topic]

    @property
    def run_id(self) -> str:
        """Of the one run in the log."""
        (start,) = (s.event_id for s in self.of("steps") if isinstance(s.event, RunStarted))
        return start.hex()

    @property
    def complete(self) -> bool:
        """Whether the run is closed in the ledger and the anchor covers that."""
        entries = [s.event for s in self.of("ledger")]
        sizes = [s.event.size for s in self.of("anchors") if isinstance(s.event, Anchored)]
        return bool(entries) and isinstance(entries[-1], RunClosed) and max(sizes, default=0) == len(entries)

    def faults(self, steps: int, shards: int) -> list[str]:
        """What was lost, doubled or put out of order in a finished run of ``steps`` steps; empty when all is well."""
        entries = [_entry(s.event) for s in self.of("ledger")]
        expected = ["opened", *(f"step {t}" for t in range(1, steps + 1)), "closed"]
        found = [] if entries == expected else [f"ledger: expected {expected}, got {entries}"]
        committed = Counter(s.event.step for s in self.of("steps") if isinstance(s.event, StepCommitted))
        found += _each_once("step", committed, list(range(1, steps + 1)))
        ends = sum(isinstance(s.event, RunFinished) for s in self.of("steps"))
        if ends != 1:
            found.append(f"run finished {ends} times")
        proofs = Counter((s.event.step, s.event.shard) for s in self.of("proofs") if isinstance(s.event, ProofAttached))
        slots = [(t, i) for t in range(1, steps + 1) for i in range(shards)]
        found += _each_once("proof", proofs, slots)
        counters = [s.event.counter for s in self.of("anchors") if isinstance(s.event, Anchored)]
        if counters != list(range(1, len(counters) + 1)):
            found.append(f"anchor receipts: expected counters from 1 without gap or repeat, got {counters}")
        notes = [s.event.note for s in self.of("checkpoints") if isinstance(s.event, CheckpointIssued)]
        sizes = [int(note.split("\n")[1]) for note in notes]
        if sizes != sorted(set(sizes)):
            found.append(f"checkpoint sizes do not grow: {sizes}")
        letters = [s.event.reason for s in self.of("dead-letters") if isinstance(s.event, DeadLetter)]
        return found + [f"dead letter: {reason}" for reason in letters]


class Watch:
    """Follows a log from the outside. ``contents`` holds what was seen, in the order in which it became visible."""

    def __init__(self, url: str) -> None:
        self._log = open_event_log(url)
        self._reader = self._log.reader(PUBLIC)
        self.contents = Contents()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._reader.close()
        self._log.close()

    def look(self, timeout: float = 0.2) -> list[Seen]:
        """What became visible since the last look."""
        before = len(self.contents.seen)
        self.contents.add(self._reader.poll(timeout))
        return self.contents.seen[before:]

    def wait(self, until: Callable[[Contents], bool], seconds: float, trouble: Callable[[], list[str]]) -> None:
        """Looks until ``until`` holds.

        Raises:
            AssertionError: it took longer, or ``trouble`` names any.
        """
        deadline = time.monotonic() + seconds
        while not until(self.contents):
            found = trouble()
            assert not found, "\n".join(found)
            assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain; seen: {summary(self.contents)}"
            self.look()

    def read_again(self) -> Contents:
        """Everything in the public topics, read afresh."""
        contents = Contents()
        for topic in PUBLIC:
            with self._log.reader([topic]) as reader:
                contents.add(list(reader.read_to_end()))
        return contents

    def rewritten(self, contents: Contents) -> list[str]:
        """Records that were seen before and are not in ``contents``, or not as they were: a log only grows."""
        place = {(s.record.topic, s.record.partition, s.record.offset): s.record.value for s in contents.seen}
        return [
            f"{r.topic}/{r.partition}@{r.offset} was {'lost' if other is None else 'changed'} after it had been read"
            for r in (s.record for s in self.contents.seen)
            if (other := place.get((r.topic, r.partition, r.offset))) != r.value
        ]


def summary(contents: Contents) -> str:
    """Events by kind."""
    counts = Counter(type(s.event).__name__ for s in contents.seen)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"


def aborted_records(url: str) -> int:
    """How many records lie on the brokers in transactions that never committed: only Kafka keeps these."""
    config = KafkaConfig.parse(url)
    counts = {}
    for isolation in ("read_uncommitted", "read_committed"):
        consumer = KafkaConsumer(**config.client(isolation_level=isolation, enable_auto_commit=False))
        names = [config.topic_prefix + name for name in TOPICS]
        places = [TopicPartition(name, number) for name in names for number in consumer.partitions_for_topic(name)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        counts[isolation] = 0
        while any(consumer.position(place) < end for place, end in ends.items()):
            counts[isolation] += sum(map(len, consumer.poll(timeout_ms=500).values()))
        consumer.close()
    return counts["read_uncommitted"] - counts["read_committed"]


def _entry(event: Event) -> str:
    if isinstance(event, StepProven):
        return f"step {event.step}"
    return {RunOpened: "opened", RunClosed: "closed"}.get(type(event), type(event).__name__)


def _each_once(what: str, counts: Counter[Any], expected: list[Any]) -> list[str]:
    found = [f"{what} {key}: {counts[key]} times, expected once" for key in expected if counts[key] != 1]
    return found + [f"{what} {key}: not expected" for key in counts if key not in expected]
