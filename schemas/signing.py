"""Seal an event for a topic; open what came from one.

Every value on the wire is a :class:`schemas.events.Signed`: the event's body, the id of the signer's key, and an
Ed25519 signature (RFC 8032) over ``"zk-autograd/v1" 0x00 topic 0x00 body``. The topic is its short name, so a body
signed for one topic means nothing under another. The event id is SHA-256 of the body: it does not cover the
signature, since one body may be signed more than once.

Three ways in, by what is known beforehand:

* :func:`open_signed`: the keys are known. Everything but introductions goes through here.
* :func:`open_introduction`: the event brings its own key. It proves that the sender holds that key, and no more:
  whether to trust the key is for its evidence and the auditor's policy.
* :func:`decode_unverified`: says which event came, for who must route it to one of the other two. Proves nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas import quick
from schemas.avro import SCHEMAS
from schemas.codec import decode, encode
from schemas.events import EnclaveAttested, Event, Signed
from schemas.text import brief
from schemas.topics import topic as topic_named
from zk_autograd.errors import UsageError, VerificationError

DOMAIN = b"zk-autograd/v1\0"

E_co = TypeVar("E_co", bound=Event, covariant=True)
E = TypeVar("E", bound=Event)

# The y coordinates of all points of order 1, 2, 4 or 8, in every encoding that decodes to them (sign bit cleared).
# Under such a key one signature fits a large share of all messages, so whoever "holds" it proves nothing.
_SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


class Signer(Protocol):
    """Holds one Ed25519 key."""

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the raw public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``, 64 bytes."""


@dataclass(frozen=True, slots=True)
class Opened(Generic[E_co]):
    """An event and what it came in.

    Attributes:
        event: the event.
        event_id: SHA-256 of ``body``, 32 bytes.
        key_id: the key that the envelope names, 32 bytes.
        body: the event's encoding.
        signature: 64 bytes.
    """

    event: E_co
    event_id: bytes
    key_id: bytes
    body: bytes
    signature: bytes


def key_id(public_key: bytes) -> bytes:
    """The id of a raw Ed25519 public key."""
    return hashlib.sha256(public_key).digest()


def event_id(body: bytes) -> bytes:
    """The id of the event with this encoding."""
    return hashlib.sha256(body).digest()


def signed_message(topic: str, body: bytes) -> bytes:
    """The bytes that a signature covers.

    Raises:
        UsageError: there is no such topic.
    """
    return DOMAIN + topic_named(topic).name.encode("ascii") + b"\0" + body


def seal(topic: str, event: Event, signer: Signer) -> bytes:
    """The encoded envelope of ``event`` for ``topic`` (its short name).

    Raises:
        UsageError: the topic carries no such event, a field is out of range, the value is over the topic's cap, or the
            signer gave something other than a 32-byte key id and a 64-byte signature.
    """
    place = topic_named(topic)
    if type(event) not in place.events:
        names = ", ".join(sorted(e.__name__ for e in place.events))
        raise UsageError(f"topic {topic}: expected one of {names}, got {brief(event)}")
    body = encode(event)
    value = encode(Signed(body, signer.key_id, signer.sign(signed_message(topic, body))))
    if len(value) > place.cap:
        raise UsageError(
            f"topic {topic}: expected at most {place.cap} bytes, got a {type(event).__name__} of {len(value)}"
        )
    return value


def open_signed(topic: str, value: bytes, keys: Mapping[bytes, bytes]) -> Opened[Event]:
    """The event in ``value``, signed for ``topic`` by one of ``keys``.

    1. ``value`` is within the topic's size cap;
    2. it is one envelope, strictly decoded;
    3. its key is known;
    4. its signature holds for this topic and body under that key;
    5. the body is one event that this topic may carry, strictly decoded.

    Left to the caller: whether the key's role may say this, and whether the event fits what came before it.

    Args:
        topic: short name of the topic it came from.
        keys: key id to raw public key (32 bytes), of every key that the caller trusts.
    Raises:
        DecodeError: check 1, 2 or 5.
        VerificationError: check 3 or 4.
        UsageError: there is no such topic, or ``keys`` holds a key under an id that is not its own.
    """
    # 1, 2
    envelope = _envelope(topic, value)
    # 3
    public_key = keys.get(envelope.key_id)
    if public_key is None:
        raise VerificationError(f"topic {topic}: expected one of {len(keys)} known keys, got {envelope.key_id.hex()}")
    if key_id(public_key) != envelope.key_id:
        raise UsageError(
            f"topic {topic}: the key given for {envelope.key_id.hex()} has another id: correct the key map"
        )
    # 4
    _verify(topic, envelope, public_key)
    # 5
    return _opened(topic, envelope, topic_named(topic).events)


def verify_decoded(topic: str, decoded: Opened[E], public_key: bytes) -> Opened[E]:
    """What :func:`decode_unverified` gave for ``topic``, once its signature holds: no decoding a second time.

    1. the key is the one that the envelope names;
    2. the signature holds for this topic and body under that key. Strict decoding is done already, of this very body.

    Left to the caller: as for :func:`open_signed`.

    Raises:
        VerificationError: check 1 or 2.
        UsageError: there is no such topic.
    """
    # 1
    if key_id(public_key) != decoded.key_id:
        raise VerificationError(f"topic {topic}: expected key {key_id(public_key).hex()}, got {decoded.key_id.hex()}")
    # 2
    _verify(topic, Signed(decoded.body, decoded.key_id, decoded.signature), public_key)
    return decoded


def verify_body(topic: str, body: bytes, signature: bytes, public_key: bytes) -> None:
    """``signature`` is one over ``body`` for ``topic`` under ``public_key``.

    Raises:
        VerificationError: it is not, or the key is of small order.
        UsageError: there is no such topic.
    """
    _verify(topic, Signed(body, key_id(public_key), signature), public_key)


def open_introduction(topic: str, value: bytes) -> Opened[EnclaveAttested]:
    """The introduction in ``value``, signed with the key that it introduces.

    1. ``value`` is within the topic's size cap;
    2. it is one envelope, strictly decoded;
    3. the body is one EnclaveAttested, strictly decoded, on a topic that carries them;
    4. the envelope names the key that the body introduces;
    5. the signature holds for this topic and body under that key.

    Left to the caller: the evidence. Until it is verified, the key is anyone's.

    Raises:
        DecodeError: check 1, 2 or 3.
        VerificationError: check 4 or 5.
        UsageError: there is no such topic.
    """
    # 1, 2
    envelope = _envelope(topic, value)
    # 3
    introduction = _opened(topic, envelope, [EnclaveAttested] if EnclaveAttested in topic_named(topic).events else [])
    # 4
    public_key = introduction.event.public_key
    if key_id(public_key) != envelope.key_id:
        raise VerificationError(
            f"topic {topic}: expected an introduction signed with its own key {key_id(public_key).hex()}, "
            f"got one signed with {envelope.key_id.hex()}"
        )
    # 5
    _verify(topic, envelope, public_key)
    return introduction


def decode_unverified(topic: str, value: bytes) -> Opened[Event]:
    """The event in ``value``, whoever sent it: well-formed and within the topic's bounds, but **nothing is verified**.

    Raises:
        DecodeError: it is not one well-formed envelope with one event that this topic may carry.
        UsageError: there is no such topic.
    """
    place = topic_named(topic)
    # Almost always; whatever is not plain is left to the other decoder, in the same order of checks.
    parts = quick.parts(value) if type(value) is bytes and len(value) <= place.cap else None
    if parts is not None:
        body, key, signature = parts
        event = quick.event(body)
        if event is not None and type(event) in place.events:
            return Opened(event, hashlib.sha256(body).digest(), key, body, signature)
    return _opened(topic, _envelope(topic, value), place.events)


def looks_like(value: bytes, kind: type[Event]) -> bool:
    """Whether the body's header is that of ``kind``: no other value can hold such an event. Proves nothing."""
    found = quick.envelope(value)
    return found is not None and found.body.startswith(SCHEMAS[kind].header)


def _envelope(topic: str, value: bytes) -> Signed:
    cap = topic_named(topic).cap
    found = quick.envelope(value) if type(value) is bytes and len(value) <= cap else None
    return decode(value, (Signed,), cap, f"topic {topic}: envelope") if found is None else found


def _opened(topic: str, envelope: Signed, allowed: Collection[type[E]]) -> Opened[E]:
    found = quick.event(envelope.body)
    event: E
    if found is not None and type(found) in allowed:
        event = found  # type: ignore[assignment]
    else:
        event = decode(envelope.body, allowed, topic_named(topic).cap, f"topic {topic}: body")
    return Opened(event, event_id(envelope.body), envelope.key_id, envelope.body, envelope.signature)


@lru_cache(256)
def _parsed(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)


def _verify(topic: str, envelope: Signed, public_key: bytes) -> None:
    if public_key[:31] + bytes([public_key[31] & 0x7F]) in _SMALL_ORDER:
        raise VerificationError(f"topic {topic}: expected an Ed25519 key of large order, got {public_key.hex()}")
    try:
        _parsed(public_key).verify(envelope.signature, signed_message(topic, envelope.body))
    except (InvalidSignature, ValueError):
        raise VerificationError(
            f"topic {topic}: expected a signature by {envelope.key_id.hex()} for this topic over event "
            f"{event_id(envelope.body).hex()}, got one that does not hold"
        ) from None
