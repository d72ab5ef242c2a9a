"""A log, its key and its witnesses, for the tests of notes, proofs and receipts."""

from __future__ import annotations

import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger import Tree, VerifierKey, sign_checkpoint
from ledger.cosignature import WitnessKey, cosigned_message, subtree_message
from ledger.note import NoteSignature, add_signatures
from ledger.proof import LogProof

ORIGIN = "example.com/log"
LEAVES = [b"entry %d" % i for i in range(70)]
TREE = Tree(LEAVES)
TIME = 1_780_000_000


def private(name: str) -> Ed25519PrivateKey:
    """Always the same key for one name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


KEY = private("log")
PUBLIC = KEY.public_key().public_bytes_raw()
VERIFIER = VerifierKey(ORIGIN, PUBLIC)
WITNESSES = [WitnessKey(f"w{i}.example", private(f"w{i}").public_key().public_bytes_raw()) for i in range(4)]

PQ_KEY = MLDSA44PrivateKey.from_seed_bytes(hashlib.sha256(b"pq").digest())
PQ = WitnessKey("pq.example", PQ_KEY.public_key().public_bytes_raw())
"""A witness with an ML-DSA-44 key."""


def checkpoint(size: int = 70, tree: Tree = TREE, origin: str = ORIGIN) -> str:
    """The log's checkpoint at this size."""
    return sign_checkpoint(origin, size, tree.root_at(size), VERIFIER.name, KEY.sign, PUBLIC)


def text_of(note: str) -> str:
    """The note's text."""
    return note.rpartition("\n\n")[0] + "\n"


def cosignature(number: int, text: str, timestamp: int = TIME, key: Ed25519PrivateKey | None = None) -> NoteSignature:
    """A line by witness ``number`` over this text; with ``key``, a forgery under the witness's name and id."""
    witness, signer = WITNESSES[number], key or private(f"w{number}")
    signature = struct.pack(">Q", timestamp) + signer.sign(cosigned_message(text, timestamp))
    return NoteSignature(witness.name, witness.key_id, signature)


def pq_cosignature(text: str, timestamp: int = TIME, name: str = PQ.name) -> NoteSignature:
    """A line by the witness with the ML-DSA-44 key; with ``name``, under its own name, but signed as another."""
    return NoteSignature(
        PQ.name, PQ.key_id, struct.pack(">Q", timestamp) + PQ_KEY.sign(subtree_message(text, timestamp, name))
    )


def cosigned_by(note: str, *numbers: int) -> str:
    """The note with the cosignatures of these witnesses."""
    return add_signatures(note, [cosignature(n, text_of(note)) for n in numbers])


def proof(index: int, size: int = 70, extra: bytes | None = None, note: str | None = None) -> LogProof:
    """An honest proof file's content."""
    return LogProof(index, tuple(TREE.inclusion_proof(index, size)), note or checkpoint(size), extra)
