"""What a glance takes of steps and proofs, and what it leaves to be judged by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consumers.audit.glance import END, glance, seen
from schemas.codec import encode
from schemas.events import ProofAttached, RunFinished, RunStarted, Signed, StepCommitted
from schemas.signing import decode_unverified, event_id, seal
from tests.support.events import digest, sample
from zk_autograd.tee.keys import new_signing_key

KEY, OTHER = new_signing_key(), new_signing_key()
KEYS = {KEY.key_id: KEY.public_key}
RUN = digest("run")
MODES = [False, True]


def steps(count: int) -> list[bytes]:
    """Steps that each name the one before, and the end."""
    head, values = RUN, []
    for step in range(1, count + 1):
        event = sample(StepCommitted, run_id=RUN, step=step, previous=head)
        head = event_id(encode(event))
        values.append(seal("steps", event, KEY))
    return [*values, seal("steps", RunFinished(RUN, head, count, bytes(32)), KEY)]


def unsigned(value: bytes) -> bytes:
    opened = decode_unverified("steps", value)
    return encode(Signed(opened.body, opened.key_id, bytes(64)))


def taken(values: list[bytes], chained: bool, topic: str = "steps") -> list[Any]:
    return glance(topic, values, KEYS, RUN, chained)


@pytest.mark.parametrize("chained", MODES)
def test_steps_and_the_end_are_seen(chained: bool) -> None:
    values = steps(5)
    found = taken(values, chained)
    assert [one[0] for one in found] == [1, 2, 3, 4, 5, END]
    assert found == [seen(decode_unverified("steps", value)) for value in values]


@pytest.mark.parametrize("chained", MODES)
def test_a_proof_is_seen_with_its_shard(chained: bool) -> None:
    value = seal("proofs", sample(ProofAttached, run_id=RUN, step=7, shard=3), KEY)
    ((step, shard, key_id, _),) = taken([value], chained, "proofs")
    assert (step, shard, key_id) == (7, 3, KEY.key_id)


@pytest.mark.parametrize("chained", MODES)
def test_whatever_is_unusual_is_left(chained: bool) -> None:
    step, start = sample(StepCommitted, run_id=RUN), sample(RunStarted)
    good = seal("steps", step, KEY)
    unusual = [
        b"", b"garbage", good[:-1], good + b"\0", unsigned(good), seal("steps", step, OTHER), seal("steps", start, KEY),
        seal("proofs", sample(ProofAttached, run_id=RUN), KEY),
    ]  # fmt: skip
    assert taken(unusual, chained) == [None] * len(unusual)


@pytest.mark.parametrize("chained", MODES)
def test_another_runs_records_are_passed_over_whoever_signed_them(chained: bool) -> None:
    values = [seal("steps", sample(StepCommitted, run_id=digest("another")), key) for key in (KEY, OTHER)]
    assert taken(values, chained) == [False, False]


def test_a_signature_is_not_looked_at_where_an_accepted_step_names_the_event_and_only_if_asked_for() -> None:
    values = steps(4)
    values[1] = unsigned(values[1])
    assert [one is None for one in taken(values, False)] == [False, True, False, False, False]
    assert None not in taken(values, True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: [*values[:-1], unsigned(values[-1])],  # the last, which nothing names
        lambda values: [unsigned(value) for value in values],  # all of them: nobody vouches for the last
        lambda values: values[::-1][:1] + [unsigned(value) for value in values[:-1]],  # it stands before what it names
    ],
)
def test_a_step_that_no_accepted_one_names_is_held_to_its_own_signature(spoil: Any) -> None:
    values = spoil(steps(3))
    found = taken(values, True)
    bad = [i for i, value in enumerate(values) if value[-64:] == bytes(64)]
    assert [i for i, one in enumerate(found) if one is None] == ([bad[-1]] if len(bad) == 1 else bad)


def test_who_names_an_event_under_another_key_vouches_for_nothing() -> None:
    values = steps(2)
    second = decode_unverified("steps", values[1]).event
    values[1] = seal("steps", second, OTHER)  # type: ignore[arg-type]
    both = KEYS | {OTHER.key_id: OTHER.public_key}
    assert glance("steps", [unsigned(values[0]), values[1]], both, RUN, True)[0] is None


def test_a_proofs_signature_counts_unless_the_ledger_is_asked_for_it() -> None:
    event = sample(ProofAttached, run_id=RUN)
    value = encode(Signed(encode(replace(event, step=9)), KEY.key_id, bytes(64)))
    assert taken([value], False, "proofs") == [None]
    assert taken([value], True, "proofs")[0][0] == 9
