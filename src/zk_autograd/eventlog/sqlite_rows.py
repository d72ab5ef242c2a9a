"""Reading rows of a file that anybody may have written: types and sizes are checked before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sqlite3 import Connection, Cursor

from zk_autograd.errors import EventLogError
from zk_autograd.eventlog.base import MAX_KEY_BYTES, MAX_RECORD_BYTES, Record, TopicPartition

# One poll returns no more than this, however many records were asked for.
_MAX_FETCH_BYTES = 32 * 1024 * 1024


def fetch(
    connection: Connection,
    partitions: Iterable[TopicPartition],
    positions: Mapping[TopicPartition, int],
    max_records: int,
    ends: Mapping[TopicPartition, int] | None = None,
) -> list[Record]:
    """The next records of ``partitions`` at or after ``positions`` and, if given, below ``ends``.

    Raises:
        EventLogError: a row is none that this program wrote.
    """
    records: list[Record] = []
    room = _MAX_FETCH_BYTES
    query = (
        "SELECT offset, key, value, timestamp_ms FROM records "
        "WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?"
    )
    for topic, partition in partitions:
        end = 2**62 if ends is None else ends[topic, partition]
        bounds = (positions[topic, partition], end, max_records - len(records))
        for offset, key, value, timestamp_ms in connection.execute(query, (topic, partition, *bounds)):
            record = Record(topic, partition, offset, key, value, timestamp_ms)
            _check(record)
            records.append(record)
            room -= len(value)
            if room <= 0:
                return records
        if len(records) >= max_records:
            break
    return records


def whole_number(cursor: Cursor, most: int = 2**62) -> int:
    """The one number that a query gave; EventLogError unless it is an integer from 0 to ``most``."""
    row = cursor.fetchone()
    if row is None or type(row[0]) is not int or not 0 <= row[0] <= most:
        raise EventLogError("the event log's tables contradict each other: the file was tampered with")
    return int(row[0])


def _check(record: Record) -> None:
    types = (type(record.offset), type(record.key), type(record.value), type(record.timestamp_ms))
    if (
        types != (int, bytes, bytes, int)
        or len(record.value) > MAX_RECORD_BYTES
        or len(record.key) > MAX_KEY_BYTES
        or record.offset < 0
    ):
        raise EventLogError(
            f"{record.topic}/{record.partition} offset {record.offset!r:.40}: not a record of this program "
            "(wrong types or too large): the file was tampered with"
        )
