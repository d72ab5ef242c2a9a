"""Keys of C2SP signed notes (c2sp.org/signed-note): name and public key, as the text ``<name>+<id in hex>+<base64>``.

The base64 is of one byte for the kind of signature and the public key's bytes. Of every key one spelling is taken.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from zk_autograd.errors import DecodeError, UsageError

KEY_ID_BYTES = 4
MAX_KEY_CHARACTERS = 4096
NAME = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")
"""What may stand as a key's name: no spaces, no plus, no controls."""


@dataclass(frozen=True)
class NoteKey:
    """A public key under the name that stands in its signature lines."""

    name: str
    public_key: bytes

    kinds: ClassVar[dict[int, bytes]]
    """By the public key's length: one byte for the kind of signature that it is for; part of its id and its text."""
    what: ClassVar[str]
    """What such a key is called in errors."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UsageError(f"note key name: expected characters other than spaces, '+' and controls: {self.name!r}")
        if len(self.public_key) not in self.kinds:
            sizes = " or ".join(map(str, self.kinds))
            raise UsageError(f"{self.what} {self.name}: expected a key of {sizes} bytes, got {len(self.public_key)}")

    @property
    def kind(self) -> bytes:
        """One byte: the kind of signature that the key is for."""
        return self.kinds[len(self.public_key)]

    @property
    def key_id(self) -> bytes:
        """``SHA-256(name || 0x0A || kind || public key)[:4]``: tells keys apart, proves nothing."""
        named = self.name.encode() + b"\n" + self.kind + self.public_key
        return hashlib.sha256(named).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self.kind + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that ``text`` (``name+id+base64``) stands for.

        Raises:
            DecodeError: not the one spelling of a key of this kind, or its id is not that of its key.
        """
        parts = text.split("+", 2) if len(text) <= MAX_KEY_CHARACTERS else []
        if len(parts) != 3:
            raise DecodeError(f"{cls.what}: expected '<name>+<8 hex digits>+<base64>'")
        name, key_id, encoded = parts
        key = decode_base64(encoded, cls.what)
        if not NAME.fullmatch(name) or key[:1] != cls.kinds.get(len(key) - 1):
            known = " or ".join(f"0x{kind.hex()} with {size} bytes of key" for size, kind in cls.kinds.items())
            raise DecodeError(f"{cls.what}: expected a name without spaces, and {known}")
        parsed = cls(name, key[1:])
        if key_id != parsed.key_id.hex():
            raise DecodeError(
                f"{cls.what} {name}: expected key id {parsed.key_id.hex()} for this key, got {key_id[:40]!r}"
            )
        return parsed


class WitnessKey(NoteKey):
    """The key of a witness (c2sp.org/tlog-cosignature), for Ed25519 (32 bytes) or ML-DSA-44 (1,312 bytes)."""

    kinds = {32: b"\x04", 1312: b"\x06"}  # noqa: RUF012
    what = "witness key"


def require_distinct(witnesses: Iterable[WitnessKey]) -> None:
    """Raises UsageError if two of the witnesses have one name or one public key: one operator would count twice."""
    keys = list(witnesses)
    for what, values in (("name", [k.name for k in keys]), ("public key", [k.public_key.hex() for k in keys])):
        if len(set(values)) != len(values):
            raise UsageError(f"witnesses: two have the same {what}, and would count as two: give one of them")


def decode_base64(text: str, where: str) -> bytes:
    """Standard base64 with padding (RFC 4648, section 4), in its one canonical spelling.

    Raises:
        DecodeError: any other spelling.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"{where}: not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise DecodeError(f"{where}: base64 that is not canonical")
    return raw
