"""Records of the ``file:`` anchor: 208 bytes each, hash-chained. A record is its own receipt. Pure; no files here.

====== ===== ==========================================================
offset bytes content
====== ===== ==========================================================
0      32    anchor id: SHA-256 of the file's header
32     8     counter, from 1, big-endian
40     8     tree size, big-endian
48     32    root
80     32    SHA-256 of the checkpoint's note
112    32    randomness: drawn after the request was accepted
144    32    hash of the record before; of the first one: the anchor id
176    32    SHA-256 over ``zk-autograd/file-anchor/v2\\0`` and the above
====== ===== ==========================================================
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from anchor.base import Head, ReceiptFacts, verify_progress
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.merkle import MAX_SIZE

_DOMAIN = b"zk-autograd/file-anchor/v2\0"
_BODY = struct.Struct(">32sQQ32s32s32s32s")
RECORD_BYTES = _BODY.size + 32
_IDENTITY = re.compile(r"file:([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Record:
    """One advance. All hashes, and the randomness, are 32 bytes."""

    anchor_id: bytes
    counter: int
    size: int
    root: bytes
    checkpoint: bytes
    randomness: bytes
    previous: bytes

    @property
    def body(self) -> bytes:
        """The bytes that the record's hash covers."""
        return _BODY.pack(
            self.anchor_id, self.counter, self.size, self.root, self.checkpoint, self.randomness, self.previous
        )

    @property
    def digest(self) -> bytes:
        """The record's hash, which the next one holds as ``previous``."""
        return hashlib.sha256(_DOMAIN + self.body).digest()

    @property
    def head(self) -> Head:
        """The anchor's head right after this record."""
        return Head(self.counter, self.size, self.root)

    @property
    def facts(self) -> ReceiptFacts:
        """The record as a receipt's facts."""
        anchor = identity_text(self.anchor_id)
        return ReceiptFacts(anchor, self.counter, self.size, self.root, self.checkpoint, self.randomness)

    def encode(self) -> bytes:
        """The record in its file, and as a receipt: RECORD_BYTES."""
        return self.body + self.digest


def decode_record(data: bytes) -> Record:
    """The record that ``data`` is. Its place in a chain remains to be checked: :func:`verify_link`.

    Raises:
        DecodeError: wrong length, or numbers out of range.
        VerificationError: the hash does not fit the rest.
    """
    if len(data) != RECORD_BYTES:
        raise DecodeError(f"file anchor record: expected {RECORD_BYTES} bytes, got {len(data)}")
    record = Record(*_BODY.unpack_from(data))
    if record.digest != data[_BODY.size :]:
        raise VerificationError(f"file anchor record with counter {record.counter}: its hash does not fit its content")
    if not (1 <= record.counter <= MAX_SIZE and record.size <= MAX_SIZE):
        raise DecodeError(f"file anchor record: counter {record.counter} or size {record.size} out of range")
    return record


def verify_link(before: Record | None, record: Record, anchor_id: bytes) -> None:
    """``record`` comes right after ``before`` (None: is the first) in the chain of ``anchor_id``.

    Raises:
        VerificationError: names the counter.
    """
    expected_counter, previous = (before.counter + 1, before.digest) if before else (1, anchor_id)
    at = f"file anchor, counter {record.counter}"
    if record.anchor_id != anchor_id:
        raise VerificationError(f"{at}: expected anchor {identity_text(anchor_id)}, got {record.facts.anchor}")
    if before:
        # First what went wrong with the tree or the count: a plainer word than "the hashes do not meet".
        verify_progress([before.facts, record.facts])
    if record.counter != expected_counter:
        raise VerificationError(f"{at}: a gap: expected counter {expected_counter}")
    if record.previous != previous:
        raise VerificationError(f"{at}: a fork: it does not continue the record before (hash {previous.hex()})")


def verify_records(records: Iterable[Record], anchor_id: bytes) -> None:
    """The whole chain from counter 1; a record may stand twice in a row (one answer, published twice).

    Raises:
        VerificationError: names the counter at which it went wrong.
    """
    before: Record | None = None
    for record in records:
        if record != before:
            verify_link(before, record, anchor_id)
        before = record


def identity_text(anchor_id: bytes) -> str:
    """The identity to pin: ``file:`` and 64 hex digits."""
    return f"file:{anchor_id.hex()}"


def identity_bytes(identity: str) -> bytes:
    """The anchor id (32 bytes) in an identity; UsageError if it is none."""
    match = _IDENTITY.fullmatch(identity)
    if not match:
        raise UsageError("file anchor identity: expected 'file:' and 64 lower-case hex digits")
    return bytes.fromhex(match.group(1))
