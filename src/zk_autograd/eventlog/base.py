"""The event log: ordered topics, exactly-once transactions, consumer groups. Two adapters stand behind it.

Offsets grow but may have holes (Kafka keeps transaction markers there): never assume that they are contiguous.
Only committed records are ever seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

from zk_autograd.errors import FencedError

MAX_RECORD_BYTES = 900_000
"""Largest value sent or taken: below the brokers' default of 1 MiB with room for headers and batch overhead."""

MAX_KEY_BYTES = 1024
"""Largest key sent or taken."""

TopicPartition = tuple[str, int]


class PartitionLostError(FencedError):
    """The group gave a partition to another member before its records were committed: nothing was written.

    The producer still works. Call :meth:`Group.rewind`, forget what came of the records, and poll on.
    """


@dataclass(frozen=True)
class TopicSpec:
    """A topic as this project wants it.

    Attributes:
        name: Kafka topic name.
        partitions: number of partitions.
        retention_ms: how long records are kept; -1 means for ever.
    """

    name: str
    partitions: int
    retention_ms: int = -1


@dataclass(frozen=True)
class Record:
    """One committed record. ``timestamp_ms`` is the log's append time (milliseconds since the epoch)."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp_ms: int


class Reader(ABC):
    """Reads every partition of some topics, in offset order within a partition; belongs to no group."""

    @abstractmethod
    def poll(self, timeout: float, max_records: int = 500) -> list[Record]:
        """Up to ``max_records`` next records; an empty list after ``timeout`` seconds without any.

        Raises:
            EventLogError: the log cannot be read: no broker answers, the file is damaged, records are gone.
        """

    @abstractmethod
    def read_to_end(self) -> Iterator[Record]:
        """Every record committed up to the moment of the call that this reader has not yet returned."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Group(ABC):
    """One member of a consumer group: gets the records of the partitions that are assigned to it.

    A partition changes hands only while its member polls, or once that member is taken for dead.
    """

    @abstractmethod
    def poll(self, timeout: float, max_records: int = 1, paused: Collection[TopicPartition] = ()) -> list[Record]:
        """Next records of the assigned partitions after what was returned before (at first: the committed offsets).

        Of the ``paused`` partitions nothing is returned this time; they stay assigned.
        """

    @abstractmethod
    def keepalive(self) -> None:
        """Say that this member lives; call at least every two seconds during long work between polls."""

    @abstractmethod
    def rewind(self) -> None:
        """After an aborted transaction: go back to the committed offsets."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group, so that others take the partitions at once."""

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Transaction(ABC):
    """What becomes visible together, or not at all. It is held in memory until the commit."""

    @abstractmethod
    def send(self, topic: str, key: bytes, value: bytes, partition: int | None = None) -> None:
        """Append a record; without ``partition`` the key decides (equal keys, same partition).

        Raises:
            UsageError: the value is over MAX_RECORD_BYTES, the key over MAX_KEY_BYTES, or there is no such topic or
                partition (nothing was sent, the transaction goes on).
        """

    @abstractmethod
    def consumed(self, group: Group, records: Sequence[Record]) -> None:
        """Move the group's committed offsets past ``records``.

        The commit raises PartitionLostError, and writes nothing, if the member has lost one of the partitions
        meanwhile.

        Raises:
            UsageError: the group's last polls did not return these records, or they are committed already.
        """


class Producer(ABC):
    """Writes transactions under a transactional id. Opening a second one with that id fences the first off."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """``with producer.transaction() as t``: commits at the end, aborts on an exception.

        Raises:
            PartitionLostError: see :meth:`Transaction.consumed`; nothing was written, the producer still works.
            FencedError: a newer producer has this transactional id: stop, do not retry.
            EventLogError: the commit failed; the message says whether the outcome is known. Open a new producer: that
                settles whatever this one left open. Then re-read the log before acting.
        """

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class EventLog(ABC):
    """A place with topics, opened by URL: see :func:`zk_autograd.eventlog.open_log`."""

    url: str
    """As given, with any password removed."""

    @abstractmethod
    def create_topics(self, topics: Iterable[TopicSpec]) -> None:
        """Make the topics that are not there yet; leaves existing ones as they are."""

    @abstractmethod
    def partitions(self, topic: str) -> int:
        """Number of partitions; UsageError if there is no such topic."""

    @abstractmethod
    def reader(self, topics: Sequence[str], start: Mapping[TopicPartition, int] | None = None) -> Reader:
        """A reader of all partitions of ``topics``, from ``start`` (first offset to return) or the beginning.

        Raises:
            UsageError: there is no such topic, or ``start`` names a partition outside them.
            EventLogError: the log ends before ``start``: it is another log, or was rolled back.
        """

    @abstractmethod
    def group(self, group_id: str, topics: Sequence[str]) -> Group:
        """Join a consumer group."""

    @abstractmethod
    def producer(self, transactional_id: str) -> Producer:
        """A transactional producer; fences off any older one with the same id."""

    @abstractmethod
    def close(self) -> None:
        """Close after the readers, groups and producers that were made from it."""

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
