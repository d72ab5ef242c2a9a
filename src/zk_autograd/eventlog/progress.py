"""How far one member of a consumer group has come: returned by poll, and committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import PartitionLostError, Record, TopicPartition


class Progress:
    """Remembers what was returned and not yet committed, so that a commit can be refused when it came too late.

    A group's own checks do not suffice: a partition that is taken away and given back has its old owner again, but
    its records are returned once more, and those returned before must not be committed with them.
    """

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id
        self._returned: dict[TopicPartition, int] = {}  # the offset after the last record that poll returned
        self._committed: dict[TopicPartition, int] = {}
        self._lost: set[TopicPartition] = set()

    def returned(self, records: Sequence[Record]) -> None:
        """Poll is about to return ``records``."""
        for record in records:
            self._returned[record.topic, record.partition] = record.offset + 1

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """The member no longer owns ``partitions``."""
        for partition in partitions:
            returned = self._returned.pop(partition, None)
            if returned is not None and self._committed.get(partition, -1) < returned:
                self._lost.add(partition)
            self._committed.pop(partition, None)

    def claim(self, records: Sequence[Record]) -> dict[TopicPartition, int]:
        """The offsets that ``records`` move the group to: per partition, the next one to consume.

        Raises:
            UsageError: poll did not return them since the last rewind, or they are committed already.
        """
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = (record.topic, record.partition)
            offsets[partition] = max(record.offset + 1, offsets.get(partition, 0))
        for partition, offset in offsets.items():
            if partition in self._lost:
                continue  # check() says so at the commit
            place = f"{partition[0]}/{partition[1]} offset {offset - 1}"
            if offset > self._returned.get(partition, -1):
                raise UsageError(f"group {self._group_id}: poll has not returned {place} since the last rewind")
            if offset <= self._committed.get(partition, -1):
                raise UsageError(f"group {self._group_id}: {place} is committed already")
        return offsets

    def check(self) -> None:
        """Raises PartitionLostError if a partition went away with records that were returned and not committed."""
        if self._lost:
            raise lost_error(self._group_id, self._lost)

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """A transaction with ``offsets`` was committed."""
        self._committed.update(offsets)

    def rewound(self) -> None:
        """The member starts again from the committed offsets."""
        self._returned.clear()
        self._committed.clear()
        self._lost.clear()


def lost_error(group_id: str, partitions: Iterable[TopicPartition]) -> PartitionLostError:
    """The error for a commit that came after ``partitions`` had left the member."""
    names = ", ".join(f"{topic}/{number}" for topic, number in sorted(partitions))
    return PartitionLostError(
        f"group {group_id}: another member has taken over {names}: nothing was written; rewind() and poll again"
    )
