"""COSE Receipts (RFC 9942): every entry and pair of sizes, deterministic CBOR only, and forgeries."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Tree, cose
from ledger.receipt import (
    ALG,
    CWT,
    INCLUSION,
    KID,
    TREE_SIZE,
    VDP,
    VDS,
    consistency_receipt,
    inclusion_receipt,
    parse_receipt,
    verify_consistency_receipt,
    verify_inclusion_receipt,
)
from tests.ledger.signing import KEY, LEAVES, ORIGIN, PUBLIC, TREE, private
from zk_autograd import merkle
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.tee.keys import key_id


def inclusion(index: int, size: int = 70, tree: Tree = TREE, origin: str = ORIGIN) -> bytes:
    return inclusion_receipt(tree, index, size, origin, KEY.sign, PUBLIC)


def consistency(old: int, size: int = 70) -> bytes:
    return consistency_receipt(TREE, old, size, ORIGIN, KEY.sign, PUBLIC)


def check(data: bytes, entry: bytes) -> tuple[int, int]:
    receipt = verify_inclusion_receipt(data, entry, ORIGIN, PUBLIC)
    return receipt.first, receipt.size


def parts(data: bytes) -> list[Any]:
    found: list[Any] = cbor2.loads(data[1:])  # below a tag, cbor2 gives what cannot be changed
    return found


def rebuilt(found: list[Any]) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(18, found), canonical=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 70), st.data())
def test_every_entry_of_every_size_has_a_receipt_for_itself_only(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    made = inclusion(index, size)
    assert check(made, LEAVES[index]) == (index, size)
    for other in (LEAVES[(index + 1) % 70], b"", TREE.node(0, index)):
        with pytest.raises(VerificationError, match="does not verify"):
            check(made, other)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 69), st.data())
def test_every_two_sizes_have_a_receipt_of_consistency_for_themselves_only(old: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(old + 1, 70))
    made = consistency(old, size)
    receipt, root = verify_consistency_receipt(made, old, TREE.root_at(old), ORIGIN, PUBLIC)
    assert (receipt.first, receipt.size, root) == (old, size, TREE.root_at(size))
    with pytest.raises(VerificationError):
        verify_consistency_receipt(made, old, TREE.root_at(old % 69 + 1), ORIGIN, PUBLIC)
    with pytest.raises(VerificationError, match="from size"):
        verify_consistency_receipt(made, old + 1, TREE.root_at(old + 1), ORIGIN, PUBLIC)


def test_a_receipt_is_built_as_the_rfc_says() -> None:
    protected, unprotected, payload, signature = parts(inclusion(17, 20))
    head = cbor2.loads(protected)
    assert (head[1], head[395], payload, len(signature)) == (-8, 1, None, 64)
    assert head[4] == key_id(PUBLIC)
    assert head[15] == {1: ORIGIN}
    assert list(unprotected) == [396]
    (encoded,) = unprotected[396][-1]
    assert cbor2.loads(encoded) == [20, 17, TREE.inclusion_proof(17, 20)]
    message = cbor2.dumps(["Signature1", protected, b"", TREE.root_at(20)], canonical=True)
    KEY.public_key().verify(signature, message)
    assert inclusion(17, 20)[0] == 0xD2, "tag 18, in one byte"
    (encoded,) = parts(consistency(20, 50))[1][396][-2]
    assert cbor2.loads(encoded) == [20, 50, TREE.consistency_proof(20, 50)]


def test_there_is_no_receipt_where_the_rfc_has_no_path() -> None:
    for make in (lambda: inclusion(0, 1), lambda: consistency(5, 5), lambda: consistency(0, 5)):
        with pytest.raises(UsageError, match="empty path"):
            make()


def test_places_that_the_log_does_not_have_are_usage_errors() -> None:
    for make in (lambda: inclusion(70), lambda: inclusion(-1), lambda: inclusion(3, 71), lambda: consistency(9, 8)):
        with pytest.raises(UsageError):
            make()


def test_signing_with_another_key_than_the_public_one_is_noticed() -> None:
    with pytest.raises(VerificationError, match="does not verify"):
        inclusion_receipt(TREE, 3, 70, ORIGIN, private("other").sign, PUBLIC)


def moved(data: bytes, index: int, size: int) -> bytes:
    """The same path, said to be of another place."""
    found = parts(data)
    (encoded,) = found[1][VDP][INCLUSION]
    found[1][VDP][INCLUSION] = [cbor2.dumps([size, index, cbor2.loads(encoded)[2]], canonical=True)]
    return rebuilt(found)


def test_a_path_cannot_be_shown_as_that_of_another_place() -> None:
    """The path of the last of five entries is that of the second of two: the RFC alone would take both."""
    five = Tree(LEAVES[:5])
    made = inclusion(4, 5, five)
    assert merkle.root_of_inclusion(merkle.leaf_hash(LEAVES[4]), 1, 2, five.inclusion_proof(4)) == five.root()
    with pytest.raises(DecodeError, match="another tree size than the one that was signed"):
        check(moved(made, 1, 2), LEAVES[4])
    for index in range(4):
        with pytest.raises(VerificationError):
            check(moved(made, index, 5), LEAVES[4])


@pytest.mark.parametrize("label", [ALG, KID, CWT, VDS, TREE_SIZE])
def test_what_is_signed_cannot_be_left_out_or_changed(label: int) -> None:
    others: dict[int, list[Any]] = {
        ALG: [-7, -19, "EdDSA", None], KID: [bytes(32), b"", None], CWT: [{}, {1: "x"}, {1: ORIGIN, 2: "x"}, {1: 1}],
        VDS: [0, 2, -1], TREE_SIZE: [69, 71, "70", None, -1, 2**63],
    }  # fmt: skip
    for value in (..., *others[label]):
        found = parts(inclusion(3))
        head = cbor2.loads(found[0])
        if value is ...:
            del head[label]
        else:
            head[label] = value
        found[0] = cbor2.dumps(head, canonical=True)
        with pytest.raises((DecodeError, VerificationError)):
            check(rebuilt(found), LEAVES[3])
        if value is ... or label not in (KID, CWT):
            with pytest.raises(DecodeError):  # nor by the ledger's key holder
                check(cose.sign1(head, found[1], TREE.root(), KEY.sign), LEAVES[3])


def test_another_logs_receipt_one_by_another_key_and_of_another_kind_are_refused() -> None:
    with pytest.raises(VerificationError, match="expected origin"):
        check(inclusion(3, origin="example.com/b"), LEAVES[3])
    other = private("other")
    foreign = inclusion_receipt(TREE, 3, 70, ORIGIN, other.sign, other.public_key().public_bytes_raw())
    with pytest.raises(VerificationError, match="expected one by key"):
        check(foreign, LEAVES[3])
    with pytest.raises(VerificationError, match="expected proof -1"):
        check(consistency(3), LEAVES[3])
    with pytest.raises(VerificationError, match="expected proof -2"):
        verify_consistency_receipt(inclusion(3), 3, TREE.root_at(3), ORIGIN, PUBLIC)


def test_every_changed_bit_of_a_receipt_is_noticed() -> None:
    made = inclusion(3, 5)
    for at in range(len(made)):
        for bit in (0x01, 0x80):
            forged = made[:at] + bytes([made[at] ^ bit]) + made[at + 1 :]
            with pytest.raises((DecodeError, VerificationError)):
                check(forged, LEAVES[3])


def test_a_receipt_of_consistency_from_a_forked_tree_is_refused() -> None:
    forked = Tree([b"x", *LEAVES[1:]])
    made = consistency_receipt(forked, 20, 70, ORIGIN, KEY.sign, PUBLIC)
    with pytest.raises(VerificationError, match="old root"):
        verify_consistency_receipt(made, 20, TREE.root_at(20), ORIGIN, PUBLIC)


def not_deterministic(made: bytes) -> dict[str, bytes]:
    found = parts(made)
    head = cbor2.loads(found[0])
    plain = cbor2.dumps(found[:1], canonical=True)[1:] + cbor2.dumps(found[1], canonical=True) + b"\xf6"
    signature = cbor2.dumps(found[3])
    backwards = cbor2.dumps(dict(reversed(head.items())))
    (encoded,) = found[1][VDP][INCLUSION]
    return {
        "no-tag": made[1:],
        "tag-in-two-bytes": b"\xd8\x12" + made[1:],
        "tag-17": b"\xd1" + made[1:],
        "tag-twice": b"\xd2" + made,
        "trailing-byte": made + b"\x00",
        "cut": made[:-1],
        "array-length-in-two-bytes": b"\xd2\x98\x04" + made[2:],
        "indefinite-array": b"\xd2\x9f" + made[2:] + b"\xff",
        "indefinite-bytes": b"\xd2\x84" + plain + b"\x5f" + signature + b"\xff",
        "five-parts": b"\xd2\x85" + made[2:] + b"\xf6",
        "three-parts": b"\xd2\x83" + plain,
        "attached-payload": b"\xd2\x84" + plain[:-1] + b"\x40" + signature,
        "undefined-payload": b"\xd2\x84" + plain[:-1] + b"\xf7" + signature,
        "headers-in-another-order": rebuilt([backwards, *found[1:]]),
        "protected-header-as-a-map": rebuilt([head, *found[1:]]),
        "protected-header-empty": rebuilt([b"", *found[1:]]),
        "a-header-more": rebuilt([cbor2.dumps({**head, 3: "x"}, canonical=True), *found[1:]]),
        "an-unprotected-header-more": rebuilt([found[0], {**found[1], 4: b"x"}, *found[2:]]),
        "no-proof": rebuilt([found[0], {}, *found[2:]]),
        "two-kinds-of-proof": rebuilt([found[0], {VDP: {-1: [encoded], -2: [encoded]}}, *found[2:]]),
        "two-proofs": rebuilt([found[0], {VDP: {-1: [encoded, encoded]}}, *found[2:]]),
        "an-unknown-proof": rebuilt([found[0], {VDP: {-3: [encoded]}}, *found[2:]]),
        "proof-as-an-array": rebuilt([found[0], {VDP: {-1: [cbor2.loads(encoded)]}}, *found[2:]]),
        "proof-with-a-trailing-byte": rebuilt([found[0], {VDP: {-1: [encoded + b"\x00"]}}, *found[2:]]),
        "size-as-a-float": rebuilt([found[0], {VDP: {-1: [b"\x83\xf9\x4d\x00" + encoded[2:]]}}, *found[2:]]),
        "size-as-a-bignum": rebuilt([found[0], {VDP: {-1: [b"\x83\xc2\x41\x05" + encoded[2:]]}}, *found[2:]]),
        "size-as-true": rebuilt([found[0], {VDP: {-1: [b"\x83\xf5" + encoded[2:]]}}, *found[2:]]),
        "negative-index": rebuilt([found[0], {VDP: {-1: [b"\x83\x05\x20" + encoded[3:]]}}, *found[2:]]),
        "no-path": rebuilt([found[0], {VDP: {-1: [b"\x83\x05\x03\x80"]}}, *found[2:]]),
        "path-of-64": rebuilt([found[0], {VDP: {-1: [cbor2.dumps([5, 3, [bytes(32)] * 64])]}}, *found[2:]]),
        "path-of-texts": rebuilt([found[0], {VDP: {-1: [cbor2.dumps([5, 3, ["x" * 32] * 3])]}}, *found[2:]]),
        "path-of-31-bytes": rebuilt([found[0], {VDP: {-1: [cbor2.dumps([5, 3, [bytes(31)] * 3])]}}, *found[2:]]),
        "short-signature": rebuilt([*found[:3], found[3][:63]]),
        "too-large": made + bytes(cose.MAX_BYTES),
        "empty": b"",
    }


NOT_RECEIPTS = not_deterministic(inclusion(3, 5))


@pytest.mark.parametrize("name", NOT_RECEIPTS)
def test_what_is_not_exactly_a_receipt_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        parse_receipt(NOT_RECEIPTS[name])


def laughs() -> bytes:
    """Shared values within shared values: 8^7 parts from few bytes, if a decoder follows."""
    inner = b"\xd8\x1c\x81\x00"
    for level in range(6):
        inner = b"\xd8\x1c\x88" + inner + (b"\xd8\x1d" + bytes([6 - level])) * 7
    return inner


HOSTILE = {
    "shared-value-of-itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a-billion-laughs": laughs(),
    "regular-expression": b"\xd8\x23\x69(((a+)+)+",
    "decimal-with-a-large-exponent": b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
    "bigfloat-with-a-large-exponent": b"\xc5\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",
    "rational": b"\xd8\x1e\x82\x01\x00",
    "bignum": b"\xc2\x59\x20\x00" + b"\xff" * 8192,
    "set-of-a-set": b"\xd9\x01\x02\x81\xd9\x01\x02\x80",
    "date": b"\xc0\x74" + b"2013-03-21T20:04:00Z",
    "unknown-tag": b"\xd9\xff\x00\x00",
    "deep": b"\x81" * 4000 + b"\x00",
    "array-of-2^63": b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "map-of-2^63": b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    "bytes-of-2^63": b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "bytes-of-2^64-1": b"\x5b" + b"\xff" * 8,
    "duplicate-key": b"\xa2\x01\x00\x01\x00",
    "key-of-another-order": b"\xa2\x02\x00\x01\x00",
    "list-as-a-key": b"\xa1\x81\x01\x00",
    "not-a-number": b"\xf9\x7e\x00",
    "text-that-is-none": b"\x61\xff",
    "simple-value": b"\xf8\xff",
    "reserved": b"\x1c",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_cbor_that_has_no_place_here_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        cose.decode(HOSTILE[name], name)


PLAIN = st.recursive(
    st.none() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(-(2**64), 2**64 - 1), inner, max_size=5),
    max_leaves=12,
)


@settings(deadline=None)
@given(PLAIN)
def test_what_is_encoded_is_decoded_to_the_same(value: object) -> None:
    try:
        assert cose.decode(cose.encode(value), "x") == value
    except DecodeError:
        assert _depth(value) > 7, "only what is nested too deep"


def _depth(value: object) -> int:
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_is_decoded_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = cose.decode(data, "x")
    except DecodeError:
        return
    assert cose.encode(value) == data
