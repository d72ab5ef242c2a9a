"""What a log and a witness say to each other (c2sp.org/tlog-witness), as bytes. Pure: :mod:`consumers.ledger.witnesses`
sends it.

A witness keeps the last tree that it cosigned of each log. The log shows it a checkpoint and a consistency proof from
that tree; it answers with cosignatures, or with the size that it holds.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import WitnessKey, verify_cosignature
from ledger.note import MAX_NOTE_BYTES, NoteSignature, parse_note
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.merkle import HASH_BYTES, MAX_SIZE
from zk_autograd.note_keys import decode_base64

MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 63 * 45 + 64
MAX_RESPONSE_BYTES = MAX_NOTE_BYTES
"""Largest answer taken."""
SIZE_TYPE = "text/x.tlog.size"
"""Content type of the answer that names the size a witness holds."""

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


def add_checkpoint_request(old_size: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of an ``add-checkpoint`` request.

    Args:
        old_size: what the witness holds.
        proof: consistency proof from there to the checkpoint, at most 63 hashes.
        note: the checkpoint with its signatures.

    Raises:
        UsageError: the old size is over the checkpoint's, or the proof cannot be one.
        DecodeError: ``note`` is no checkpoint.
    """
    checkpoint = parse_checkpoint(note)
    if not 0 <= old_size <= checkpoint.size:
        raise UsageError(f"witness: expected an old size of at most {checkpoint.size}, got {old_size}")
    if len(proof) > 63 or any(len(step) != HASH_BYTES for step in proof) or (proof and not old_size):
        raise UsageError("witness: expected at most 63 hashes of 32 bytes, and none from size 0")
    lines = [f"old {old_size}", *(base64.b64encode(step).decode() for step in proof)]
    return ("\n".join(lines) + "\n\n" + note).encode()


def parse_request(body: bytes) -> tuple[int, list[bytes], Checkpoint]:
    """What a witness gets: old size, consistency proof, checkpoint. Nothing of it is verified.

    Raises:
        DecodeError: too large, or not exactly a request.
    """
    if len(body) > MAX_REQUEST_BYTES:
        raise DecodeError(f"witness request: expected at most {MAX_REQUEST_BYTES} bytes, got {len(body)}")
    try:
        head, blank, note = body.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        raise DecodeError("witness request: not UTF-8") from error
    first, *lines = head.split("\n")
    old = _OLD.fullmatch(first)
    if not blank or old is None or not 0 <= int(old[1]) <= MAX_SIZE:
        raise DecodeError("witness request: expected 'old <size>', the proof's lines, a blank line, and a checkpoint")
    if len(lines) > 63:
        raise DecodeError(f"witness request: expected at most 63 lines of proof, got {len(lines)}")
    proof = [decode_base64(line, "witness request: proof") for line in lines]
    if any(len(step) != HASH_BYTES for step in proof):
        raise DecodeError(f"witness request: expected hashes of {HASH_BYTES} bytes")
    return int(old[1]), proof, parse_checkpoint(note)


def parse_size(body: bytes) -> int:
    """The size in a witness's answer 409.

    Raises:
        DecodeError: not one decimal number and a line feed.
    """
    found = _SIZE.fullmatch(body[:32]) if len(body) <= 32 else None
    if found is None or int(found[1]) > MAX_SIZE:
        raise DecodeError("witness: expected a size and a line feed in its answer")
    return int(found[1])


def parse_cosignature(body: bytes, note: str, witness: WitnessKey) -> NoteSignature:
    """The cosignature by ``witness`` on ``note`` in its answer 200, verified: the newest, if there are several.

    Lines by other keys are left out, as the specification demands.

    Raises:
        DecodeError: too large, or not signature lines.
        VerificationError: a cosignature under the witness's name and key id is wrong, or there is none.
    """
    where = f"witness {witness.name}"
    if len(body) > MAX_RESPONSE_BYTES:
        raise DecodeError(f"{where}: expected an answer of at most {MAX_RESPONSE_BYTES} bytes")
    text = parse_note(note).text
    try:
        answer = parse_note(f"-\n\n{body.decode()}")
    except (DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"{where}: its answer is not signature lines: {error}") from error
    if answer.text != "-\n":
        raise DecodeError(f"{where}: its answer holds more than signature lines")
    own = [s for s in answer.signatures if (s.name, s.key_id) == (witness.name, witness.key_id)]
    if not own:
        raise VerificationError(f"{where}: answered without a cosignature of its key {witness}")
    return max(own, key=lambda line: verify_cosignature(text, line.signature, witness))
