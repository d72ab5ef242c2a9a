"""The append-only tree agrees, at every size it ever had, with the tree built at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Tree, verify_consistency
from zk_autograd import merkle
from zk_autograd.errors import UsageError, VerificationError

LEAVES = [b"entry %d" % i for i in range(300)]
ROOTS = [merkle.root(LEAVES[:size]) for size in range(301)]
TREE = Tree(LEAVES)


def test_a_growing_tree_has_the_right_root_after_each_append() -> None:
    tree = Tree()
    assert (tree.size, tree.root()) == (0, merkle.EMPTY_ROOT)
    for index, data in enumerate(LEAVES):
        assert tree.append(data) == index
        assert tree.size == index + 1
        assert tree.root() == ROOTS[index + 1]


def test_a_grown_tree_still_knows_the_root_of_every_earlier_size() -> None:
    assert [TREE.root_at(size) for size in range(301)] == ROOTS


def test_inclusion_proofs_equal_the_paths_of_the_tree_built_at_once() -> None:
    for size in (1, 2, 3, 7, 8, 9, 31, 32, 33, 100, 255, 256, 257, 300):
        _, paths = merkle.all_paths(LEAVES[:size])
        assert [TREE.inclusion_proof(index, size) for index in range(size)] == paths


def test_every_pair_of_sizes_up_to_65_has_a_consistency_proof_that_verifies() -> None:
    for size in range(66):
        for old_size in range(size + 1):
            proof = TREE.consistency_proof(old_size, size)
            verify_consistency(old_size, ROOTS[old_size], size, ROOTS[size], proof)


@settings(max_examples=300)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300), st.data())
def test_a_consistency_proof_shows_its_own_two_trees_only(a: int, b: int, other: int, data: st.DataObject) -> None:
    old_size, size = sorted((a, b))
    proof = TREE.consistency_proof(old_size, size)
    verify_consistency(old_size, ROOTS[old_size], size, ROOTS[size], proof)
    forgeries = [(old_size, ROOTS[old_size], size, ROOTS[size], [*proof, ROOTS[other]])]
    if other != old_size:
        forgeries.append((old_size, ROOTS[other], size, ROOTS[size], proof))
    if other != size and old_size:
        forgeries.append((old_size, ROOTS[old_size], size, ROOTS[other], proof))
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        forgeries.append((old_size, ROOTS[old_size], size, ROOTS[size], proof[:at] + proof[at + 1 :]))
        flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        forgeries.append((old_size, ROOTS[old_size], size, ROOTS[size], [*proof[:at], flipped, *proof[at + 1 :]]))
    for forgery in forgeries:
        with pytest.raises(VerificationError):
            verify_consistency(*forgery)


def test_a_tree_with_one_changed_entry_is_not_consistent_with_the_old_one() -> None:
    for changed in range(20):
        forged = Tree([*LEAVES[:changed], b"changed", *LEAVES[changed + 1 : 40]])
        with pytest.raises(VerificationError):
            verify_consistency(20, ROOTS[20], 40, forged.root(), forged.consistency_proof(20))


def test_a_tree_from_leaf_hashes_is_the_tree_from_the_leaves() -> None:
    tree = Tree()
    for data in LEAVES[:50]:
        tree.append_hash(merkle.leaf_hash(data))
    assert tree.root() == ROOTS[50]


def test_nodes_are_the_roots_of_full_subtrees() -> None:
    assert TREE.node(0, 5) == merkle.leaf_hash(LEAVES[5])
    assert TREE.node(3, 2) == merkle.root(LEAVES[16:24])
    assert TREE.node(8, 0) == ROOTS[256]
    for level, index in [(8, 1), (9, 0), (0, 300), (-1, 0), (0, -1)]:
        with pytest.raises(UsageError, match="no full subtree"):
            TREE.node(level, index)


def test_questions_about_sizes_the_tree_never_had_are_usage_errors() -> None:
    tree = Tree(LEAVES[:5])
    for ask in (
        lambda: tree.root_at(6),
        lambda: tree.root_at(-1),
        lambda: tree.inclusion_proof(5),
        lambda: tree.inclusion_proof(-1),
        lambda: tree.inclusion_proof(3, 3),
        lambda: tree.consistency_proof(4, 3),
        lambda: tree.consistency_proof(-1),
        lambda: tree.consistency_proof(2, 6),
        lambda: tree.append_hash(b"short"),
    ):
        with pytest.raises(UsageError):
            ask()
