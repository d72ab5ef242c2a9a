"""Reading all partitions of some topics on a Kafka cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from zk_autograd.errors import EventLogError
from zk_autograd.eventlog.base import Reader, Record, TopicPartition
from zk_autograd.eventlog.kafka_client import Lifeline, explained
from zk_autograd.eventlog.kafka_config import KafkaConfig

_BATCH = 500
# An open transaction hides what comes after it, for as long as its producer's time limit (a minute for ours).
_STALL_SECONDS = 120.0

Ends = Callable[[Sequence[KafkaPartition]], dict[KafkaPartition, int]]


class KafkaReader(Reader):
    """Positions are kept here; no group is involved and nothing is written."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        config: KafkaConfig,
        partitions: Sequence[TopicPartition],
        start: Mapping[TopicPartition, int],
        ends: Ends,
    ) -> None:
        """``start``: first offsets, where not the beginning; ``ends``: where partitions end at the moment of asking."""
        self._consumer = consumer
        self._prefix = config.topic_prefix
        self._assigned = [KafkaPartition(self._prefix + topic, number) for topic, number in partitions]
        self._ends = ends
        self._fetched: deque[Record] = deque()  # fetched and not yet returned
        timeout_ms = int(config.request_timeout * 1000)
        self._lifeline = Lifeline(
            lambda: consumer.end_offsets(self._assigned[:1], timeout_ms=timeout_ms), config.request_timeout
        )
        consumer.assign(self._assigned)
        last = ends(self._assigned)
        with explained("asking for the beginning of the log"):
            first = consumer.beginning_offsets(self._assigned, timeout_ms=timeout_ms)
        for partition, assigned in zip(partitions, self._assigned, strict=True):
            position = start.get(partition, 0)
            if position > last[assigned]:
                raise EventLogError(
                    f"{partition[0]}/{partition[1]} ends at offset {last[assigned]}, before the start {position}: "
                    "this is another log, or it was rolled back"
                )
            consumer.seek(assigned, max(position, first[assigned]))

    def poll(self, timeout: float, max_records: int = _BATCH) -> list[Record]:
        if not self._fetched:
            self._fetch(timeout, max_records)
        return [self._fetched.popleft() for _ in range(min(max_records, len(self._fetched)))]

    def read_to_end(self) -> Iterator[Record]:
        # The end of what was written, not of what is visible: a transaction whose commit has returned may still be
        # invisible for a moment, and must not be missed.
        return self._read_until(self._ends(self._assigned))

    def close(self) -> None:
        with suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=2000)

    def _read_until(self, ends: Mapping[KafkaPartition, int]) -> Iterator[Record]:
        later: deque[Record] = deque()  # fetched with the rest, but committed after the call
        progress, deadline = self._positions(), time.monotonic() + _STALL_SECONDS
        try:
            while True:
                while self._fetched:
                    record = self._fetched.popleft()
                    if record.offset < ends[KafkaPartition(self._prefix + record.topic, record.partition)]:
                        yield record
                    else:
                        later.append(record)
                # Offsets have holes: the reader's own position tells whether it has come to the end.
                positions = self._positions()
                if all(positions[partition] >= end for partition, end in ends.items()):
                    return
                if positions != progress:
                    progress, deadline = positions, time.monotonic() + _STALL_SECONDS
                elif time.monotonic() > deadline:
                    stuck = [f"{p.topic}/{p.partition}" for p, end in ends.items() if positions[p] < end]
                    raise EventLogError(
                        f"no progress in {', '.join(stuck)} for {_STALL_SECONDS:.0f} s: a producer has left a "
                        "transaction open, or the partition has no leader"
                    )
                self._fetch(0.5, _BATCH)
        finally:
            # Also when the caller stops early: poll returns what was fetched and not yielded.
            self._fetched.extendleft(reversed(later))

    def _positions(self) -> dict[KafkaPartition, int]:
        with explained("reading"):
            return {partition: self._consumer.position(partition, timeout_ms=1000) for partition in self._assigned}

    def _fetch(self, timeout: float, max_records: int) -> None:
        with explained("reading"):
            try:
                batches = self._consumer.poll(timeout_ms=int(timeout * 1000), max_records=max_records)
            except OffsetOutOfRangeError as error:
                gone = f"records were deleted before they were read, or the log was rolled back ({error})"
                raise EventLogError(gone) from None
        if batches:
            self._lifeline.heard()
        else:
            self._lifeline.check()
        for messages in batches.values():
            self._fetched.extend(as_record(message, self._prefix) for message in messages)


def as_record(message: Any, prefix: str) -> Record:
    """A message of the client as a record of ours."""
    return Record(
        topic=message.topic.removeprefix(prefix),
        partition=message.partition,
        offset=message.offset,
        key=message.key or b"",
        value=message.value or b"",
        timestamp_ms=message.timestamp,
    )
