"""Cosignatures of witnesses on checkpoints (c2sp.org/tlog-cosignature), and quorums of them. Pure.

Both kinds are taken: Ed25519 (``cosignature/v1``), and ML-DSA-44, which holds against quantum computers, too.

A cosignature says that, at a time, the tree in the checkpoint was the largest that the witness had seen of this log,
and that it extended all that it had seen before. So two readers who each ask for a quorum, and whose quorums share one
honest witness, have not been shown two histories.

Which witnesses count is the verifier's choice: names and keys, never what a note says of itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from ledger.checkpoint import Checkpoint, parse_text
from ledger.note import SignedNote
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.note_keys import WitnessKey, require_distinct

__all__ = ["WitnessKey", "cosigned", "cosigned_message", "verify_cosignature", "verify_quorum"]

_TIME = struct.Struct(">Q")
_SIGNATURE_BYTES = {b"\x04": 64, b"\x06": 2420}
"""By kind of key."""
_LABEL = b"subtree/v1\n\0"
_LATEST = 2**63 - 1


def cosigned_message(text: str, timestamp: int) -> bytes:
    """What a witness signs with Ed25519.

    Args:
        text: the checkpoint's, without signature lines.
        timestamp: in seconds since 1970.
    """
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def subtree_message(text: str, timestamp: int, name: str) -> bytes:
    """What the witness ``name`` signs with ML-DSA-44: the tree from its first entry on, as a subtree.

    Raises:
        DecodeError: not a checkpoint's text, or its origin or the name is over 255 bytes.
    """
    origin, size, root = parse_text(text)
    names = []
    for part in (name.encode(), origin.encode()):
        if len(part) > 255:
            raise DecodeError(f"cosignature: expected names of at most 255 bytes, got one of {len(part)}")
        names.append(bytes([len(part)]) + part)
    return _LABEL + names[0] + _TIME.pack(timestamp) + names[1] + struct.pack(">QQ", 0, size) + root


def verify_cosignature(text: str, signature: bytes, key: WitnessKey) -> int:
    """The time (seconds since 1970) at which ``key`` cosigned the checkpoint with this text.

    Args:
        text: the checkpoint's text.
        signature: time and signature, 72 bytes (Ed25519) or 2,428 (ML-DSA-44).

    Raises:
        VerificationError: it did not.
        UsageError: an ML-DSA-44 key, and the library that verifies here cannot.
    """
    where = f"checkpoint: the cosignature of witness {key.name}"
    expected = _TIME.size + _SIGNATURE_BYTES[key.kind]
    if len(signature) != expected:
        raise VerificationError(f"{where}: expected {expected} bytes, got {len(signature)}")
    timestamp, signed = int.from_bytes(signature[: _TIME.size], "big"), signature[_TIME.size :]
    if timestamp > _LATEST:
        raise VerificationError(f"{where}: its time is over 2^63 - 1")
    try:
        if key.kind == b"\x04":
            Ed25519PublicKey.from_public_bytes(key.public_key).verify(signed, cosigned_message(text, timestamp))
        else:
            message = subtree_message(text, timestamp, key.name)
            MLDSA44PublicKey.from_public_bytes(key.public_key).verify(signed, message)
    except UnsupportedAlgorithm as error:
        raise UsageError(
            f"witness {key.name}: its key is ML-DSA-44, which the library 'cryptography' here was built without"
        ) from error
    except (InvalidSignature, ValueError, DecodeError) as error:
        raise VerificationError(f"{where} does not verify") from error
    return timestamp


def cosigned(note: SignedNote, witnesses: Sequence[WitnessKey]) -> dict[WitnessKey, int]:
    """Which of these witnesses cosigned the note, each once, and when (the latest time, if there are several).

    Lines by others are ignored, as the specifications demand.

    Raises:
        VerificationError: a line under one of these names and key ids does not verify.
        UsageError: two of the witnesses have one name, or one key: they would count as two.
    """
    require_distinct(witnesses)
    known = {(key.name, key.key_id): key for key in witnesses}
    found: dict[WitnessKey, int] = {}
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is not None:
            found[key] = max(found.get(key, 0), verify_cosignature(note.text, line.signature, key))
    return found


def verify_quorum(checkpoint: Checkpoint, witnesses: Sequence[WitnessKey], quorum: int) -> dict[WitnessKey, int]:
    """At least ``quorum`` different witnesses of these cosigned the checkpoint; who, and when.

    Whether a log's own key signed it, and whose log it is, remains to be checked: see ``verify_checkpoint``.

    Raises:
        VerificationError: too few, or a wrong cosignature.
        UsageError: a quorum that these witnesses cannot make, or two that are one.
    """
    if not 1 <= quorum <= len(witnesses):
        raise UsageError(f"quorum: expected 1 to {len(witnesses)} of {len(witnesses)} witnesses, got {quorum}")
    found = cosigned(checkpoint.note, witnesses)
    if len(found) < quorum:
        names = ", ".join(sorted(key.name for key in found)) or "nobody"
        raise VerificationError(
            f"checkpoint of size {checkpoint.size}: expected the cosignatures of {quorum} of {len(witnesses)} "
            f"witnesses, found {len(found)} ({names})"
        )
    return found
