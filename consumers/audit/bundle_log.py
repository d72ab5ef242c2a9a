"""A bundle as what an audit reads: an event log that only reads, and a source of the circuit's files.

Nothing that a bundle says of itself is believed: its records go through the same checks as a log's, and its circuit's
files are hashed anew when the circuit is loaded.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from consumers.audit.container import PARTS, Index, copy_file, open_file, records, scan
from zk_autograd.errors import DecodeError, EventLogError, UsageError
from zk_autograd.eventlog.base import EventLog, Group, Producer, Reader, Record, TopicPartition, TopicSpec
from zk_autograd.eventlog.topics import no_such_topic


class BundleLog(EventLog):
    """The topics of a bundle's file.

    Raises:
        UsageError: no such file.
        DecodeError: it is damaged, or no bundle.
    """

    def __init__(self, path: Path) -> None:
        self.url, self.path = str(path), path
        self._file = open_file(path)
        try:
            self.index: Index = scan(self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> BundleLog:
        return self

    def create_topics(self, topics: Iterable[TopicSpec]) -> None:  # noqa: ARG002
        raise self._read_only()

    def partitions(self, topic: str) -> int:
        if (topic, 0) not in self.index.parts:
            raise no_such_topic(topic, str(self.path))
        return self.index.parts[topic, 0].partitions

    def reader(self, topics: Sequence[str], start: Mapping[TopicPartition, int] | None = None) -> Reader:
        if not topics:
            raise UsageError("name at least one topic to read")
        for topic in topics:
            self.partitions(topic)
        return _BundleReader(open_file(self.path), self.index, topics, dict(start or {}))

    def group(self, group_id: str, topics: Sequence[str]) -> Group:  # noqa: ARG002
        raise self._read_only()

    def producer(self, transactional_id: str) -> Producer:  # noqa: ARG002
        raise self._read_only()

    def close(self) -> None:
        self._file.close()

    def unpack_circuit(self, folder: Path) -> None:
        """Writes the circuit's files into ``folder`` as a home has them; UsageError if the bundle has none.

        Names are ours, or hashes of what is in the file: nothing in a bundle names a path.
        """
        if self.index.circuit_id is None:
            raise UsageError(f"{self.path}: it was made without a circuit")
        target, srs = folder / "circuits" / self.index.circuit_id.hex(), folder / "srs"
        try:
            target.mkdir(parents=True)
            srs.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"{target}: {error.strerror}; give an empty folder") from None
        for name, span in self.index.files.items():
            if name != "srs":
                copy_file(self._file, span, target / name)
        draft = srs / ".new"
        copy_file(self._file, self.index.files["srs"], draft)
        with draft.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        draft.replace(srs / f"{found}.srs")

    def _read_only(self) -> UsageError:
        return UsageError(f"{self.path} is an audit bundle: it can only be read")


class _BundleReader(Reader):
    """Every call of :meth:`read_to_end` gives the next of a topic's parts, as a log that grew meanwhile would."""

    def __init__(
        self, file: BinaryIO, index: Index, topics: Sequence[str], start: dict[TopicPartition, int]
    ) -> None:  # fmt: skip
        self._file, self._index, self._start = file, index, start
        rounds = sorted({number for topic, number in PARTS if topic in topics})
        self._rounds = [[p for p in PARTS if p[0] in topics and p[1] == number] for number in rounds]
        self._polled: Iterator[Record] | None = None

    def poll(self, timeout: float, max_records: int = 500) -> list[Record]:
        if self._polled is None:
            self._polled = chain.from_iterable(self._part(p) for parts in self._rounds for p in parts)
            self._rounds = []
        found = list(islice(self._polled, max_records))
        if not found:
            time.sleep(timeout)
        return found

    def read_to_end(self) -> Iterator[Record]:
        return chain.from_iterable(self._part(p) for p in (self._rounds.pop(0) if self._rounds else []))

    def close(self) -> None:
        self._file.close()

    def _part(self, part: tuple[str, int]) -> Iterator[Record]:
        try:
            for record in records(self._file, part[0], self._index.parts[part]):
                if record.offset >= self._start.get((record.topic, record.partition), 0):
                    yield record
        except (OSError, DecodeError) as error:
            raise EventLogError(f"{self._file.name}: {error}") from None
