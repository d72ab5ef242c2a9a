"""The right edge of a growing log: all that is needed to append to it, whatever its size. Pure.

It holds the hashes of the tiles that are not full, the entries of the last bundle, and the perfect subtrees from which
the root is made: at most 8 KiB a level and one bundle. A tile that becomes full is handed out, and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ledger.tiles import ENTRIES, HEIGHT, WIDTH, Tile, check_hashes, edge_tiles, encode_bundle
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash


class RightEdge:
    """Not safe for use by several threads at once.

    Attributes:
        size: number of leaves.
    """

    __slots__ = ("_bundle", "_full", "_levels", "_stack", "size")

    def __init__(self, full: Callable[[Tile, bytes], None]) -> None:
        """``full`` is given each tile and bundle that becomes full, with its bytes."""
        self._full = full
        self.size = 0
        self._levels: list[bytearray] = [bytearray()]
        self._bundle: list[bytes] = []
        self._stack: list[bytes] = []

    def restore(self, size: int, hashes: Mapping[int, bytes], bundle: Sequence[bytes]) -> None:
        """Makes this the edge of a tree of ``size`` leaves.

        Left to the caller: whether :meth:`root` is then the one that is known.

        Args:
            size: number of leaves.
            hashes: per level the bytes of its partial tile, for each level that has one.
            bundle: the entries of the partial bundle.

        Raises:
            DecodeError: a tile of another width.
            VerificationError: the entries are not those that the leaf hashes are of.
        """
        wanted = {tile.level: tile for tile in edge_tiles(size)}
        for level, tile in wanted.items():
            if level != ENTRIES:
                check_hashes(tile, hashes.get(level, b""))
        if [leaf_hash(entry) for entry in bundle] != split(hashes.get(0, b"")):
            raise VerificationError(f"the entries of {wanted.get(ENTRIES)} are not those that {wanted.get(0)} is of")
        self.size, self._bundle, self._stack = size, list(bundle), []
        self._levels = [bytearray(hashes.get(level, b"")) for level in range(max([0, *wanted]) + 1)]
        for row in reversed(self._levels):
            self._stack += subtrees(split(bytes(row)))

    def append(self, data: bytes) -> int:
        """Adds a leaf; returns its index."""
        index, node, height = self.size, leaf_hash(data), 0
        self._bundle.append(data)
        self._levels[0] += node
        position = index
        while position & 1:
            node = node_hash(self._stack.pop(), node)
            position >>= 1
            height += 1
            if not height % HEIGHT:
                level = height // HEIGHT
                if level == len(self._levels):
                    self._levels.append(bytearray())
                self._levels[level] += node
        self._stack.append(node)
        self.size += 1
        if not self.size % WIDTH:
            self._hand_out()
        return index

    def _hand_out(self) -> None:
        nodes, level = self.size // WIDTH, 0
        self._full(Tile(ENTRIES, nodes - 1), encode_bundle(self._bundle))
        self._bundle = []
        while True:
            self._full(Tile(level, nodes - 1), bytes(self._levels[level]))
            self._levels[level].clear()
            if nodes % WIDTH:
                return
            nodes, level = nodes // WIDTH, level + 1

    def root(self) -> bytes:
        """Root over all leaves."""
        if not self._stack:
            return EMPTY_ROOT
        computed = self._stack[-1]
        for left in reversed(self._stack[:-1]):
            computed = node_hash(left, computed)
        return computed

    def hashes(self, level: int) -> bytes:
        """The hashes of a level's partial tile; empty if it has none."""
        return bytes(self._levels[level]) if level < len(self._levels) else b""

    def partial(self, tile: Tile) -> bytes:
        """The bytes of a partial tile or bundle on the edge, as wide as it is or was.

        Raises:
            UsageError: it is not on the edge.
        """
        level = max(tile.level, 0)
        nodes = self.size >> HEIGHT * level
        if tile.index != nodes // WIDTH or tile.width > nodes % WIDTH:
            raise UsageError(f"{tile} is not on the edge of a tree of {self.size} leaves")
        if tile.level == ENTRIES:
            return encode_bundle(self._bundle[: tile.width])
        return bytes(self._levels[level][: tile.width * HASH_BYTES])


def split(hashes: bytes) -> list[bytes]:
    """Concatenated hashes one by one."""
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


def subtrees(nodes: Sequence[bytes]) -> list[bytes]:
    """The roots of the perfect subtrees into which the nodes fall, the largest (and leftmost) first."""
    found, start = [], 0
    for height in reversed(range(len(nodes).bit_length())):
        if len(nodes) >> height & 1:
            found.append(subtree(nodes[start : start + (1 << height)]))
            start += 1 << height
    return found


def subtree(nodes: Sequence[bytes]) -> bytes:
    """The root of a perfect subtree over a power of two of nodes."""
    if not nodes or len(nodes) & (len(nodes) - 1):
        raise UsageError(f"perfect subtree: expected a power of two of nodes, got {len(nodes)}")
    row = list(nodes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]
