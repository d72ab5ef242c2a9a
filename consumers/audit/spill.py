"""Sequences that may be larger than memory: appended to, then read, from temporary files that have no name.

What does not fit a few blocks is on the disk, in ``$TMPDIR``, and gone when the audit ends. No more is trusted of it
than of memory: only this process has the files open.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from ledger.frontier import Frontier
from ledger.tree import GrowingTree
from zk_autograd.errors import UsageError
from zk_autograd.merkle import HASH_BYTES, leaf_hash, node_hash

_BLOCK_ROWS = 1024
_BLOCKS = 4
_WRITE = 1 << 20
_READ = 256 << 10


class _File:
    """A file that grows, made when there is something to write."""

    __slots__ = ("_file", "size")
    written = 0
    """Bytes in all files of this process so far."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self.size = 0

    def append(self, data: bytes | bytearray) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="zk-audit-", buffering=0)  # noqa: SIM115
            left = memoryview(data)
            while left:
                written = os.pwrite(self._file.fileno(), left, self.size)
                self.size += written
                _File.written += written
                left = left[written:]
        except OSError as error:
            raise UsageError(
                f"{tempfile.gettempdir()}: {error.strerror}; an audit needs as much room there as the run's records "
                "take in the log: free it, or set TMPDIR to another folder"
            ) from None

    def read(self, start: int, size: int) -> bytes:
        assert self._file is not None
        data = os.pread(self._file.fileno(), size, start)
        while len(data) < min(size, self.size - start):
            data += os.pread(self._file.fileno(), size - len(data), start + len(data))
        return data


def spilled() -> int:
    """Bytes that this process has put on the disk so far."""
    return _File.written


class Rows:
    """Rows of ``width`` bytes each."""

    __slots__ = ("_block", "_blocks", "_count", "_file", "_flushed", "_number", "_tail", "width")

    def __init__(self, width: int) -> None:
        self.width, self._count = width, 0
        self._file, self._flushed, self._tail = _File(), 0, bytearray()
        self._blocks: dict[int, bytes] = {}
        self._number, self._block = -1, b""  # the block that was read last

    def __len__(self) -> int:
        return self._count

    def append(self, row: bytes) -> None:
        """Adds a row."""
        self._tail += row
        self._count += 1
        if len(self._tail) >= self.width * _BLOCK_ROWS * 2:
            self._file.append(self._tail)
            self._flushed += len(self._tail) // self.width
            self._tail = bytearray()

    def __getitem__(self, index: int) -> bytes:
        width = self.width
        if index >= self._flushed:
            start = (index - self._flushed) * width
            return bytes(self._tail[start : start + width])
        number, at = divmod(index, _BLOCK_ROWS)
        if number != self._number:
            self._block, self._number = self._fetched(number), number
        start = at * width
        return self._block[start : start + width]

    def _fetched(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            if len(self._blocks) >= _BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._file.read(number * _BLOCK_ROWS * self.width, _BLOCK_ROWS * self.width)
            self._blocks[number] = block
        return block

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))


class Spool:
    """Byte strings of any length."""

    __slots__ = ("_ends", "_file", "_next", "_size", "_start", "_tail", "_window", "_window_at")

    def __init__(self) -> None:
        self._file, self._tail, self._ends, self._size = _File(), bytearray(), Rows(8), 0
        self._window, self._window_at = b"", 0
        self._next, self._start = 0, 0  # the string behind the one that was read last, and where it begins

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, value: bytes) -> None:
        """Adds a string."""
        self._tail += value
        self._size += len(value)
        self._ends.append(self._size.to_bytes(8, "big"))
        if len(self._tail) >= _WRITE:
            self._file.append(self._tail)
            self._tail = bytearray()

    def __getitem__(self, index: int) -> bytes:
        start = self._start if index == self._next else self._end(index - 1)
        end = self._end(index)
        self._next, self._start = index + 1, end
        if start >= self._file.size:
            return bytes(self._tail[start - self._file.size : end - self._file.size])
        at = start - self._window_at
        if at < 0 or end - self._window_at > len(self._window):
            self._window, self._window_at, at = self._file.read(start, max(_READ, end - start)), start, 0
        return self._window[at : at + end - start]

    def _end(self, index: int) -> int:
        """Where a string ends; one before the first: where that begins."""
        return int.from_bytes(self._ends[index], "big") if index >= 0 else 0


class SpilledTree(GrowingTree):
    """A log's tree of which only blocks are in memory: 64 bytes a leaf on the disk."""

    __slots__ = ("_levels", "_subtrees")

    def __init__(self) -> None:
        self._levels = [Rows(HASH_BYTES)]
        self._subtrees: list[bytes] = []  # the perfect ones, the largest first: what the next leaves join

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf_data: bytes) -> int:
        """Add a leaf; returns its index."""
        index = position = self.size
        level, node = 0, leaf_hash(leaf_data)
        self._levels[0].append(node)
        while position & 1:
            node = node_hash(self._subtrees.pop(), node)
            level, position = level + 1, position >> 1
            if level == len(self._levels):
                self._levels.append(Rows(HASH_BYTES))
            self._levels[level].append(node)
        self._subtrees.append(node)
        return index

    def frontier(self) -> Frontier:
        """A tree of the same leaves, to be carried on by itself."""
        return Frontier(self.size, self._subtrees)

    def node(self, level: int, index: int) -> bytes:
        """See :meth:`GrowingTree.node`."""
        if level < 0 or index < 0 or level >= len(self._levels) or index >= len(self._levels[level]):
            raise UsageError(f"tree: no full subtree {index} at level {level} in a tree of {self.size} leaves")
        return self._levels[level][index]


_EMPTY = bytes(16)


class Ids:
    """Which digests there were, by half of each (16 bytes): a table of 27 to 54 bytes for each, in memory.

    Halves are enough: two digests that share one take 2^64 hashes to make, and whoever makes them loses one of his own
    two records by it.
    """

    __slots__ = ("_count", "_none", "_slots", "_table")

    def __init__(self) -> None:
        self._slots, self._count, self._none = 1024, 0, False
        self._table = bytearray(16 * self._slots)

    def add(self, digest: bytes) -> bool:
        """Whether it is new; from now on it is not."""
        key = digest[:16]
        if key == _EMPTY:
            new, self._none = not self._none, True
            return new
        at = self._find(key)
        if self._table[at : at + 16] == key:
            return False
        self._table[at : at + 16] = key
        self._count += 1
        if self._count * 5 > self._slots * 3:
            self._grow()
        return True

    def __contains__(self, digest: bytes) -> bool:
        key = digest[:16]
        if key == _EMPTY:
            return self._none
        at = self._find(key)
        return self._table[at : at + 16] == key

    def _find(self, key: bytes) -> int:
        """Where the key stands, or the free place for it. Python's hash has a secret: nobody can aim at one place."""
        mask, table = self._slots - 1, self._table
        place = hash(key) & mask
        while True:
            found = table[16 * place : 16 * place + 16]
            if found in (key, _EMPTY):
                return 16 * place
            place = (place + 1) & mask

    def _grow(self) -> None:
        old = self._table
        self._slots *= 2
        self._table = bytearray(16 * self._slots)
        for start in range(0, len(old), 16):
            key = bytes(old[start : start + 16])
            if key != _EMPTY:
                at = self._find(key)
                self._table[at : at + 16] = key
