"""The least that a tree's root can be carried on from: one hash for each perfect subtree, at most 63. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zk_autograd.errors import DecodeError
from zk_autograd.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, leaf_hash, node_hash


class Frontier:
    """A tree that knows its root, and nothing of its leaves.

    Attributes:
        size: number of leaves.
        subtrees: hashes of its perfect subtrees, the largest first.
    """

    __slots__ = ("size", "subtrees")

    def __init__(self, size: int = 0, subtrees: Sequence[bytes] = ()) -> None:
        """DecodeError if a tree of this size has not so many subtrees."""
        if (
            not 0 <= size <= MAX_SIZE
            or len(subtrees) != size.bit_count()
            or any(len(h) != HASH_BYTES for h in subtrees)
        ):
            raise DecodeError(f"frontier: expected {max(size, 0).bit_count()} hashes for {size} leaves")
        self.size, self.subtrees = size, list(subtrees)

    def append(self, leaf_data: bytes) -> None:
        """Add a leaf."""
        node, position = leaf_hash(leaf_data), self.size
        while position & 1:
            node = node_hash(self.subtrees.pop(), node)
            position >>= 1
        self.subtrees.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Root over all leaves."""
        if not self.subtrees:
            return EMPTY_ROOT
        computed = self.subtrees[-1]
        for left in reversed(self.subtrees[:-1]):
            computed = node_hash(left, computed)
        return computed
