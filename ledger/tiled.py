"""A tree whose hashes are in the log's tiles: as little memory as its right edge takes, whatever its size. Pure.

Tiles are read through a function that is passed in, and not believed: a full tile has to hash to what the tile above
says, and that one too, up to one that is on the right edge, which is known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from ledger.edge import RightEdge, split
from ledger.tiles import HEIGHT, WIDTH, Tile, check_hashes
from ledger.tree import GrowingTree
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.merkle import node_hash

ReadTile: TypeAlias = Callable[[Tile], bytes]
Rows: TypeAlias = list[list[bytes]]
"""A tile's hashes, and above them those of the perfect subtrees over them."""
_CACHED = 512
"""Tiles that are kept, of about 40 kB each."""


class TiledTree(GrowingTree):
    """The tree over a right edge and the full tiles left of it. Not safe for use by several threads at once."""

    __slots__ = ("_cache", "_edge", "_read")

    def __init__(self, edge: RightEdge, read: ReadTile) -> None:
        """``read`` gives the bytes of a full tile; it raises a ZkAutogradError if there is none."""
        self._edge, self._read = edge, read
        self._cache: OrderedDict[Tile, Rows] = OrderedDict()

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
        above, per_tile = level % HEIGHT, WIDTH >> level % HEIGHT
        return self._tile(level // HEIGHT, index // per_tile)[above][index % per_tile]

    def _tile(self, level: int, index: int) -> Rows:
        """A tile, full or on the edge."""
        nodes = self.size >> HEIGHT * level
        tile = Tile(level, index) if index < nodes // WIDTH else Tile(level, index, nodes % WIDTH)
        if tile in self._cache:
            self._cache.move_to_end(tile)
            return self._cache[tile]
        if tile.width < WIDTH:
            rows = _rows(self._edge.hashes(level))
        else:
            data = self._read(tile)
            check_hashes(tile, data)
            rows = _rows(data)
            expected = self._tile(level + 1, index // WIDTH)[0][index % WIDTH]
            found = rows[HEIGHT][0]
            if found != expected:
                raise VerificationError(
                    f"{tile}: it hashes to {found.hex()}, the tile above says {expected.hex()}: it was altered"
                )
        self._cache[tile] = rows
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return rows


def _rows(hashes: bytes) -> Rows:
    rows = [split(hashes)]
    while len(rows[-1]) > 1:
        below = rows[-1]
        rows.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return rows
