"""Transactions that are held in memory and written at the commit, whatever the adapter.

An exception inside ``with producer.transaction()`` therefore leaves no trace in the log, and no reader ever waits for
a transaction that is still being filled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import (
    MAX_KEY_BYTES,
    MAX_RECORD_BYTES,
    Group,
    Producer,
    Record,
    TopicPartition,
    Transaction,
)

Outgoing = tuple[str, bytes, bytes, int | None]
"""Topic, key, value, and the partition if the caller chose one."""


class BufferedTransaction(Transaction):
    """Collects records and offsets; checks them as they come, so that a commit cannot fail for a caller's mistake."""

    def __init__(
        self,
        partitions: Callable[[str], int],
        claim: Callable[[Group, Sequence[Record]], dict[TopicPartition, int]],
    ) -> None:
        """``partitions`` counts a topic's partitions; ``claim`` gives the offsets that records move a group to."""
        self._partitions = partitions
        self._claim = claim
        self.records: list[Outgoing] = []
        self.offsets: dict[Group, dict[TopicPartition, int]] = {}
        self.open = True

    def send(self, topic: str, key: bytes, value: bytes, partition: int | None = None) -> None:
        self._check_open()
        if not isinstance(key, bytes) or not isinstance(value, bytes):
            raise UsageError(f"a record's key and value are bytes, got {type(key).__name__} and {type(value).__name__}")
        if len(value) > MAX_RECORD_BYTES:
            raise UsageError(
                f"a record's value has at most {MAX_RECORD_BYTES} bytes; this one for {topic}: {len(value)}"
            )
        if len(key) > MAX_KEY_BYTES:
            raise UsageError(f"a record's key has at most {MAX_KEY_BYTES} bytes; this one for {topic}: {len(key)}")
        count = self._partitions(topic)
        if partition is not None and not 0 <= partition < count:
            raise UsageError(f"topic {topic} has the partitions 0 to {count - 1}; got {partition}")
        self.records.append((topic, key, value, partition))

    def consumed(self, group: Group, records: Sequence[Record]) -> None:
        self._check_open()
        if offsets := self._claim(group, records):
            moved = self.offsets.setdefault(group, {})
            for partition, offset in offsets.items():
                moved[partition] = max(offset, moved.get(partition, 0))

    def _check_open(self) -> None:
        if not self.open:
            raise UsageError("this transaction has ended: open another with producer.transaction()")


class BufferedProducer(Producer):
    """The part of a producer that is the same for every adapter."""

    def __init__(self, transactional_id: str) -> None:
        self._id = transactional_id
        self._closed = False
        self._busy = False

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        if self._closed:
            raise UsageError(f"producer {self._id} is closed")
        if self._busy:
            raise UsageError(f"producer {self._id} is in a transaction already: transactions do not nest")
        transaction = BufferedTransaction(self._partitions, self._claim)
        self._busy = True
        try:
            yield transaction
            transaction.open = False
            if transaction.records or transaction.offsets:
                self._commit(transaction)
        finally:
            transaction.open = False
            self._busy = False

    def close(self) -> None:
        self._closed = True

    @abstractmethod
    def _partitions(self, topic: str) -> int:
        """The number of partitions of a topic; UsageError if there is none."""

    @abstractmethod
    def _claim(self, group: Group, records: Sequence[Record]) -> dict[TopicPartition, int]:
        """The offsets that ``records`` move ``group`` to; UsageError if the group is of another log."""

    @abstractmethod
    def _commit(self, transaction: BufferedTransaction) -> None:
        """Write all of it, or raise as :meth:`Producer.transaction` says."""
