"""Checkpoints (c2sp.org/tlog-checkpoint): origin, tree size and root hash as the three lines of a signed note.

Extension lines are neither written nor taken: nothing could audit them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger.note import SignedNote, VerifierKey, parse_note, sign_note
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE
from zk_autograd.note_keys import decode_base64

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """A log's tree head.

    Attributes:
        origin: the log's name, one line.
        size: number of leaves.
        root: RFC 6962 root at that size, 32 bytes.
        note: the signed note that the checkpoint came in.
    """

    origin: str
    size: int
    root: bytes
    note: SignedNote


def sign_checkpoint(
    origin: str, size: int, root: bytes, key_name: str, sign: Callable[[bytes], bytes], public_key: bytes
) -> str:
    """The checkpoint as a note with one signature.

    Args:
        origin: the log's name, one line, at best also the key's name.
        size: number of leaves.
        root: root at that size, 32 bytes.
        key_name: name in the signature line.
        sign: Ed25519 signature (64 bytes) over the bytes it is given.
        public_key: the public half of the key behind ``sign``, 32 bytes.

    Raises:
        UsageError: an origin, size, root or key name that cannot stand in a checkpoint; nothing was signed.
        VerificationError: ``sign`` is not the key ``public_key``.
    """
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    try:
        parse_text(text)
    except DecodeError as error:
        raise UsageError(f"not signed: {error}") from error
    return sign_note(text, VerifierKey(key_name, public_key), sign)


def parse_checkpoint(note: str) -> Checkpoint:
    """Take a checkpoint apart, without believing it (see :func:`verify_checkpoint`).

    Raises:
        DecodeError: over MAX_NOTE_BYTES, not a note, or its text is not exactly a canonical checkpoint.
    """
    signed = parse_note(note)
    return Checkpoint(*parse_text(signed.text), signed)


def verify_checkpoint(note: str, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """The checkpoint in ``note``, of this origin and signed by one of ``keys``.

    Whether its root is that of the log's entries, and consistent with other checkpoints, remains to be checked.

    Raises:
        DecodeError: not exactly a checkpoint.
        VerificationError: another origin, no signature by one of the keys, or a wrong one.
    """
    checkpoint = parse_checkpoint(note)
    checkpoint.note.verify(keys)
    if checkpoint.origin != origin:
        raise VerificationError(f"checkpoint: expected origin {origin!r}, got {checkpoint.origin!r}")
    return checkpoint


def parse_text(text: str) -> tuple[str, int, bytes]:
    """Origin, size and root in a checkpoint's text.

    Raises:
        DecodeError: not exactly such a text.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise DecodeError(f"checkpoint: expected the three lines origin, size, root; got {len(lines) - 1}")
    origin, decimal, encoded, _ = lines
    if not origin:
        raise DecodeError("checkpoint: the origin is empty")
    size = int(decimal) if _DECIMAL.fullmatch(decimal) else -1
    if not 0 <= size <= MAX_SIZE:
        raise DecodeError(f"checkpoint: expected a decimal size up to {MAX_SIZE}, got {decimal[:40]!r}")
    root = decode_base64(encoded, "checkpoint root")
    if len(root) != HASH_BYTES:
        raise DecodeError(f"checkpoint: expected a root of {HASH_BYTES} bytes, got {len(root)}")
    if (size == 0) != (root == EMPTY_ROOT):
        raise DecodeError(f"checkpoint: size {size} with root {root.hex()}: only the empty tree has the empty root")
    return origin, size, root
