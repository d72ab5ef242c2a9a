"""Cosignatures of witnesses on checkpoints (c2sp.org/tlog-cosignature, Ed25519), and quorums of them. Pure.

A cosignature says that, at a time, the tree in the checkpoint was the largest that the witness had seen of this log,
and that it extended all that it had seen before. So two readers who each ask for a quorum, and whose quorums share one
honest witness, have not been shown two histories.

Which witnesses count is the verifier's choice: names and keys, never what a note says of itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.checkpoint import Checkpoint
from ledger.note import SignedNote
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.note_keys import WitnessKey, require_distinct

__all__ = ["WitnessKey", "cosigned", "cosigned_message", "verify_cosignature", "verify_quorum"]

_TIMESTAMPED = struct.Struct(">Q64s")
_LATEST = 2**63 - 1


def cosigned_message(text: str, timestamp: int) -> bytes:
    """What a witness signs: ``text`` is the checkpoint's, without signature lines; the time in seconds since 1970."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def verify_cosignature(text: str, signature: bytes, key: WitnessKey) -> int:
    """The time (seconds since 1970) at which ``key`` cosigned the checkpoint with this text.

    Args:
        text: the checkpoint's text.
        signature: time and Ed25519 signature, 72 bytes.

    Raises:
        VerificationError: it did not.
    """
    where = f"checkpoint: the cosignature of witness {key.name}"
    if len(signature) != _TIMESTAMPED.size:
        raise VerificationError(f"{where}: expected {_TIMESTAMPED.size} bytes, got {len(signature)}")
    timestamp, signed = _TIMESTAMPED.unpack(signature)
    if timestamp > _LATEST:
        raise VerificationError(f"{where}: its time is over 2^63 - 1")
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signed, cosigned_message(text, timestamp))
    except (InvalidSignature, ValueError) as error:
        raise VerificationError(f"{where} does not verify") from error
    return int(timestamp)


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
