"""Envelopes: what was sealed opens, for its topic, under its key; nothing else does."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings

from schemas import signing
from schemas.codec import encode
from schemas.events import (
    EnclaveAttested,
    Event,
    EvidenceClass,
    ProofAttached,
    Role,
    RunFinished,
    RunOpened,
    RunStarted,
    Signed,
    StepCommitted,
)
from schemas.signing import (
    decode_unverified,
    event_id,
    key_id,
    open_introduction,
    open_signed,
    seal,
    signed_message,
    verify_decoded,
)
from schemas.topics import TOPICS
from tests.support.events import SAMPLES, TOPIC_OF, KeySigner, any_event, digest, sample
from zk_autograd.errors import DecodeError, UsageError, VerificationError

ALICE, MALLORY = KeySigner("alice"), KeySigner("mallory")
KEYS = {ALICE.key_id: ALICE.public_key}
STEP = SAMPLES[StepCommitted]
BODY = encode(STEP)


def envelope(body: bytes, key: bytes, signature: bytes) -> bytes:
    return encode(Signed(body, key, signature))


def signed_as(topic: str, body: bytes, signer: KeySigner = ALICE) -> bytes:
    """A well-signed envelope of any body, such as a dishonest holder of a key can make."""
    return envelope(body, signer.key_id, signer.sign(signed_message(topic, body)))


def introduction(of: KeySigner) -> EnclaveAttested:
    return EnclaveAttested(Role.PROVER, of.public_key, EvidenceClass.SIMULATED, b"evidence", 0)


@settings(max_examples=150, deadline=None)
@given(any_event())
def test_what_was_sealed_opens_with_ids_that_name_body_and_key(event: Event) -> None:
    topic = TOPIC_OF[type(event)]
    opened = open_signed(topic, seal(topic, event, ALICE), KEYS)
    assert opened.event == event
    assert opened.body == encode(event)
    assert opened.event_id == hashlib.sha256(opened.body).digest() == event_id(opened.body)
    assert opened.key_id == hashlib.sha256(ALICE.public_key).digest() == ALICE.key_id


def test_the_signature_covers_domain_topic_and_body_in_this_form() -> None:
    message = b"zk-autograd/v1\x00dead-letters\x00body"
    assert signed_message("dead-letters", b"body") == message
    opened = open_signed("steps", seal("steps", STEP, ALICE), KEYS)
    Ed25519PublicKey.from_public_bytes(ALICE.public_key).verify(
        opened.signature, b"zk-autograd/v1\x00steps\x00" + opened.body
    )


def test_no_topics_name_followed_by_the_separator_begins_anothers() -> None:
    starts = [signed_message(name, b"") for name in TOPICS]
    assert all(not a.startswith(b) for a in starts for b in starts if a is not b)


# Sealing


@pytest.mark.parametrize("topic", TOPICS)
def test_an_event_is_sealed_for_its_own_topic_only(topic: str) -> None:
    for kind, event in SAMPLES.items():
        if kind in TOPICS[topic].events:
            seal(topic, event, ALICE)
        else:
            with pytest.raises(UsageError, match=f"topic {topic}: expected one of .*got a {kind.__name__}"):
                seal(topic, event, ALICE)


def test_an_event_over_the_topics_cap_is_not_sealed() -> None:
    large = sample(ProofAttached, proof=bytes(65_536))
    with pytest.raises(UsageError, match="expected at most 65536 bytes, got a ProofAttached of"):
        seal("proofs", large, ALICE)


def test_nothing_is_sealed_for_a_topic_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="unknown topic"):
        seal("zk.steps", STEP, ALICE)


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65)])
def test_a_signer_that_gives_no_signature_seals_nothing(signature: bytes) -> None:
    class Odd(KeySigner):
        def sign(self, message: bytes) -> bytes:
            return signature

    with pytest.raises(UsageError, match=r"Signed\.signature"):
        seal("steps", STEP, Odd())


# Opening, check by check


def test_check_1_a_value_over_the_cap_is_refused() -> None:
    with pytest.raises(DecodeError, match="topic ledger: envelope: expected at most 4096 bytes, got 4097"):
        open_signed("ledger", bytes(4097), KEYS)


@pytest.mark.parametrize("value", [b"", b"\xc3\x01", BODY, None], ids=["empty", "marker", "bare event", "tombstone"])
def test_check_2_what_is_no_envelope_is_refused(value: Any) -> None:
    with pytest.raises(DecodeError, match="topic steps: envelope"):
        open_signed("steps", value, KEYS)
    with pytest.raises(DecodeError, match="topic steps: envelope"):
        open_introduction("steps", value)
    with pytest.raises(DecodeError, match="topic steps: envelope"):
        decode_unverified("steps", value)


def test_check_3_an_unknown_key_is_refused_though_its_signature_holds() -> None:
    with pytest.raises(VerificationError, match="expected one of 1 known keys"):
        open_signed("steps", seal("steps", STEP, MALLORY), KEYS)


def test_check_3_a_key_map_that_gives_a_key_a_foreign_id_is_the_callers_mistake() -> None:
    with pytest.raises(UsageError, match="correct the key map"):
        open_signed("steps", seal("steps", STEP, MALLORY), {MALLORY.key_id: ALICE.public_key})


def test_check_4_a_signature_with_any_byte_changed_is_refused() -> None:
    value = seal("steps", STEP, ALICE)
    for at in range(64):
        flipped = bytearray(value)
        flipped[-64 + at] ^= 1 << (at % 8)
        with pytest.raises(VerificationError, match="does not hold"):
            open_signed("steps", bytes(flipped), KEYS)


def test_check_4_a_body_with_any_byte_changed_is_refused() -> None:
    signature = ALICE.sign(signed_message("steps", BODY))
    for at in range(len(BODY)):
        flipped = bytearray(BODY)
        flipped[at] ^= 1
        with pytest.raises(VerificationError, match="does not hold"):
            open_signed("steps", envelope(bytes(flipped), ALICE.key_id, signature), KEYS)


def test_check_4_a_signature_by_another_known_key_is_refused() -> None:
    keys = {**KEYS, MALLORY.key_id: MALLORY.public_key}
    signature = MALLORY.sign(signed_message("steps", BODY))
    with pytest.raises(VerificationError, match="does not hold"):
        open_signed("steps", envelope(BODY, ALICE.key_id, signature), keys)


@pytest.mark.parametrize("other", [t for t in TOPICS if t != "steps"])
def test_check_4_the_same_envelope_under_another_topic_is_refused(other: str) -> None:
    value = seal("steps", STEP, ALICE)
    with pytest.raises(VerificationError, match=f"topic {other}: expected a signature by"):
        open_signed(other, value, KEYS)


def test_check_4_a_signature_without_domain_or_topic_is_refused() -> None:
    for message in (BODY, b"steps\0" + BODY, b"zk-autograd/v1\0" + BODY, b"zk-autograd/v1\0zk.steps\0" + BODY):
        with pytest.raises(VerificationError, match="does not hold"):
            open_signed("steps", envelope(BODY, ALICE.key_id, ALICE.sign(message)), KEYS)


def test_check_4_the_signature_plus_the_group_order_is_refused() -> None:
    order = (1 << 252) + 27742317777372353535851937790883648493
    signature = ALICE.sign(signed_message("steps", BODY))
    s = int.from_bytes(signature[32:], "little") + order
    twin = signature[:32] + s.to_bytes(32, "little")
    with pytest.raises(VerificationError, match="does not hold"):
        open_signed("steps", envelope(BODY, ALICE.key_id, twin), KEYS)


@pytest.mark.parametrize("topic", TOPICS)
def test_check_5_an_event_of_another_topic_is_refused_though_well_signed(topic: str) -> None:
    for kind, event in SAMPLES.items():
        if kind not in TOPICS[topic].events:
            value = signed_as(topic, encode(event))
            if len(value) <= TOPICS[topic].cap:
                with pytest.raises(DecodeError, match=f"topic {topic}: body: .*got {kind.__name__}"):
                    open_signed(topic, value, KEYS)


@pytest.mark.parametrize("body", [b"x", BODY + b"\0", BODY[:-1], encode(Signed(BODY, ALICE.key_id, bytes(64)))])
def test_check_5_a_body_that_is_not_one_event_is_refused_though_well_signed(body: bytes) -> None:
    with pytest.raises(DecodeError, match="topic steps: body"):
        open_signed("steps", signed_as("steps", body), KEYS)


def test_a_known_key_may_sign_an_introduction_of_another_but_then_it_is_no_introduction() -> None:
    value = seal("steps", introduction(MALLORY), ALICE)
    assert open_signed("steps", value, KEYS).event == introduction(MALLORY)
    with pytest.raises(VerificationError, match="signed with its own key"):
        open_introduction("steps", value)


# Introductions


def test_an_introduction_opens_with_the_key_that_it_brings() -> None:
    opened = open_introduction("steps", seal("steps", introduction(MALLORY), MALLORY))
    assert opened.event == introduction(MALLORY)
    assert opened.key_id == key_id(opened.event.public_key)


def test_an_introduction_of_anothers_key_is_refused() -> None:
    event = introduction(ALICE)
    body = encode(event)
    stolen = envelope(body, ALICE.key_id, MALLORY.sign(signed_message("steps", body)))
    for value in (seal("steps", event, MALLORY), stolen):
        with pytest.raises(VerificationError):
            open_introduction("steps", value)


def test_an_introduction_signed_for_nothing_is_refused() -> None:
    body = encode(introduction(ALICE))
    with pytest.raises(VerificationError, match="does not hold"):
        open_introduction("steps", envelope(body, ALICE.key_id, ALICE.sign(body)))


@pytest.mark.parametrize("kind", [RunStarted, StepCommitted, RunFinished])
def test_only_an_introduction_opens_as_one(kind: type[Event]) -> None:
    with pytest.raises(DecodeError, match=f"encoding of EnclaveAttested, got {kind.__name__}"):
        open_introduction("steps", seal("steps", SAMPLES[kind], ALICE))


@pytest.mark.parametrize("topic", [t for t in TOPICS if t not in ("steps", "claims")])
def test_an_introduction_opens_on_no_other_topic(topic: str) -> None:
    with pytest.raises(DecodeError, match=r"encoding of \(no event\), got EnclaveAttested"):
        open_introduction(topic, signed_as(topic, encode(introduction(ALICE))))


def small_order_encodings() -> set[bytes]:
    """Every 32-byte string that decodes to a point of order 1, 2, 4 or 8, sign bit cleared; from the curve itself."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    sqrt_minus_1 = pow(2, (p - 1) // 4, p)

    def roots(square: int) -> list[int]:
        root = pow(square, (p + 3) // 8, p)
        return [r for c in (root, root * sqrt_minus_1 % p) for r in (c, -c % p) if r * r % p == square % p]

    # Orders 1 and 2: x = 0. Order 4: y = 0. Order 8: doubling gives y = 0, that is x*x + y*y = 0, so by the curve's
    # equation -x*x + y*y = 1 + d*x*x*y*y: 2*y*y = 1 - d*y**4.
    ys = {1, p - 1, 0}
    for square in roots((1 + d) % p):
        ys.update(r for half in [(-1 + square) * pow(d, -1, p) % p] for r in roots(half))
    encodings = {y + k * p for y in ys for k in (0, 1) if y + k * p < 2**255}
    return {y.to_bytes(32, "little") for y in encodings}


def test_the_refused_keys_are_exactly_those_of_small_order() -> None:
    assert small_order_encodings() == signing._SMALL_ORDER


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("y", sorted(small_order_encodings()), ids=bytes.hex)
def test_a_key_of_small_order_introduces_nobody(y: bytes, sign: int) -> None:
    weak = y[:31] + bytes([y[31] | sign])
    event = EnclaveAttested(Role.TRAINER, weak, EvidenceClass.SIMULATED, b"", 0)
    with pytest.raises(VerificationError, match="large order"):
        open_introduction("steps", envelope(encode(event), key_id(weak), b"\x01" + bytes(63)))


def test_without_that_refusal_one_signature_would_fit_every_message() -> None:
    neutral = Ed25519PublicKey.from_public_bytes(b"\x01" + bytes(31))
    for message in (b"one", b"another"):
        neutral.verify(b"\x01" + bytes(63), message)


# Routing


def test_decode_unverified_tells_which_event_came_and_verifies_nothing() -> None:
    forged = envelope(BODY, digest("nobody"), bytes(64))
    opened = decode_unverified("steps", forged)
    assert (opened.event, opened.event_id, opened.key_id) == (STEP, event_id(BODY), digest("nobody"))
    with pytest.raises(VerificationError):
        open_signed("steps", forged, KEYS)


def test_decode_unverified_still_refuses_events_of_another_topic() -> None:
    with pytest.raises(DecodeError, match="got RunOpened"):
        decode_unverified("steps", signed_as("steps", encode(RunOpened(digest("run")))))


# What was decoded before


@settings(max_examples=150, deadline=None)
@given(any_event())
def test_a_decoded_event_is_judged_as_its_bytes_are(event: Event) -> None:
    topic = TOPIC_OF[type(event)]
    value = seal(topic, event, ALICE)
    decoded = decode_unverified(topic, value)
    assert verify_decoded(topic, decoded, ALICE.public_key) == open_signed(topic, value, KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"body": encode(sample(StepCommitted, step=2))},
        {"signature": bytes(64)},
        {"key_id": MALLORY.key_id},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_decoded_event_under_a_signature_of_something_else_is_refused(change: dict[str, Any]) -> None:
    decoded = decode_unverified("steps", seal("steps", STEP, ALICE))
    with pytest.raises(VerificationError):
        verify_decoded("steps", replace(decoded, **change), ALICE.public_key)


def test_a_decoded_event_is_for_its_own_topic_and_key_only() -> None:
    decoded = decode_unverified("steps", seal("steps", STEP, ALICE))
    for topic in set(TOPICS) - {"steps"}:
        with pytest.raises(VerificationError, match="does not hold"):
            verify_decoded(topic, decoded, ALICE.public_key)
    with pytest.raises(VerificationError, match="expected key"):
        verify_decoded("steps", decoded, MALLORY.public_key)
    forged = signed_as("steps", BODY, MALLORY)
    with pytest.raises(VerificationError, match="expected key"):
        verify_decoded("steps", decode_unverified("steps", forged), ALICE.public_key)
