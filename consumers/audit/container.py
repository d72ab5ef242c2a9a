"""The file of an audit bundle: frames in one fixed order, so that equal contents are equal files. Pure format.

``zk-audit bundle 1`` and a line feed, then frames: kind (1 byte), length (4 bytes, big-endian), content.

====== ======= ================================================================================================
kind   name    content
====== ======= ================================================================================================
1      run     the run's id, 32 bytes
2      part    a topic's place in :data:`PARTS` (1), its number of partitions (4); its records follow
3      record  partition (4), offset (8), value; by partition and offset, each place once
4      circuit the circuit's id, 32 bytes
5      file    the file's place in :data:`FILES` (1), its bytes; in that order, each once at most
6      end     SHA-256 of everything before this frame; nothing follows
====== ======= ================================================================================================

Order: run, every part (also an empty one), then a circuit with its files or none, end. No names, no paths, no
compression: what is not written here cannot be said. The hash finds damage, not malice: whoever can change a bundle can
compute it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

from zk_autograd.errors import DecodeError, UsageError
from zk_autograd.eventlog.base import MAX_RECORD_BYTES, Record
from zk_autograd.eventlog.topics import MAX_PARTITIONS

MAGIC = b"zk-audit bundle 1\n"
RUN, PART, RECORD, CIRCUIT, FILE, END = range(1, 7)

PARTS = (
    ("anchors", 0), ("ledger", 0), ("checkpoints", 0), ("ledger", 1), ("proofs", 0), ("steps", 0), ("dead-letters", 0),
)  # fmt: skip
"""Topics in the order in which an audit reads them. The ledger's second part came while the checkpoints were read."""

FILES = ("circuit.json", "settings.json", "vk.key", "srs_id", "digest", "srs")
"""What a circuit's verifier needs; ``digest`` may be missing."""

_FILE_CAPS = (64 << 10, 1 << 20, 64 << 20, 100, 100, 4 + 128 * 2**20 + 256)
_HEAD, _PART, _PLACE = Struct(">BI"), Struct(">BI"), Struct(">IQ")
_MAX_OFFSET = 1 << 62
_CAPS = {
    RUN: (32, 32),
    PART: (_PART.size, _PART.size),
    RECORD: (_PLACE.size, _PLACE.size + MAX_RECORD_BYTES),
    CIRCUIT: (32, 32),
    FILE: (1, 1 + max(_FILE_CAPS)),
    END: (32, 32),
}
_CHUNK = 1 << 20


class Span(NamedTuple):
    """Where a part's records lie in the file, or a circuit's file; ``partitions`` of a part."""

    start: int
    end: int
    partitions: int = 0


@dataclass
class Index:
    """What a bundle holds, and where. Nothing of it is verified but that the file is whole and in order."""

    run_id: bytes = b""
    parts: dict[tuple[str, int], Span] = field(default_factory=dict)
    circuit_id: bytes | None = None
    files: dict[str, Span] = field(default_factory=dict)


class Writer:
    """Writes frames in the order in which it is called, which has to be the file's."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self._write(MAGIC)

    def run(self, run_id: bytes) -> None:
        """The run that the bundle is of."""
        self._frame(RUN, run_id)

    def part(self, number: int, partitions: int) -> None:
        """The next part begins."""
        self._frame(PART, _PART.pack(number, partitions))

    def framed(self, frames: BinaryIO) -> None:
        """Frames that :func:`record_frame` made, in order."""
        while chunk := frames.read(_CHUNK):
            self._write(chunk)

    def circuit(self, circuit_id: bytes) -> None:
        """The circuit's files follow."""
        self._frame(CIRCUIT, circuit_id)

    def file(self, name: str, path: Path) -> None:
        """A file of the circuit; UsageError if it is too large."""
        number = FILES.index(name)
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if size > _FILE_CAPS[number]:
                raise UsageError(f"{path}: expected at most {_FILE_CAPS[number]} bytes, got {size}")
            self._write(_HEAD.pack(FILE, 1 + size) + bytes([number]))
            left = size
            while left and (chunk := source.read(min(_CHUNK, left))):
                self._write(chunk)
                left -= len(chunk)
            if left or source.read(1):
                raise UsageError(f"{path}: it changed while it was read; try again")

    def end(self) -> None:
        """The last frame."""
        self._file.write(_HEAD.pack(END, 32) + self._hash.digest())

    def _frame(self, kind: int, content: bytes) -> None:
        self._write(_HEAD.pack(kind, len(content)) + content)

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)


def record_frame(record: Record) -> bytes:
    """A record's frame: its place and its value; no key and no time, which nobody signed."""
    head = _HEAD.pack(RECORD, _PLACE.size + len(record.value))
    return head + _PLACE.pack(record.partition, record.offset) + record.value


def open_file(path: Path) -> BinaryIO:
    """A regular file, open for reading; UsageError if it is none or not there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected the file of an audit bundle") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(f"{path}: expected the file of an audit bundle, got something that is no file")
    return os.fdopen(handle, "rb")


def scan(file: BinaryIO) -> Index:
    """Walks the whole file once, a chunk at a time; memory does not grow with it.

    1. the magic line; 2. each frame of a known kind, in its place, within its cap; 3. records ascend; 4. the hash;
    5. nothing after it.

    Raises:
        DecodeError: names the frame's place in the file.
    """
    walk = _Walk(file)
    # 1
    if walk.take(len(MAGIC)) != MAGIC:
        raise DecodeError("bundle: expected an audit bundle of version 1 (zk-audit bundle), got another file")
    index = Index()
    # 2
    kind, size = walk.head()
    if kind != RUN:
        raise walk.error("the run", kind)
    index.run_id = walk.take(size)
    kind, size = walk.head()
    for number, part in enumerate(PARTS):
        if kind != PART:
            raise walk.error(f"part {number} ({part[0]})", kind)
        named, partitions = _PART.unpack(walk.take(size))
        if named != number or not 1 <= partitions <= MAX_PARTITIONS:
            raise DecodeError(f"bundle: at byte {walk.at}: expected part {number} ({part[0]}), got {named}")
        start, last = walk.at, (-1, -1)
        while (found := walk.head())[0] == RECORD:
            place = _PLACE.unpack(walk.take(_PLACE.size))
            # 3
            if place <= last or place[0] >= partitions or place[1] >= _MAX_OFFSET:
                raise DecodeError(f"bundle: at byte {walk.at}: a record of {part[0]} repeated or out of order")
            last = place
            walk.skip(found[1] - _PLACE.size)
        kind, size = found
        index.parts[part] = Span(start, walk.at - _HEAD.size, partitions)
    if kind == CIRCUIT:
        index.circuit_id = walk.take(size)
        kind, size = _files(walk, index)
    if kind != END:
        raise walk.error("a circuit or the end", kind)
    # 4
    if walk.digest != file.read(32):
        raise DecodeError("bundle: its hash does not fit its content: damaged or cut; get it again")
    # 5
    if file.read(1):
        raise DecodeError("bundle: bytes after its end: damaged or not written by zk-audit; get it again")
    return index


def _files(walk: _Walk, index: Index) -> tuple[int, int]:
    last = -1
    while True:
        kind, size = walk.head()
        if kind != FILE:
            break
        number = walk.take(1)[0]
        if not last < number < len(FILES) or size - 1 > _FILE_CAPS[number]:
            raise DecodeError(
                f"bundle: at byte {walk.at}: a circuit's file unknown, repeated, out of order or too large"
            )
        last = number
        index.files[FILES[number]] = Span(walk.at, walk.at + size - 1)
        walk.skip(size - 1)
    if missing := [name for name in FILES if name not in index.files and name != "digest"]:
        raise DecodeError(f"bundle: its circuit lacks {', '.join(missing)}")
    return kind, size


def records(file: BinaryIO, topic: str, span: Span) -> Iterator[Record]:
    """The records of a part that :func:`scan` has found in ``file``, which must not have changed since."""
    file.seek(span.start)
    at = span.start
    while at < span.end:
        kind, size = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size, b"\0"))
        content = file.read(size) if kind == RECORD and _PLACE.size <= size <= _CAPS[RECORD][1] else b""
        if len(content) != size or not content:
            raise DecodeError(f"bundle: at byte {at}: it changed while it was read")
        partition, offset = _PLACE.unpack_from(content)
        yield Record(topic, partition, offset, b"", content[_PLACE.size :], 0)
        at += _HEAD.size + size
        file.seek(at)


def copy_file(file: BinaryIO, span: Span, target: Path) -> None:
    """A circuit's file, written to ``target``."""
    file.seek(span.start)
    left = span.end - span.start
    with target.open("xb") as out:
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise DecodeError("bundle: it changed while it was read")
            out.write(chunk)
            left -= len(chunk)


class _Walk:
    """Reads on from the beginning and hashes what it reads; ``digest`` is of all before the last frame's head."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.at, self.digest = file, hashlib.sha256(), 0, b""

    def take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise DecodeError(f"bundle: at byte {self.at}: cut short; get it again")
        self._hash.update(data)
        self.at += size
        return data

    def skip(self, size: int) -> None:
        while size:
            taken = min(size, _CHUNK)
            self.take(taken)
            size -= taken

    def head(self) -> tuple[int, int]:
        self.digest = self._hash.digest()
        kind, size = _HEAD.unpack(self.take(_HEAD.size))
        low, high = _CAPS.get(kind, (1, 0))
        if not low <= size <= high:
            raise DecodeError(f"bundle: at byte {self.at}: no frame of kind {kind} is {size} bytes long")
        return kind, size

    def error(self, wanted: str, kind: int) -> DecodeError:
        return DecodeError(f"bundle: at byte {self.at}: expected {wanted}, got a frame of kind {kind}")
