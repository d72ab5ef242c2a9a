"""The event log in one SQLite file: the default, with nothing to install or run.

``sqlite:///relative/file`` or ``sqlite:////absolute/file``; several processes of one machine may use it at once.
Parameters:

* ``mode=ro``: read only, for auditors: the file is neither made nor changed, there are no producers and no groups;
* ``session_timeout=SECONDS``: after how long a silent group member is taken for dead (10).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from urllib.parse import parse_qsl, unquote, urlsplit

from zk_autograd.errors import EventLogError, UsageError
from zk_autograd.eventlog.base import EventLog, Group, Producer, Reader, Record, TopicPartition, TopicSpec
from zk_autograd.eventlog.sqlite_group import SqliteGroup
from zk_autograd.eventlog.sqlite_producer import SqliteProducer
from zk_autograd.eventlog.sqlite_rows import fetch, whole_number
from zk_autograd.eventlog.sqlite_store import POLL_SECONDS, Database
from zk_autograd.eventlog.topics import MAX_PARTITIONS, check_name, check_spec, no_such_topic


@dataclass(frozen=True)
class SqliteUrl:
    """What an ``sqlite://`` URL says."""

    path: Path
    read_only: bool = False
    session_timeout: float = 10.0

    @classmethod
    def parse(cls, url: str) -> SqliteUrl:
        """Raises UsageError for anything that is not as this module's docstring says."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise UsageError(f"not a URL: {url!r}") from None
        path = unquote(parts.path)[1:]
        if parts.netloc or parts.fragment or not path or path == ":memory:" or "\0" in path:
            raise UsageError(
                f"expected sqlite:///relative/file or sqlite:////absolute/file (three or four slashes), got {url!r}"
            )
        options: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name not in ("mode", "session_timeout") or name in options:
                raise UsageError(f"sqlite:// takes mode and session_timeout, each once; got {name!r} in {url!r}")
            options[name] = value
        if options.get("mode", "rw") not in ("rw", "ro"):
            raise UsageError(f"mode is rw or ro, got {options['mode']!r} in {url!r}")
        return cls(Path(path), options.get("mode") == "ro", _seconds(options.get("session_timeout", "10"), url))


def _seconds(text: str, url: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise UsageError(f"session_timeout is 0.1 to 3600 seconds, got {text!r} in {url!r}")
    return seconds


class SqliteLog(EventLog):
    """An event log in one file; each reader, group and producer has a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._options = SqliteUrl.parse(url)
        self._database = self._open()
        self._counts: dict[str, int] = {}

    def create_topics(self, topics: Iterable[TopicSpec]) -> None:
        specs = list(topics)
        for spec in specs:
            check_spec(spec)

        def create(connection: Connection) -> None:
            for spec in specs:
                row = (spec.name, spec.partitions, spec.retention_ms)
                if connection.execute("INSERT OR IGNORE INTO topics VALUES (?, ?, ?)", row).rowcount:
                    heads = [(spec.name, partition) for partition in range(spec.partitions)]
                    connection.executemany("INSERT INTO heads VALUES (?, ?, 0)", heads)

        self._database.write(create)

    def partitions(self, topic: str) -> int:
        if topic not in self._counts:
            check_name(topic, "topic name")

            def count(connection: Connection) -> int:
                query = "SELECT coalesce(sum(partitions), 0) FROM topics WHERE topic = ?"
                return whole_number(connection.execute(query, (topic,)), MAX_PARTITIONS)

            if not (number := self._database.read(count)):
                raise no_such_topic(topic, str(self._options.path))
            self._counts[topic] = number
        return self._counts[topic]

    def reader(self, topics: Sequence[str], start: Mapping[TopicPartition, int] | None = None) -> Reader:
        partitions = all_partitions(self, topics)
        positions = dict.fromkeys(partitions, 0)
        for partition, offset in (start or {}).items():
            if partition not in positions or offset < 0:
                raise UsageError(f"cannot start at offset {offset} of {partition}: the reader is of {sorted(topics)}")
            positions[partition] = offset
        return SqliteReader(self._open(), positions)

    def group(self, group_id: str, topics: Sequence[str]) -> Group:
        check_name(group_id, "group id")
        self._check_writable("joined as a group's member")
        partitions = all_partitions(self, topics)
        return SqliteGroup(self._open(), group_id, partitions, self._options.session_timeout)

    def producer(self, transactional_id: str) -> Producer:
        check_name(transactional_id, "transactional id")
        self._check_writable("written to")
        return SqliteProducer(self._open(), transactional_id, self.partitions)

    def close(self) -> None:
        self._database.close()

    def _open(self) -> Database:
        return Database(self._options.path, self._options.read_only)

    def _check_writable(self, what: str) -> None:
        if self._options.read_only:
            raise UsageError(f"{self.url} was opened with mode=ro: it cannot be {what}")


def all_partitions(log: EventLog, topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of ``topics``; UsageError if there are none."""
    if not topics:
        raise UsageError("name at least one topic to read")
    return [(topic, number) for topic in sorted(set(topics)) for number in range(log.partitions(topic))]


class SqliteReader(Reader):
    """Keeps its own offsets; what it returns from one poll is from one snapshot."""

    def __init__(self, database: Database, positions: Mapping[TopicPartition, int]) -> None:
        """``positions``: the first offset to return, for every partition to read."""
        self._database = database
        self._positions = dict(positions)
        self._turn = deque(positions)
        self._quiet: tuple[int, ...] | None = None  # the file's version at which there was nothing to read
        ends = database.read(self._ends)
        for partition, position in positions.items():
            if position > ends[partition]:
                database.close()
                raise EventLogError(
                    f"{partition[0]}/{partition[1]} ends at offset {ends[partition]}, before the start {position}: "
                    "this is another log, or it was rolled back"
                )

    def poll(self, timeout: float, max_records: int = 500) -> list[Record]:
        deadline = time.monotonic() + timeout
        while True:
            version = self._database.version()
            if version != self._quiet:
                if records := self._fetch(max_records):
                    for record in records:
                        self._positions[record.topic, record.partition] = record.offset + 1
                    return records
                self._quiet = version
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(POLL_SECONDS, left))

    def read_to_end(self) -> Iterator[Record]:
        return self._read_until(self._database.read(self._ends))

    def close(self) -> None:
        self._database.close()

    def _read_until(self, ends: Mapping[TopicPartition, int]) -> Iterator[Record]:
        while any(self._positions[partition] < end for partition, end in ends.items()):
            records = self._fetch(500, ends)
            if not records:
                # What is left below the ends was deleted after its retention time.
                self._positions = {p: max(position, ends[p]) for p, position in self._positions.items()}
            for record in records:
                # Before the yield: the caller may stop there, and has this record then.
                self._positions[record.topic, record.partition] = record.offset + 1
                yield record

    def _fetch(self, max_records: int, ends: Mapping[TopicPartition, int] | None = None) -> list[Record]:
        self._turn.rotate(-1)  # so that a busy partition does not starve the others
        return self._database.read(lambda connection: fetch(connection, self._turn, self._positions, max_records, ends))

    def _ends(self, connection: Connection) -> dict[TopicPartition, int]:
        query = "SELECT next_offset FROM heads WHERE topic = ? AND partition = ?"
        return {partition: whole_number(connection.execute(query, partition)) for partition in self._positions}
