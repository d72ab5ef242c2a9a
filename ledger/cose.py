"""CBOR in its one deterministic encoding (RFC 8949, 4.2.1), and COSE_Sign1 (RFC 9052) with Ed25519. Pure.

What is decoded is capped first, then taken only if every part has a type that is expected and the whole encodes to the
same bytes again. So there are no indefinite lengths, no duplicate or unordered keys, no longer forms of numbers and no
floats. Of tags there is only COSE_Sign1's, at the very front: the library is kept from acting on any other, since some
make it build large things from few bytes (shared values, numbers with exponents, regular expressions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import cbor2

from zk_autograd.errors import DecodeError

MAX_BYTES = 16 << 10
"""Largest value made or taken: a receipt has at most 63 hashes."""
EDDSA = -8
"""Algorithm identifier (RFC 9053): EdDSA, here always Ed25519."""

_SIGN1 = 18
_TAGGED = b"\xd2"
"""Tag 18, as bytes."""
_DEPTH = 8
_KNOWN_TAGS = (
    0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
"""Tags that cbor2 would act on."""

Header: TypeAlias = dict[Any, Any]


@dataclass(frozen=True)
class Sign1:
    """A COSE_Sign1 with a detached payload, taken apart; nothing of it is verified.

    Attributes:
        protected: protected header, as signed.
        unprotected: what nobody signed.
        signature: 64 bytes.
    """

    protected: Header
    unprotected: Header
    signature: bytes


def encode(value: object) -> bytes:
    """The deterministic encoding."""
    return cbor2.dumps(value, canonical=True)


def _no_tag(*_: object) -> NoReturn:
    raise DecodeError("a tag")


def decode(data: bytes, where: str) -> Any:
    """The value of which ``data`` is the deterministic encoding: ints, bytes, texts, None, lists and maps.

    Raises:
        DecodeError: too large, too deep, or another encoding or type.
    """
    if len(data) > MAX_BYTES:
        raise DecodeError(f"{where}: expected at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        value = cbor2.loads(
            data,
            max_depth=_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            tag_hook=_no_tag,
            semantic_decoders=dict.fromkeys(_KNOWN_TAGS, _no_tag),
        )
        _require_plain(value, len(data))
        same = encode(value) == data
    except Exception as error:  # the decoder's own, and what Python's types raise for values that have no place here
        raise DecodeError(f"{where}: not CBOR of the types that have a place here ({type(error).__name__})") from None
    if not same:
        raise DecodeError(f"{where}: not CBOR in its deterministic encoding")
    return value


def _require_plain(value: object, budget: int) -> None:
    """Raises DecodeError at another type, or at more parts than bytes: then some would stand for several."""
    waiting = [value]
    seen = 0
    while waiting:
        item, seen = waiting.pop(), seen + 1
        kind = type(item)
        if seen > budget or not (item is None or kind in (bytes, str, int, list, dict)):
            raise DecodeError(f"a {kind.__name__}")
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item


def signed_message(protected: Header, payload: bytes) -> bytes:
    """What the signature is over (RFC 9052, 4.4).

    It begins with 0x84, which no text in UTF-8 and no event's domain begins with: it cannot pass for anything else that
    a key of this project signs.
    """
    return encode(["Signature1", encode(protected), b"", payload])


def sign1(protected: Header, unprotected: Header, payload: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A tagged COSE_Sign1 over ``payload``, which is left out of it."""
    signature = sign(signed_message(protected, payload))
    return encode(cbor2.CBORTag(_SIGN1, [encode(protected), unprotected, None, signature]))


def decode_sign1(data: bytes, where: str) -> Sign1:
    """Takes a tagged COSE_Sign1 with a detached payload apart.

    Raises:
        DecodeError: not exactly that.
    """
    parts = decode(data[1 : MAX_BYTES + 2], where) if data[:1] == _TAGGED else None
    if not isinstance(parts, list) or len(parts) != 4:
        raise DecodeError(f"{where}: expected a tagged COSE_Sign1")
    protected, unprotected, payload, signature = parts
    if type(protected) is not bytes or not isinstance(unprotected, dict) or type(signature) is not bytes:
        raise DecodeError(f"{where}: expected headers, a payload and a signature")
    if payload is not None:
        raise DecodeError(f"{where}: expected a detached payload: a verifier computes it")
    header = decode(protected, f"{where}: protected header")
    if not isinstance(header, dict):
        raise DecodeError(f"{where}: expected a map as protected header")
    return Sign1(header, unprotected, signature)
