"""A tree whose hashes are in the log's tiles: as little memory as its right edge takes, whatever its size. Pure.

Tiles are read through a function that is passed in, and not believed: a full tile has to hash to what the tile above
says, and that one too, up to one that is on the right edge, which is known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from ledger.edge import RightEdge, split, subtree
from ledger.tiles import HEIGHT, WIDTH, Tile, check_hashes
from ledger.tree import GrowingTree
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.merkle import HASH_BYTES

ReadTile: TypeAlias = Callable[[Tile], bytes]
_CACHED = 256


class TiledTree(GrowingTree):
    """The tree over a right edge and the full tiles left of it. Not safe for use by several threads at once."""

    __slots__ = ("_cache", "_edge", "_read")

    def __init__(self, edge: RightEdge, read: ReadTile) -> None:
        """``read`` gives the bytes of a full tile; it raises a ZkAutogradError if there is none."""
        self._edge, self._read = edge, read
        self._cache: OrderedDict[Tile, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._edge.size

    def append(self, leaf_data: bytes) -> int:
        """Add a leaf; returns its index."""
        return self._edge.append(leaf_data)

    def root(self) -> bytes:
        """Root over all leaves."""
        return self._edge.root()

    def node(self, level: int, index: int) -> bytes:
        """See :meth:`GrowingTree.node`.

        Raises:
            VerificationError: a tile is not this tree's.
            DecodeError: a tile of another length.
        """
        if level < 0 or index < 0 or (index + 1) << level > self.size:
            raise UsageError(f"tree: no full subtree {index} at level {level} in a tree of {self.size} leaves")
        below = level % HEIGHT
        first, count = index << below, 1 << below
        hashes = self._tile(level // HEIGHT, first // WIDTH)
        start = first % WIDTH * HASH_BYTES
        return subtree(split(hashes[start : start + count * HASH_BYTES]))

    def _tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile, full or on the edge."""
        if index == (self.size >> HEIGHT * level) // WIDTH:
            return self._edge.hashes(level)
        tile = Tile(level, index)
        if tile in self._cache:
            self._cache.move_to_end(tile)
            return self._cache[tile]
        data = self._read(tile)
        check_hashes(tile, data)
        above = self._tile(level + 1, index // WIDTH)
        start = index % WIDTH * HASH_BYTES
        expected, found = above[start : start + HASH_BYTES], subtree(split(data))
        if found != expected:
            raise VerificationError(
                f"{tile}: it hashes to {found.hex()}, the tile above says {expected.hex()}: it was altered"
            )
        self._cache[tile] = data
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return data
