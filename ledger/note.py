"""C2SP signed notes (c2sp.org/signed-note) with Ed25519 keys: text, a blank line, and signature lines.

A verifier key is the string ``<name>+<key id in hex>+<base64(0x01 || public key)>``, as Go's sumdb/note writes it.
Of notes only one encoding is taken: size cap first, canonical base64, nothing after the last signature line.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.note_keys import KEY_ID_BYTES, NAME, NoteKey, decode_base64

__all__ = [
    "MAX_NOTE_BYTES",
    "NoteSignature",
    "SignedNote",
    "VerifierKey",
    "add_signatures",
    "decode_base64",
    "parse_note",
    "sign_note",
]

MAX_NOTE_BYTES = 60_000
"""Largest note made or taken: room for a checkpoint with 16 ML-DSA-44 cosignatures of names up to about 400 bytes."""

_DASH = "\N{EM DASH} "
_FOREIGN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")


class VerifierKey(NoteKey):
    """The Ed25519 key of a log, for signatures over a note's text."""

    kinds = {32: b"\x01"}  # noqa: RUF012
    what = "verifier key"

    def verify(self, text: str, signature: bytes) -> None:
        """Raises VerificationError unless ``signature`` (64 bytes) is this key's over ``text``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except (InvalidSignature, ValueError) as error:
            raise VerificationError(f"note: the signature of key {self.name} does not verify") from error


@dataclass(frozen=True)
class NoteSignature:
    """One signature line, of whatever algorithm: name, key id (4 bytes) and the bytes after the id."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line as it stands in a note, with its line feed."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True)
class SignedNote:
    """A note taken apart. Nothing in it may be relied on before :meth:`verify`."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def verify(self, keys: Sequence[VerifierKey]) -> None:
        """At least one of ``keys`` signed the text, and no signature under one of them is wrong.

        Signatures by other keys are ignored, as the specification demands.

        Raises:
            VerificationError: no signature by a given key, or a wrong one.
            UsageError: two different keys in ``keys`` have one name and id.
        """
        known = {(key.name, key.key_id): key for key in keys}
        if len(known) != len(set(keys)):
            raise UsageError("note: two of the verifier keys have the same name and key id; give one of them")
        found = False
        for line in self.signatures:
            key = known.get((line.name, line.key_id))
            if key is not None:
                key.verify(self.text, line.signature)
                found = True
        if not found:
            wanted = ", ".join(str(key) for key in keys) or "no key at all"
            signers = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in self.signatures)
            raise VerificationError(f"note: expected a signature by one of [{wanted}], found [{signers}]")


def sign_note(text: str, key: VerifierKey, sign: Callable[[bytes], bytes]) -> str:
    """``text`` (ends in a newline) as a note with one signature.

    Args:
        text: the note's text.
        key: name and public key that belong to ``sign``.
        sign: makes a 64-byte Ed25519 signature over the bytes it is given.

    Raises:
        UsageError: the text cannot stand in a note, or the note would be over MAX_NOTE_BYTES.
        VerificationError: ``sign`` does not hold the private half of ``key``.
    """
    try:
        signable = _checked(text)
    except DecodeError as error:
        raise UsageError(f"the text cannot be signed: {error}") from error
    if not text.endswith("\n"):
        raise UsageError("the text cannot be signed: it must end in a newline")
    note = f"{text}\n{NoteSignature(key.name, key.key_id, sign(signable))}"
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise UsageError(f"the text cannot be signed: as a note it would be over {MAX_NOTE_BYTES} bytes")
    parse_note(note).verify([key])
    return note


def add_signatures(note: str, lines: Sequence[NoteSignature]) -> str:
    """The note with more signature lines at its end. What they are worth is not looked at.

    Raises:
        DecodeError: ``note`` is none.
        UsageError: the note would be over MAX_NOTE_BYTES, or a name cannot stand in a line.
    """
    parse_note(note)
    longer = note + "".join(map(str, lines))
    try:
        parse_note(longer)
    except DecodeError as error:
        raise UsageError(f"{len(lines)} more signature lines cannot stand in this note: {error}") from error
    return longer


def parse_note(note: str) -> SignedNote:
    """Take a note apart, without believing it.

    Raises:
        DecodeError: too large, or not exactly a note.
    """
    _checked(note)
    body, blank, tail = note.rpartition("\n\n")
    if not blank or not body or not tail.endswith("\n"):
        raise DecodeError("note: expected text, a blank line, and signature lines that end in a newline")
    return SignedNote(body + "\n", tuple(_signature_line(line) for line in tail[:-1].split("\n")))


def _signature_line(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not NAME.fullmatch(name):
        raise DecodeError("note: expected a signature line '\N{EM DASH} <name> <base64>' after the blank line")
    raw = decode_base64(encoded, "note signature")
    if len(raw) <= KEY_ID_BYTES:
        raise DecodeError(f"note signature: expected a key id and a signature, got {len(raw)} bytes")
    return NoteSignature(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def _checked(text: str) -> bytes:
    """``text`` in UTF-8, if its size and characters are those of a note."""
    if len(text) > MAX_NOTE_BYTES or len(raw := text.encode(errors="surrogatepass")) > MAX_NOTE_BYTES:
        raise DecodeError(f"note: expected at most {MAX_NOTE_BYTES} bytes")
    if foreign := _FOREIGN.search(text):
        raise DecodeError(f"note: character {foreign.group()!r} at {foreign.start()} cannot stand in a note")
    return raw
