"""RFC 6962's tree hash and proofs: published values, a naive model, and published attack vectors."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Tree
from zk_autograd import merkle
from zk_autograd.errors import UsageError, VerificationError

REPOSITORY = Path(__file__).resolve().parents[1]
VECTOR_FOLDER = REPOSITORY.parent / "shared" / "fixtures" / "rfc6962"
VECTORS = sorted(VECTOR_FOLDER.rglob("*.json"))

CT_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
"""The leaves of Certificate Transparency's reference tests, and the roots of their first 0, 1, ... 8."""
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaf(index: int) -> bytes:
    return b"leaf %d" % index


def leaves(count: int) -> list[bytes]:
    return [leaf(i) for i in range(count)]


@cache
def naive_root(start: int, end: int) -> bytes:
    """RFC 6962, section 2.1, word for word, over ``leaf(start) ... leaf(end - 1)``."""
    count = end - start
    if count == 0:
        return hashlib.sha256().digest()
    if count == 1:
        return hashlib.sha256(b"\0" + leaf(start)).digest()
    k = 1
    while 2 * k < count:
        k *= 2
    return hashlib.sha256(b"\1" + naive_root(start, start + k) + naive_root(start + k, end)).digest()


def naive_path(index: int, start: int, end: int) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1, word for word, over ``leaf(start) ... leaf(end - 1)``."""
    count = end - start
    if count == 1:
        return []
    k = 1
    while 2 * k < count:
        k *= 2
    if index < k:
        return [*naive_path(index, start, start + k), naive_root(start + k, end)]
    return [*naive_path(index - k, start + k, end), naive_root(start, start + k)]


def naive_proof(old_size: int, start: int, end: int, whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2, word for word; PROOF with ``whole``."""
    count = end - start
    if old_size == count:
        return [] if whole else [naive_root(start, end)]
    k = 1
    while 2 * k < count:
        k *= 2
    if old_size <= k:
        return [*naive_proof(old_size, start, start + k, whole), naive_root(start + k, end)]
    return [*naive_proof(old_size - k, start + k, end, False), naive_root(start, start + k)]


GROWN = Tree(leaf(i) for i in range(300))


@settings(deadline=None)  # the first examples fill the cache
@given(st.integers(1, 300), st.data())
def test_proofs_are_those_of_the_recursive_definition(size: int, data: st.DataObject) -> None:
    """And lead to roots that nobody gave."""
    index, old_size = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path, proof = naive_path(index, 0, size), naive_proof(old_size, 0, size)
    assert GROWN.inclusion_proof(index, size) == path
    assert GROWN.consistency_proof(old_size, size) == proof
    assert merkle.root_of_inclusion(merkle.leaf_hash(leaf(index)), index, size, path) == naive_root(0, size)
    if old_size < size:
        assert merkle.root_of_consistency(old_size, naive_root(0, old_size), size, proof) == naive_root(0, size)


@pytest.mark.parametrize(("old_size", "size"), [(0, 3), (3, 3), (4, 3), (-1, 3), (3, 2**63)])
def test_between_these_sizes_no_proof_leads_to_a_root(old_size: int, size: int) -> None:
    with pytest.raises(VerificationError, match="0 < old size < size"):
        merkle.root_of_consistency(old_size, bytes(32), size, [])


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert merkle.root(CT_LEAVES[:size]).hex() == CT_ROOTS[size]
    assert merkle.all_paths(CT_LEAVES[:size])[0].hex() == CT_ROOTS[size]


def test_roots_match_the_recursive_definition_for_every_size_up_to_300() -> None:
    for size in range(301):
        assert merkle.root(leaves(size)) == naive_root(0, size)


def test_every_path_of_every_small_tree_verifies_and_is_the_same_from_both_functions() -> None:
    for size in range(1, 40):
        root, paths = merkle.all_paths(leaves(size))
        for index, path in enumerate(paths):
            assert path == merkle.inclusion_path(leaves(size), index)
            merkle.verify_inclusion(leaf(index), index, size, path, root)


@given(st.integers(1, 300), st.data())
def test_a_path_proves_its_own_leaf_place_and_size_only(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index) if size > 1 else st.just(size))
    root, paths = merkle.all_paths(leaves(size))
    merkle.verify_inclusion(leaf(index), index, size, paths[index], root)
    for forged_leaf, forged_index, path in [
        (leaf(other), index, paths[index]),
        (leaf(index), other, paths[index]),
        (leaf(index), index, [*paths[index], bytes(32)]),
        (leaf(index), index, [bytes(32), *paths[index]]),
    ]:
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(forged_leaf, forged_index, size, path, root)


@given(st.binary(min_size=64, max_size=64))
def test_a_node_cannot_be_passed_off_as_a_leaf(children: bytes) -> None:
    root = merkle.node_hash(children[:32], children[32:])
    with pytest.raises(VerificationError, match="expected root"):
        merkle.verify_inclusion(children, 0, 1, [], root)


def test_data_of_32_bytes_is_not_taken_for_a_leaf_hash() -> None:
    digest = merkle.leaf_hash(b"data")
    merkle.verify_inclusion_hash(digest, 0, 1, [], digest)
    with pytest.raises(VerificationError, match="expected root"):
        merkle.verify_inclusion(digest, 0, 1, [], digest)


def test_bytes_shifted_between_path_hashes_are_refused() -> None:
    root, paths = merkle.all_paths(leaves(4))
    first, second = paths[0]
    with pytest.raises(VerificationError, match="32 bytes"):
        merkle.verify_inclusion(leaf(0), 0, 4, [first + second[:1], second[1:]], root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (0, -1), (0, 2**63), (2**70, 2**71)])
def test_places_outside_the_tree_are_refused(index: int, size: int) -> None:
    with pytest.raises(VerificationError, match="index"):
        merkle.verify_inclusion_hash(bytes(32), index, size, [], bytes(32))


def test_an_overlong_proof_is_refused_by_its_length() -> None:
    with pytest.raises(VerificationError, match="at most 63"):
        merkle.verify_inclusion_hash(bytes(32), 0, 2**63 - 1, [bytes(32)] * 100_000, bytes(32))


@pytest.mark.parametrize("index", [-1, 3])
def test_asking_for_a_path_of_no_leaf_is_a_usage_error(index: int) -> None:
    with pytest.raises(UsageError, match="below 3"):
        merkle.inclusion_path(leaves(3), index)


def test_from_the_empty_tree_only_its_true_root_and_an_empty_proof_are_taken() -> None:
    root = merkle.root(leaves(3))
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 3, root, [])
    with pytest.raises(VerificationError, match="empty tree's root"):
        merkle.verify_consistency(0, root, 3, root, [])
    with pytest.raises(VerificationError, match="empty proof"):
        merkle.verify_consistency(0, merkle.EMPTY_ROOT, 3, root, [root])


def test_one_size_with_two_roots_is_refused() -> None:
    with pytest.raises(VerificationError, match="two roots"):
        merkle.verify_consistency(3, merkle.root(leaves(3)), 3, merkle.root([b"x", b"y", b"z"]), [])


@pytest.mark.parametrize(
    "path",
    VECTORS or [pytest.param(None, marks=pytest.mark.skip(reason="../shared/fixtures/rfc6962 is not there"))],
    ids=lambda path: path and path.relative_to(VECTOR_FOLDER).with_suffix("").as_posix(),
)
def test_published_proof_vectors_pass_or_fail_as_they_say(path: Path) -> None:
    vector = json.loads(path.read_text())
    proof = [base64.b64decode(step) for step in vector["proof"] or []]

    def check() -> None:
        if "leafIdx" in vector:
            leaf_hash, root = base64.b64decode(vector["leafHash"] or ""), base64.b64decode(vector["root"] or "")
            merkle.verify_inclusion_hash(leaf_hash, vector["leafIdx"], vector["treeSize"], proof, root)
        else:
            old_root, root = base64.b64decode(vector["root1"] or ""), base64.b64decode(vector["root2"] or "")
            merkle.verify_consistency(vector["size1"], old_root, vector["size2"], root, proof)

    if vector["wantErr"]:
        with pytest.raises(VerificationError):
            check()
    else:
        check()
