"""Merkle tree hash, inclusion and consistency proofs of RFC 6962 (SHA-256), as pure functions.

One tree hash serves everything here: the roots over a model's shards and the log's own checkpoints. A leaf is
hashed as ``SHA-256(0x00 || data)`` and a node as ``SHA-256(0x01 || left || right)``, so that no leaf can pass for a
node. Every hash is 32 bytes. The verifiers follow RFC 9162, sections 2.1.3.2 and 2.1.4.2, return nothing and raise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zk_autograd.errors import UsageError, VerificationError

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
"""Largest tree size that is taken: what a signed 64-bit integer (Avro ``long``) can hold."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 6962, section 2.1)."""

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf, 32 bytes."""
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node over its two children, 32 bytes each."""
    return hashlib.sha256(_NODE + left + right).digest()


def root(leaf_datas: Sequence[bytes]) -> bytes:
    """Merkle tree hash (MTH) over the leaves' data, in order; n leaves take 2n - 1 hashes."""
    nodes = [leaf_hash(data) for data in leaf_datas]
    if not nodes:
        return EMPTY_ROOT
    while len(nodes) > 1:
        nodes = _parents(nodes)
    return nodes[0]


def all_paths(leaf_datas: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root and every leaf's inclusion path at once, with no more hashing than the root alone.

    Args:
        leaf_datas: the leaves' data, in order.

    Returns:
        ``(root, paths)``; ``paths[i]`` is leaf i's path from the leaf's sibling upwards.
    """
    nodes = [leaf_hash(data) for data in leaf_datas]
    if not nodes:
        return EMPTY_ROOT, []
    paths: list[list[bytes]] = [[] for _ in nodes]
    level = 0
    while len(nodes) > 1:
        for index, path in enumerate(paths):
            sibling = (index >> level) ^ 1
            if sibling < len(nodes):
                path.append(nodes[sibling])
        nodes = _parents(nodes)
        level += 1
    return nodes[0], paths


def inclusion_path(leaf_datas: Sequence[bytes], index: int) -> list[bytes]:
    """Inclusion path of leaf ``index``, from its sibling upwards (at most ``ceil(log2 n)`` hashes).

    Raises:
        UsageError: there is no such leaf.
    """
    if not 0 <= index < len(leaf_datas):
        raise UsageError(f"inclusion path: expected a leaf index below {len(leaf_datas)}, got {index}")
    nodes = [leaf_hash(data) for data in leaf_datas]
    path = []
    while len(nodes) > 1:
        if index ^ 1 < len(nodes):
            path.append(nodes[index ^ 1])
        nodes = _parents(nodes)
        index >>= 1
    return path


def verify_inclusion(leaf_data: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Leaf ``index`` of the tree with ``size`` leaves and this root holds exactly ``leaf_data``.

    Raises:
        VerificationError: it does not, or the path is not the exact one.
    """
    verify_inclusion_hash(leaf_hash(leaf_data), index, size, path, root)


def verify_inclusion_hash(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """:func:`verify_inclusion` for a leaf of which only the hash (:func:`leaf_hash`) is known.

    A function of its own, so that data of 32 bytes is never taken for a hash.
    """
    _require_hashes("inclusion", [root])
    computed = root_of_inclusion(leaf, index, size, path)
    if computed != root:
        raise VerificationError(
            f"inclusion: leaf {index} of {size}: expected root {root.hex()}, the path leads to {computed.hex()}"
        )


def root_of_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root to which the path leads from a leaf's hash: for who has the root from nowhere else, but signed.

    Raises:
        VerificationError: the path has not the length of one for this place.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise VerificationError(f"inclusion: expected 0 <= index < size <= {MAX_SIZE}, got index {index}, size {size}")
    _require_hashes("inclusion", [leaf, *path])
    node, last, computed = index, size - 1, leaf
    for step in path:
        if last == 0:
            raise VerificationError(f"inclusion: path too long for leaf {index} of {size}: got {len(path)} hashes")
        if node & 1 or node == last:
            computed = node_hash(step, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, step)
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError(f"inclusion: path too short for leaf {index} of {size}: got {len(path)} hashes")
    return computed


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """The tree of ``size`` leaves begins with the very leaves of the tree of ``old_size``.

    Between equal sizes, and from the empty tree, the proof must be empty.

    Raises:
        VerificationError: it does not, or the proof is not the exact one.
    """
    where = f"consistency {old_size} -> {size}"
    if not 0 <= old_size <= size <= MAX_SIZE:
        raise VerificationError(f"{where}: expected 0 <= old size <= size <= {MAX_SIZE}")
    _require_hashes(where, [old_root, root, *proof])
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise VerificationError(f"{where}: expected the empty tree's root, got {old_root.hex()}")
    if old_size in (0, size):
        if proof:
            raise VerificationError(f"{where}: expected an empty proof, got {len(proof)} hashes")
        if old_size == size and old_root != root:
            raise VerificationError(f"{where}: one size, two roots: {old_root.hex()} and {root.hex()}")
        return
    computed = root_of_consistency(old_size, old_root, size, proof)
    if computed != root:
        raise VerificationError(f"{where}: expected new root {root.hex()}, the proof gives {computed.hex()}")


def root_of_consistency(old_size: int, old_root: bytes, size: int, proof: Sequence[bytes]) -> bytes:
    """The newer root to which the proof leads from the older: for who has it from nowhere else, but signed.

    Raises:
        VerificationError: not ``0 < old size < size``, or the proof is not the exact one from the older root.
    """
    where = f"consistency {old_size} -> {size}"
    if not 0 < old_size < size <= MAX_SIZE:
        raise VerificationError(f"{where}: expected 0 < old size < size <= {MAX_SIZE}")
    _require_hashes(where, [old_root, *proof])
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    # A perfect old tree is itself the first node of the walk, and the proof leaves it out.
    steps = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not steps:
        raise VerificationError(f"{where}: the proof is empty")
    old_computed = computed = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise VerificationError(f"{where}: the proof is too long: {len(proof)} hashes")
        if node & 1 or node == last:
            old_computed, computed = node_hash(step, old_computed), node_hash(step, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, step)
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError(f"{where}: the proof is too short: {len(proof)} hashes")
    if old_computed != old_root:
        raise VerificationError(f"{where}: expected old root {old_root.hex()}, the proof gives {old_computed.hex()}")
    return computed


def _parents(nodes: list[bytes]) -> list[bytes]:
    """The next level up; an odd last node moves up as it is, which gives RFC 6962's split for every size."""
    parents = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes) - 1, 2)]
    if len(nodes) & 1:
        parents.append(nodes[-1])
    return parents


def _require_hashes(where: str, hashes: Sequence[bytes]) -> None:
    """Proofs are short (two roots and at most 63 hashes, plus a leaf): refuse more before hashing anything."""
    if len(hashes) > 66:
        raise VerificationError(f"{where}: expected at most 63 hashes, got {len(hashes)}")
    for value in hashes:
        if len(value) != HASH_BYTES:
            raise VerificationError(f"{where}: expected hashes of {HASH_BYTES} bytes, got one of {len(value)}")
