"""The short form of the fuzz campaign (``python -m tests.fuzz_codec`` is the long one)."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.codec import decode, encode
from schemas.events import Event, RunFinished
from schemas.signing import seal
from tests.fuzz_codec import CAP, MESSAGES, SIGNER, Case, examine, main, make_case, mutate
from tests.support.events import any_event, sample
from zk_autograd.errors import DecodeError


@settings(max_examples=100, deadline=None)
@given(any_event(), any_event(), st.integers(0, 2**32))
def test_a_mutated_event_is_refused_or_canonical(event: Event, donor: Event, seed: int) -> None:
    rng = random.Random(seed)
    data, other = encode(event), encode(donor)
    for _ in range(100):
        mutated = mutate(rng, data, other)
        try:
            taken = decode(mutated, MESSAGES, CAP)
        except DecodeError:
            continue
        assert encode(taken) == mutated


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
@example(1)
def test_a_mutated_envelope_is_refused_or_what_was_signed(seed: int) -> None:
    for number in range(100):
        examine(make_case(seed, number))


def test_the_campaign_notices_a_body_that_came_in_and_was_not_signed_for_it() -> None:
    value = seal("steps", sample(RunFinished, steps=299), SIGNER)
    with pytest.raises(AssertionError, match="never signed"):
        examine(Case("signed", "steps", value))


def test_a_mutation_that_ends_at_another_honest_envelope_is_no_failure() -> None:
    # A splice may leave nothing but the donor.
    assert examine(Case("signed", "steps", seal("steps", sample(RunFinished), SIGNER))) == "taken"


def test_a_case_is_made_again_from_its_seed_and_number() -> None:
    assert [make_case(3, n) for n in range(50)] == [make_case(3, n) for n in range(50)]
    assert make_case(3, 7) != make_case(4, 7)


def test_the_campaigns_cases_reach_every_outcome() -> None:
    outcomes = [examine(make_case(1, n)) for n in range(3000)]
    assert set(outcomes) == {"taken", "DecodeError", "VerificationError"}


def test_the_campaign_ends_with_success_when_nothing_fails() -> None:
    assert main(["--count", "500", "--seed", "2"]) == 0
