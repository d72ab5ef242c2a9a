"""COSE Receipts (RFC 9942) of the log, for whoever's tools speak COSE: inclusion and consistency, RFC9162_SHA256. Pure.

A receipt is a COSE_Sign1 by the ledger's key over a Merkle root that it does not hold: a verifier computes the root
from the entry (or the older root) and the proof in the unprotected header, and checks the signature over that.

The RFC leaves the tree's size unsigned: one path can then be shown as that of another place in a tree of another size.
So the protected header of these receipts also names, signed:

=======  ===================================================================
   1     algorithm: EdDSA (-8)
   4     key id: SHA-256 of the ledger's public key
  15     CWT claims: ``{1: origin}``
 395     verifiable data structure: RFC9162_SHA256 (1)
-65537   size of the tree (a label for private use): with it the place is fixed
=======  ===================================================================

Other tools may ignore the last one, and then know that the entry is in the log, but not where.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger import cose
from ledger.cose import EDDSA, Sign1
from ledger.tree import Tree
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.merkle import HASH_BYTES, MAX_SIZE, leaf_hash, root_of_consistency, root_of_inclusion
from zk_autograd.tee.keys import key_id, verify_signature

ALG, KID, CWT, VDS, VDP, TREE_SIZE = 1, 4, 15, 395, 396, -65537
ISSUER, RFC9162_SHA256, INCLUSION, CONSISTENCY = 1, 1, -1, -2


@dataclass(frozen=True)
class Receipt:
    """A receipt taken apart. Nothing in it may be relied on before it is verified.

    Attributes:
        kind: INCLUSION or CONSISTENCY.
        first: the leaf's index, or the older size.
        size: of the tree whose root is signed.
        path: at least one hash of 32 bytes, at most 63.
        origin: the log's name.
        key_id: SHA-256 of the signing key.
    """

    kind: int
    first: int
    size: int
    path: tuple[bytes, ...]
    origin: str
    key_id: bytes
    signed: Sign1


def inclusion_receipt(
    tree: Tree, index: int, size: int, origin: str, sign: Callable[[bytes], bytes], public_key: bytes
) -> bytes:
    """The receipt that entry ``index`` is in the tree of ``size`` entries, signed.

    Raises:
        UsageError: no such entry; or a tree of one, for which the RFC has no path.
    """
    proof = [size, index, tree.inclusion_proof(index, size)]
    return _receipt(INCLUSION, proof, tree.root_at(size), origin, sign, public_key)


def consistency_receipt(
    tree: Tree, old_size: int, size: int, origin: str, sign: Callable[[bytes], bytes], public_key: bytes
) -> bytes:
    """The receipt that the tree of ``size`` entries begins with the tree of ``old_size``, signed.

    Raises:
        UsageError: no such sizes; or the same, or from none, for which the RFC has no path.
    """
    proof = [old_size, size, tree.consistency_proof(old_size, size)]
    return _receipt(CONSISTENCY, proof, tree.root_at(size), origin, sign, public_key)


def _receipt(
    kind: int, proof: list[Any], root: bytes, origin: str, sign: Callable[[bytes], bytes], public_key: bytes
) -> bytes:
    size = proof[0] if kind == INCLUSION else proof[1]
    if not proof[2]:
        raise UsageError(f"receipt: RFC 9942 has none with an empty path (first {proof[0]}, then {proof[1]})")
    protected = {
        ALG: EDDSA,
        KID: key_id(public_key),
        CWT: {ISSUER: origin},
        VDS: RFC9162_SHA256,
        TREE_SIZE: size,
    }
    data = cose.sign1(protected, {VDP: {kind: [cose.encode(proof)]}}, root, sign)
    parse_receipt(data)
    verify_signature(public_key, cose.decode_sign1(data, "receipt").signature, cose.signed_message(protected, root))
    return data


def parse_receipt(data: bytes) -> Receipt:
    """Takes a receipt apart, without believing it.

    Raises:
        DecodeError: not exactly such a receipt.
    """
    signed = cose.decode_sign1(data, "receipt")
    head = signed.protected
    if set(head) != {ALG, KID, CWT, VDS, TREE_SIZE}:
        raise DecodeError("receipt: expected algorithm, key id, claims, data structure and tree size, all signed")
    if head[ALG] != EDDSA or head[VDS] != RFC9162_SHA256:
        raise DecodeError(f"receipt: expected algorithm {EDDSA} (EdDSA) and data structure {RFC9162_SHA256}")
    claims, size = head[CWT], head[TREE_SIZE]
    if not isinstance(claims, dict) or set(claims) != {ISSUER} or type(claims[ISSUER]) is not str:
        raise DecodeError("receipt: expected the log's origin as issuer, and no other claim")
    if type(head[KID]) is not bytes or len(head[KID]) != 32 or len(signed.signature) != 64:
        raise DecodeError("receipt: expected a key id of 32 bytes and a signature of 64")
    proofs = signed.unprotected.get(VDP)
    if len(signed.unprotected) != 1 or not isinstance(proofs, dict) or len(proofs) != 1:
        raise DecodeError("receipt: expected one kind of proof in the unprotected header, and nothing else")
    ((kind, encoded),) = proofs.items()
    if kind not in (INCLUSION, CONSISTENCY) or not isinstance(encoded, list) or len(encoded) != 1:
        raise DecodeError("receipt: expected one inclusion or consistency proof")
    if type(encoded[0]) is not bytes:
        raise DecodeError("receipt: expected the proof as bytes")
    first, of_size, path = _proof(kind, cose.decode(encoded[0], "receipt: proof"))
    if type(size) is not int or size != of_size:
        raise DecodeError("receipt: the proof is for another tree size than the one that was signed")
    return Receipt(kind, first, size, path, claims[ISSUER], head[KID], signed)


def _proof(kind: int, value: object) -> tuple[int, int, tuple[bytes, ...]]:
    """First number, size of the tree, and path."""
    if not isinstance(value, list) or len(value) != 3:
        raise DecodeError("receipt: expected a proof of two numbers and a path")
    a, b, path = value
    if type(a) is not int or type(b) is not int or not (0 <= a <= MAX_SIZE and 0 <= b <= MAX_SIZE):
        raise DecodeError(f"receipt: expected two numbers of at most {MAX_SIZE}")
    if not isinstance(path, list) or not 1 <= len(path) <= 63:
        raise DecodeError("receipt: expected a path of 1 to 63 hashes")
    if any(type(step) is not bytes or len(step) != HASH_BYTES for step in path):
        raise DecodeError(f"receipt: expected hashes of {HASH_BYTES} bytes")
    return (b, a, tuple(path)) if kind == INCLUSION else (a, b, tuple(path))


def verify_inclusion_receipt(data: bytes, entry: bytes, origin: str, public_key: bytes) -> Receipt:
    """The log of this origin, whose key this is, holds ``entry`` at the receipt's index, in its tree of that size.

    Args:
        entry: the leaf's bytes (not its hash).

    Raises:
        DecodeError: not a receipt.
        VerificationError: another kind, log or key; or what is signed is not the root to which the path leads.
    """
    receipt = _expected(data, INCLUSION, origin, public_key)
    root = root_of_inclusion(leaf_hash(entry), receipt.first, receipt.size, receipt.path)
    _verify_signed(receipt, root, public_key)
    return receipt


def verify_consistency_receipt(
    data: bytes, old_size: int, old_root: bytes, origin: str, public_key: bytes
) -> tuple[Receipt, bytes]:
    """The log had a tree that begins with the tree of ``old_size`` and ``old_root``, which the verifier knows.

    Returns:
        The receipt, and the root of the newer tree (whose size is the receipt's).

    Raises:
        DecodeError: not a receipt.
        VerificationError: another kind, log, key or size; or what is signed is not the root to which the proof leads.
    """
    receipt = _expected(data, CONSISTENCY, origin, public_key)
    if receipt.first != old_size:
        raise VerificationError(f"receipt: expected one from size {old_size}, got one from {receipt.first}")
    root = root_of_consistency(old_size, old_root, receipt.size, receipt.path)
    _verify_signed(receipt, root, public_key)
    return receipt, root


def _expected(data: bytes, kind: int, origin: str, public_key: bytes) -> Receipt:
    receipt = parse_receipt(data)
    if receipt.kind != kind:
        raise VerificationError(f"receipt: expected proof {kind}, got {receipt.kind} (-1: inclusion, -2: consistency)")
    if receipt.origin != origin:
        raise VerificationError(f"receipt: expected origin {origin!r}, got {receipt.origin[:80]!r}")
    if receipt.key_id != key_id(public_key):
        raise VerificationError(
            f"receipt: expected one by key {key_id(public_key).hex()}, got one by {receipt.key_id.hex()}"
        )
    return receipt


def _verify_signed(receipt: Receipt, root: bytes, public_key: bytes) -> None:
    verify_signature(public_key, receipt.signed.signature, cose.signed_message(receipt.signed.protected, root))
