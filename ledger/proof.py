"""Proof files (c2sp.org/tlog-proof): one entry's inclusion, and the checkpoint it is in, as one text. Pure.

::

    c2sp.org/tlog-proof@v1
    extra <base64>             optional; nobody vouches for it
    index <decimal>
    <base64 of 32 bytes>       the inclusion path, from the leaf's sibling upwards
    ...

    <the checkpoint, a signed note, with all its signature lines>

``zk-receipt`` puts the entry itself into ``extra``: the path then shows that it is what the log holds. Of every proof
one spelling is taken: size cap first, then strict decoding; what is taken encodes to the same bytes again.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from ledger.cosignature import WitnessKey, verify_quorum
from ledger.note import MAX_NOTE_BYTES, VerifierKey
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.merkle import HASH_BYTES, MAX_SIZE, verify_inclusion
from zk_autograd.note_keys import decode_base64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_EXTRA_BYTES = 16 << 10
"""Largest extra data made or taken: entries of the log have at most 4 KiB."""
MAX_PATH = 63
MAX_PROOF_BYTES = MAX_NOTE_BYTES + MAX_EXTRA_BYTES * 4 // 3 + 45 * MAX_PATH + 128
"""Largest proof file made or taken."""

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True)
class LogProof:
    """A proof file taken apart. Nothing in it may be relied on before :func:`verify_proof`.

    Attributes:
        index: of the entry, from 0.
        path: inclusion path, 32 bytes each, at most 63.
        note: the checkpoint as a note, verbatim.
        extra: at least one byte of whatever the maker added; None without.
    """

    index: int
    path: tuple[bytes, ...]
    note: str
    extra: bytes | None = None

    def encode(self) -> str:
        """The file's text.

        Raises:
            UsageError: this cannot be a proof.
        """
        try:
            return self._text()
        except DecodeError as error:
            raise UsageError(f"not a proof: {error}") from error

    def _text(self) -> str:
        parse_checkpoint(self.note)
        if self.extra is not None and not 1 <= len(self.extra) <= MAX_EXTRA_BYTES:
            raise DecodeError(f"proof: expected 1 to {MAX_EXTRA_BYTES} bytes of extra data, got {len(self.extra)}")
        if not 0 <= self.index < MAX_SIZE:
            raise DecodeError(f"proof: expected an index from 0 to {MAX_SIZE - 1}, got {self.index}")
        if len(self.path) > MAX_PATH or any(len(step) != HASH_BYTES for step in self.path):
            raise DecodeError(f"proof: expected a path of at most {MAX_PATH} hashes of {HASH_BYTES} bytes each")
        extra = [] if self.extra is None else [f"extra {base64.b64encode(self.extra).decode()}"]
        lines = [HEADER, *extra, f"index {self.index}", *(base64.b64encode(step).decode() for step in self.path)]
        return "\n".join(lines) + "\n\n" + self.note


def parse_proof(text: str) -> LogProof:
    """Takes a proof file apart, without believing it.

    Raises:
        DecodeError: too large, or not exactly a proof.
    """
    if len(text) > MAX_PROOF_BYTES or len(text.encode(errors="surrogatepass")) > MAX_PROOF_BYTES:
        raise DecodeError(f"proof: expected at most {MAX_PROOF_BYTES} bytes")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines[0] != HEADER:
        raise DecodeError(f"proof: expected the line {HEADER!r}, then the proof, a blank line, and a checkpoint")
    at, extra = 1, None
    if len(lines) > 1 and lines[1].startswith("extra "):
        extra, at = decode_base64(lines[1].removeprefix("extra "), "proof: extra data"), 2
    found = _INDEX.fullmatch(lines[at]) if at < len(lines) else None
    if found is None:
        raise DecodeError("proof: expected a line 'index' with a decimal number")
    if len(lines) - at - 1 > MAX_PATH:
        raise DecodeError(f"proof: expected a path of at most {MAX_PATH} hashes, got {len(lines) - at - 1}")
    path = tuple(decode_base64(line, "proof: path") for line in lines[at + 1 :])
    proof = LogProof(int(found[1]), path, note, extra)
    if proof._text() != text:
        raise DecodeError("proof: not in its one spelling")
    return proof


def verify_proof(
    proof: LogProof,
    entry: bytes,
    origin: str,
    keys: Sequence[VerifierKey],
    witnesses: Sequence[WitnessKey] = (),
    quorum: int = 0,
) -> Checkpoint:
    """The log of this origin holds ``entry`` at the proof's index; returns the checkpoint that says so.

    1. The checkpoint is of this origin and signed by one of ``keys``. 2. ``quorum`` of ``witnesses`` cosigned it, if
    any is asked for. 3. The path leads from the entry to its root. That the log is the newest there is, a proof
    cannot say.

    Args:
        entry: the leaf's bytes (not its hash). ``proof.extra`` will do: the path is what makes it true.

    Raises:
        DecodeError: the checkpoint is none.
        VerificationError: one of these does not hold.
        UsageError: a quorum that these witnesses cannot make.
    """
    checkpoint = verify_checkpoint(proof.note, origin, keys)
    if quorum or witnesses:
        verify_quorum(checkpoint, witnesses, quorum)
    if proof.index >= checkpoint.size:
        raise VerificationError(f"proof: index {proof.index} in a tree of {checkpoint.size} entries")
    verify_inclusion(entry, proof.index, checkpoint.size, proof.path, checkpoint.root)
    return checkpoint
