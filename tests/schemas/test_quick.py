"""The quick decoder takes nothing that the strict one refuses, gives the same, and knows the events that it is for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import quick
from schemas.codec import decode, encode
from schemas.events import Event, ProofAttached, ProofClaimed, Signed, StepCommitted, StepProven
from schemas.signing import decode_unverified
from tests.fuzz_codec import CAP, MESSAGES, make_case, mutate
from tests.support.events import STRATEGIES, any_event, sample
from zk_autograd.errors import DecodeError

KINDS = (StepCommitted, ProofAttached, ProofClaimed, StepProven)


def agree(data: bytes) -> None:
    found = quick.event(data)
    if found is not None:
        assert decode(data, MESSAGES, CAP) == found
        assert encode(found) == data
    wrapped = quick.envelope(data)
    if wrapped is not None:
        assert decode(data, (Signed,), CAP) == wrapped


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS).flatmap(lambda kind: STRATEGIES[kind]))
def test_every_event_that_it_is_for_is_decoded(event: Event) -> None:
    assert quick.event(encode(event)) == event


@given(any_event())
@settings(max_examples=100, deadline=None)
def test_other_events_are_left_alone(event: Event) -> None:
    assert quick.event(encode(event)) == (event if isinstance(event, KINDS) else None)


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_an_envelope_is_decoded(body: bytes, key: bytes, signature: bytes) -> None:
    envelope = Signed(body, key, signature)
    assert quick.envelope(encode(envelope)) == envelope


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS).flatmap(lambda kind: STRATEGIES[kind]), any_event(), st.integers(0, 2**32))
def test_whatever_is_taken_of_mutated_events_the_strict_decoder_takes_too(
    event: Event, donor: Event, seed: int
) -> None:
    rng = random.Random(seed)
    data, other = encode(event), encode(donor)
    for _ in range(200):
        agree(mutate(rng, data, other))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_is_taken_of_mutated_envelopes_the_strict_decoder_takes_too(seed: int) -> None:
    for number in range(100):
        agree(make_case(seed, number).value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_a_sample_set_to_every_value_is_judged_alike(kind: type[Event]) -> None:
    """Also where both refuse, the quick one says None and raises nothing; cut and longer messages too."""
    data = encode(sample(kind))
    for at in range(min(len(data), 200)):
        for value in range(256):
            agree(data[:at] + bytes([value]) + data[at + 1 :])
        agree(data[:at])
        agree(data[:at] + b"\0" + data[at:])


def test_a_topic_that_does_not_carry_the_event_refuses_it() -> None:
    value = encode(Signed(encode(sample(StepProven)), bytes(32), bytes(64)))
    assert isinstance(decode_unverified("ledger", value).event, StepProven)
    with pytest.raises(DecodeError, match="got StepProven"):
        decode_unverified("steps", value)
