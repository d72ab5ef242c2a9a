"""The log's append-only Merkle tree (RFC 6962): appends in constant time on average, proofs for every past size.

A tree of any size is made of the hashes of its perfect subtrees, so its root and its proofs need no leaf data and no
more than O(log^2 n) steps. Where these hashes are is for the subclass: :class:`Tree` keeps them in memory, 64 bytes a
leaf; :class:`ledger.tiled.TiledTree` has them in the log's tiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from zk_autograd.errors import UsageError
from zk_autograd.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash, verify_consistency

__all__ = ["GrowingTree", "Tree", "verify_consistency"]


class GrowingTree(ABC):
    """An append-only Merkle tree. Not safe for use by several threads at once."""

    __slots__ = ()

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of leaves."""

    @abstractmethod
    def append(self, leaf_data: bytes) -> int:
        """Add a leaf; returns its index."""

    @abstractmethod
    def node(self, level: int, index: int) -> bytes:
        """Hash of the ``index``-th perfect subtree of ``2**level`` leaves (level 0: the leaf hashes).

        Raises:
            UsageError: that subtree is not full yet.
        """

    def root(self) -> bytes:
        """Root over all leaves."""
        return self._range_root(0, self.size)

    def root_at(self, size: int) -> bytes:
        """Root that the tree had at an earlier size.

        Raises:
            UsageError: the tree never had that size.
        """
        self._require_size(size)
        return self._range_root(0, size)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[0:size]) of RFC 6962, section 2.1.1; ``size`` is the current one unless given.

        Raises:
            UsageError: the tree never had that size, or no such leaf at that size.
        """
        end = self._require_size(self.size if size is None else size)
        if not 0 <= index < end:
            raise UsageError(f"inclusion proof: expected a leaf index below {end}, got {index}")
        start, path = 0, []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start = middle
        path.reverse()
        return path

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """PROOF(old_size, D[0:size]) of RFC 6962, section 2.1.2; empty from size 0 and between equal sizes.

        Raises:
            UsageError: the tree never had these sizes, or they are in the wrong order.
        """
        end = self._require_size(self.size if size is None else size)
        if not 0 <= old_size <= end:
            raise UsageError(f"consistency proof: expected an old size of at most {end}, got {old_size}")
        if old_size in (0, end):
            return []
        start, proof = 0, []
        while old_size != end:
            middle = start + _split(end - start)
            if old_size <= middle:
                proof.append(self._range_root(middle, end))
                end = middle
            else:
                proof.append(self._range_root(start, middle))
                start = middle
        if start:
            # The old tree is not the perfect subtree at the far left, whose root the verifier knows already.
            proof.append(self._range_root(start, end))
        proof.reverse()
        return proof

    def _require_size(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise UsageError(f"tree: expected a size of at most {self.size}, got {size}")
        return size

    def _range_root(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]); ``start`` must be a multiple of a power of two that is at least ``end - start``."""
        if start == end:
            return EMPTY_ROOT
        subtrees = []
        for level in reversed(range((end - start).bit_length())):
            if (end - start) >> level & 1:
                subtrees.append(self.node(level, start >> level))
                start += 1 << level
        computed = subtrees.pop()
        while subtrees:
            computed = node_hash(subtrees.pop(), computed)
        return computed


class Tree(GrowingTree):
    """A tree in memory, 64 bytes a leaf: for each height the perfect subtrees' hashes, left to right."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_datas: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for data in leaf_datas:
            self.append(data)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf_data: bytes) -> int:
        """Add a leaf; returns its index."""
        return self.append_hash(leaf_hash(leaf_data))

    def append_hash(self, leaf: bytes) -> int:
        """Add a leaf of which only the leaf hash is at hand; returns its index."""
        if len(leaf) != HASH_BYTES:
            raise UsageError(f"tree: expected a leaf hash of {HASH_BYTES} bytes, got {len(leaf)}")
        index = self.size
        level, position, node = 0, index, leaf
        while True:
            self._levels[level] += node
            if not position & 1:
                return index
            node = node_hash(self.node(level, position - 1), node)
            level, position = level + 1, position >> 1
            if level == len(self._levels):
                self._levels.append(bytearray())

    def node(self, level: int, index: int) -> bytes:
        """See :meth:`GrowingTree.node`."""
        start = index * HASH_BYTES
        if level < 0 or index < 0 or level >= len(self._levels) or start >= len(self._levels[level]):
            raise UsageError(f"tree: no full subtree {index} at level {level} in a tree of {self.size} leaves")
        return bytes(self._levels[level][start : start + HASH_BYTES])


def _split(count: int) -> int:
    """The largest power of two below ``count`` (at least 2): where RFC 6962 splits that many leaves."""
    return 1 << (count - 1).bit_length() - 1
