"""Transactions on the SQLite file: fenced by the producer's epoch, with the consumed offsets in the same commit."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from sqlite3 import Connection

from zk_autograd.errors import FencedError, UsageError
from zk_autograd.eventlog.base import Group, Record, TopicPartition
from zk_autograd.eventlog.buffered import BufferedProducer, BufferedTransaction
from zk_autograd.eventlog.sqlite_group import SqliteGroup
from zk_autograd.eventlog.sqlite_store import Database, now_ms

_DELETE_EVERY_SECONDS = 60.0
_DELETE_AT_ONCE = 1000


class SqliteProducer(BufferedProducer):
    """Opening one raises its transactional id's epoch; a commit under an older epoch is refused."""

    def __init__(self, database: Database, transactional_id: str, partitions: Callable[[str], int]) -> None:
        super().__init__(transactional_id)
        self._database = database
        self._count = partitions
        self._epoch = database.write(self._open_epoch)
        self._delete_next = time.monotonic()

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._database.close()

    def _partitions(self, topic: str) -> int:
        return self._count(topic)

    def _claim(self, group: Group, records: Sequence[Record]) -> dict[TopicPartition, int]:
        if not isinstance(group, SqliteGroup) or group.file != self._database.file:
            raise UsageError("a transaction takes only the offsets of groups of its own event log")
        return group.progress.claim(records)

    def _commit(self, transaction: BufferedTransaction) -> None:
        groups = [(group, offsets) for group, offsets in transaction.offsets.items() if isinstance(group, SqliteGroup)]
        if time.monotonic() >= self._delete_next:
            # First, so that a failure here is a failure before anything was written.
            self._database.write(_delete_outdated)
            self._delete_next = time.monotonic() + _DELETE_EVERY_SECONDS

        def commit(connection: Connection) -> None:
            self._check_epoch(connection)
            for group, offsets in groups:
                group.store(connection, offsets)
            timestamp_ms = now_ms()
            for topic, key, value, chosen in transaction.records:
                partition = zlib.crc32(key) % self._count(topic) if chosen is None else chosen
                _append(connection, topic, partition, key, value, timestamp_ms)

        self._database.write(commit)
        for group, offsets in groups:
            group.progress.committed(offsets)

    def _open_epoch(self, connection: Connection) -> int:
        connection.execute(
            "INSERT INTO producers VALUES (?, 1) ON CONFLICT (transactional_id) DO UPDATE SET epoch = epoch + 1",
            (self._id,),
        )
        return self._stored_epoch(connection)

    def _check_epoch(self, connection: Connection) -> None:
        if self._stored_epoch(connection) != self._epoch:
            raise FencedError(
                f"a newer producer was opened with the transactional id {self._id}: nothing was written; stop this one"
            )

    def _stored_epoch(self, connection: Connection) -> int:
        row = connection.execute("SELECT epoch FROM producers WHERE transactional_id = ?", (self._id,)).fetchone()
        return int(row[0]) if row else 0


def _append(connection: Connection, topic: str, partition: int, key: bytes, value: bytes, timestamp_ms: int) -> None:
    place = (topic, partition)
    (offset,) = connection.execute("SELECT next_offset FROM heads WHERE topic = ? AND partition = ?", place).fetchone()
    connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", (*place, offset, key, value, timestamp_ms))
    connection.execute("UPDATE heads SET next_offset = ? WHERE topic = ? AND partition = ?", (offset + 1, *place))


def _delete_outdated(connection: Connection) -> None:
    """Deletes a bounded number of records that are past their topic's retention time."""
    topics = connection.execute("SELECT topic, partitions, retention_ms FROM topics WHERE retention_ms >= 0").fetchall()
    for topic, partitions, retention_ms in topics:
        oldest_kept = now_ms() - retention_ms
        for partition in range(partitions):
            place = (topic, partition)
            rows = connection.execute(
                "SELECT offset, timestamp_ms FROM records WHERE topic = ? AND partition = ? ORDER BY offset LIMIT ?",
                (*place, _DELETE_AT_ONCE),
            ).fetchall()
            outdated = [offset for offset, timestamp_ms in rows if timestamp_ms < oldest_kept]
            connection.executemany(
                "DELETE FROM records WHERE topic = ? AND partition = ? AND offset = ?",
                [(*place, offset) for offset in outdated],
            )
