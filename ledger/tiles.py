"""C2SP tlog-tiles (c2sp.org/tlog-tiles): the files that a log of some size consists of, and what is in them. Pure.

::

    checkpoint                      the signed tree head
    tile/<L>/<N>[.p/<W>]            level L: up to 256 hashes, each over 256**L leaves
    tile/entries/<N>[.p/<W>]        up to 256 entries, each behind its length (2 bytes, big-endian)

``N`` is written in groups of three digits, all but the last behind an ``x`` (1234067: ``x001/x234/067``). A tile that
is not full carries its width W. A full one never changes; nor does a partial one, as it is named by its width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from zk_autograd.errors import DecodeError, UsageError
from zk_autograd.merkle import HASH_BYTES, MAX_SIZE

CHECKPOINT = "checkpoint"
WIDTH = 256
"""Hashes, or entries, of a full tile."""
HEIGHT = 8
"""Levels of the tree in one tile: ``2**HEIGHT == WIDTH``."""
ENTRIES = -1
"""The ``level`` of entry bundles, below that of the leaf hashes."""
MAX_ENTRY_BYTES = 4096
"""Largest entry written or taken: the cap of the topic ``ledger``. The format's own is 65,535."""

_INDEX = r"(?:x[0-9]{3}/)*[0-9]{3}"
_PATH = re.compile(rf"tile/(entries|0|[1-9][0-9]?)/({_INDEX})(?:\.p/([1-9][0-9]{{0,2}}))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One tile or bundle by its place.

    Attributes:
        level: from 0 (leaf hashes) up, or ENTRIES.
        index: number within the level, from 0.
        width: how many hashes or entries it holds, 1 to 256.
    """

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if not (ENTRIES <= self.level <= 63 and 0 <= self.index <= MAX_SIZE and 1 <= self.width <= WIDTH):
            raise UsageError(f"no such tile: level {self.level}, index {self.index}, width {self.width}")

    @property
    def full(self) -> Tile:
        """The full tile in the same place."""
        return self if self.width == WIDTH else replace(self, width=WIDTH)

    @property
    def partials(self) -> str:
        """The folder of the partial tiles in the same place."""
        return f"{self.full}.p"

    @property
    def cap(self) -> int:
        """The most bytes it may have."""
        return self.width * (2 + MAX_ENTRY_BYTES if self.level == ENTRIES else HASH_BYTES)

    def __str__(self) -> str:
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        tail = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{tail}"

    @classmethod
    def parse(cls, path: str) -> Tile:
        """The tile at a path.

        Raises:
            DecodeError: no tile's path in its one spelling.
        """
        match = _PATH.fullmatch(path) if len(path) <= 100 else None
        if match is None:
            raise DecodeError(f"tile path: expected tile/<level>/<index>[.p/<width>], got {path[:100]!r}")
        level, index, width = match.groups()
        try:
            number = int(index.replace("x", "").replace("/", ""))
            tile = cls(ENTRIES if level == "entries" else int(level), number, int(width or WIDTH))
        except UsageError as error:
            raise DecodeError(f"tile path {path!r}: {error}") from None
        if str(tile) != path:
            raise DecodeError(f"tile path: expected {tile}, got {path!r}")
        return tile


def check_hashes(tile: Tile, data: bytes) -> None:
    """Raises DecodeError unless ``data`` has the length of the tile's hashes."""
    if len(data) != tile.width * HASH_BYTES:
        raise DecodeError(f"{tile}: expected {tile.width} hashes, {tile.width * HASH_BYTES} bytes; got {len(data)}")


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Entries as a bundle; UsageError for one over MAX_ENTRY_BYTES."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise UsageError(f"log entry: expected at most {MAX_ENTRY_BYTES} bytes, got {len(entry)}")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def decode_bundle(tile: Tile, data: bytes) -> list[bytes]:
    """The entries in a bundle.

    Raises:
        DecodeError: not exactly ``tile.width`` entries of at most MAX_ENTRY_BYTES; names the first that is off.
    """
    entries, at = [], 0
    for number in range(tile.width):
        if at + 2 > len(data):
            raise DecodeError(f"{tile}: expected {tile.width} entries, it ends after {number}")
        size = int.from_bytes(data[at : at + 2], "big")
        if size > MAX_ENTRY_BYTES:
            raise DecodeError(f"{tile}: entry {number} of the bundle has {size} bytes, at most {MAX_ENTRY_BYTES}")
        at += 2 + size
        if at > len(data):
            raise DecodeError(
                f"{tile}: entry {number} of the bundle is cut off: {size} bytes, {at - len(data)} missing"
            )
        entries.append(data[at - size : at])
    if at != len(data):
        raise DecodeError(f"{tile}: {len(data) - at} bytes after its {tile.width} entries")
    return entries


def edge_tiles(size: int) -> Iterator[Tile]:
    """The partial tiles of a tree of ``size`` leaves, its bundle first."""
    level, nodes = 0, size
    while nodes:
        if nodes % WIDTH:
            if not level:
                yield Tile(ENTRIES, nodes // WIDTH, nodes % WIDTH)
            yield Tile(level, nodes // WIDTH, nodes % WIDTH)
        level, nodes = level + 1, nodes // WIDTH


def tile_count(size: int) -> int:
    """How many files a tree of ``size`` leaves has, besides its checkpoint."""
    count, nodes = -(-size // WIDTH), size
    while nodes:
        count += -(-nodes // WIDTH)
        nodes //= WIDTH
    return count
