"""One run's chain: what a start may declare, which event comes next, and where a proof belongs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.chain import RunChain
from schemas.events import ProofAttached, RunFinished, RunStarted, ScheduleKind, StepCommitted
from schemas.signing import Opened, decode_unverified, seal
from tests.support.events import STRATEGIES, declared
from tests.support.forge import Case
from tests.support.sound_run import HOT_LR, STEPS, commitments
from zk_autograd.errors import VerificationError
from zk_autograd.tee.keys import new_signing_key


def chain_events(case: Case) -> list[Opened[Any]]:
    return [o for _, o in case.log.opened("steps") if isinstance(o.event, RunStarted | StepCommitted | RunFinished)]


def opened(topic: str, event: Any, case: Case) -> Opened[Any]:
    return decode_unverified(topic, case.insider.seal(topic, event))


@pytest.fixture
def chain(case: Case) -> RunChain:
    """The whole run, appended."""
    events = chain_events(case)
    made = RunChain(events[0], case.sound.circuit)
    for event in events[1:]:
        made.check_link(event)
        made.append(event)
    return made


def test_an_honest_chain_passes_every_check(case: Case) -> None:
    events = chain_events(case)
    chain = RunChain(events[0], case.sound.circuit)
    for event in events[1:]:
        chain.check_link(event)
        if isinstance(event.event, StepCommitted):
            chain.check_public(event.event)
        chain.append(event)
    assert len(chain.steps) == STEPS
    assert chain.finished is not None
    assert chain.state_root(0) == events[0].event.state_root
    assert chain.state_root(STEPS) == chain.finished.event.state_root


def test_every_honest_proof_is_in_its_place(case: Case, chain: RunChain) -> None:
    for record in case.proofs().values():
        proof = decode_unverified("proofs", record.value).event
        assert isinstance(proof, ProofAttached)
        chain.check_place(proof, commitments(proof.proof))


@pytest.mark.parametrize("change", [{"step": 0}, {"step": 4}, {"step": 1 << 40}, {"shard": -1}, {"shard": 2}])
def test_a_proof_of_a_step_or_shard_that_is_not_there_has_no_place(
    case: Case, chain: RunChain, change: dict[str, int]
) -> None:
    proof = decode_unverified("proofs", case.proofs()[1, 0].value).event
    with pytest.raises(VerificationError, match="no such step or shard"):
        chain.check_place(replace(proof, **change), commitments(proof.proof))


@pytest.mark.parametrize("point", ["pre", "post", "work"])
def test_each_of_a_proofs_three_points_must_be_the_steps(case: Case, chain: RunChain, point: str) -> None:
    proof = decode_unverified("proofs", case.proofs()[1, 0].value).event
    other = replace(commitments(proof.proof), **{point: bytes(64)})
    what = {"pre": "state before", "post": "state after", "work": "gradient"}[point]
    with pytest.raises(VerificationError, match=what):
        chain.check_place(proof, other)


def test_sums_that_a_statement_does_not_carry_have_no_place(case: Case, chain: RunChain) -> None:
    """A second form of the same proof or step would be another event: there is one."""
    proof = decode_unverified("proofs", case.proofs()[1, 0].value).event
    for name in ("carry_in_path", "carry_out_path"):
        with pytest.raises(VerificationError, match="sums that there are not"):
            chain.check_place(replace(proof, **{name: (bytes(32),)}), commitments(proof.proof))
    with pytest.raises(VerificationError, match="adam does not carry"):
        chain.check_public(replace(chain.steps[0].event, carry_root=b"\x01" * 32))


def test_a_proof_of_another_run_has_no_place(case: Case, chain: RunChain) -> None:
    proof = decode_unverified("proofs", case.proofs()[1, 0].value).event
    with pytest.raises(VerificationError, match="another run, circuit"):
        chain.check_place(replace(proof, run_id=bytes(32)), commitments(proof.proof))


def test_a_repeat_a_fork_and_a_gap_are_told_apart(case: Case) -> None:
    events = chain_events(case)
    chain = RunChain(events[0], case.sound.circuit)
    for event in events[1:3]:
        chain.append(event)
    with pytest.raises(VerificationError, match="step 2: repeated"):
        chain.check_link(events[2])
    fork = opened("steps", replace(events[2].event, underflow=77), case)
    with pytest.raises(VerificationError, match="step 2: forks the chain"):
        chain.check_link(fork)
    far = opened("steps", replace(events[3].event, previous=bytes(32)), case)
    with pytest.raises(VerificationError, match="step 3: leaves a gap"):
        chain.check_link(far)
    chain.check_link(events[3])


def test_a_number_that_does_not_count_up_is_refused(case: Case) -> None:
    events = chain_events(case)
    chain = RunChain(events[0], case.sound.circuit)
    for step in (0 + 2, 3, 1 << 40):
        with pytest.raises(VerificationError, match="expected step 1"):
            chain.check_link(opened("steps", replace(events[1].event, step=step), case))


def test_another_key_is_refused_before_anything_else(case: Case) -> None:
    events = chain_events(case)
    chain = RunChain(events[0], case.sound.circuit)
    other = decode_unverified("steps", seal("steps", events[1].event, new_signing_key()))
    with pytest.raises(VerificationError, match="signed by another key"):
        chain.check_link(other)


def test_nothing_follows_the_end(case: Case, chain: RunChain) -> None:
    for event in chain_events(case)[1:]:
        with pytest.raises(VerificationError, match="comes after the run's end"):
            chain.check_link(event)


def test_an_empty_run_may_end(case: Case) -> None:
    start = chain_events(case)[0]
    chain = RunChain(start, case.sound.circuit)
    chain.check_link(opened("steps", RunFinished(start.event_id, start.event_id, 0, start.event.state_root), case))


@pytest.mark.parametrize("change", [{"steps": 2}, {"steps": 4}, {"state_root": bytes(32)}])
def test_an_end_that_does_not_repeat_the_last_step_is_refused(case: Case, change: dict[str, Any]) -> None:
    events = chain_events(case)
    chain = RunChain(events[0], case.sound.circuit)
    for event in events[1:-1]:
        chain.append(event)
    with pytest.raises(VerificationError, match="or another state"):
        chain.check_link(opened("steps", replace(events[-1].event, **change), case))
    chain.check_link(events[-1])


def test_an_integer_off_its_schedule_is_named_with_both_values(case: Case, chain: RunChain) -> None:
    step = chain.steps[1].event
    names = chain.statement.public
    for index, name in enumerate(names):
        public = list(step.public)
        public[index] += 1
        with pytest.raises(VerificationError, match=rf"{name} is {public[index]}, expected {step.public[index]}"):
            chain.check_public(replace(step, public=tuple(public)))
    chain.check_public(step)


@pytest.mark.parametrize("lr", [0.0, HOT_LR, 1e-4, 1e300])
def test_a_rate_that_was_not_declared_is_refused(chain: RunChain, lr: float) -> None:
    with pytest.raises(VerificationError, match="learning rate"):
        chain.check_public(replace(chain.steps[0].event, rates=(lr,)))


def test_a_start_about_another_circuit_is_refused(case: Case) -> None:
    start = chain_events(case)[0]
    with pytest.raises(VerificationError, match="circuit's id differs"):
        RunChain(opened("steps", replace(start.event, circuit_id=bytes(32)), case), case.sound.circuit)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=STRATEGIES[RunStarted], step=STRATEGIES[StepCommitted], keep=st.sets(st.sampled_from(range(10))))
def test_whatever_a_signed_start_declares_the_chain_refuses_or_counts(
    case: Case, start: RunStarted, step: StepCommitted, keep: set[int]
) -> None:
    """A hostile trainer's numbers end in a VerificationError, never in another exception: it would end the ledger."""
    honest = chain_events(case)[0].event
    fixed = {n: getattr(honest, n) for n in _CIRCUIT_FIELDS}
    free = {n: getattr(honest, n) for i, n in enumerate(_FREE_FIELDS) if i in keep}
    with contextlib.suppress(VerificationError):
        chain = RunChain(opened("steps", replace(start, **fixed, **free), case), case.sound.circuit)
        chain.check_public(replace(step, step=1))


_CIRCUIT_FIELDS = ("circuit_id", "proof_system", "optimizer", "shard_size", "srs_id", "srs_class")
_FREE_FIELDS = ("groups", "blocks", "shards", "sampled", "beacon", "window", "epoch_steps", "max_rounding", "name")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    hyper=st.tuples(*(st.floats(allow_nan=False, allow_infinity=False) for _ in range(3))),
    small=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    which=st.sets(st.sampled_from(range(3))),
    lr=st.floats(0, allow_infinity=False),
    scales=st.tuples(st.integers(0, 62), st.integers(0, 62), st.integers(0, 62)),
    number=st.integers(1, 1 << 62),
)
def test_whatever_rates_and_scales_are_signed_the_integers_are_computed_or_refused(
    case: Case, hyper: Any, small: Any, which: set[int], lr: float, scales: Any, number: int
) -> None:
    """Hyper-parameters and rates at every size, valid names: what the arithmetic of the schedule itself meets."""
    honest = chain_events(case)[0].event
    values = [small[i] if i in which else hyper[i] for i in range(3)]
    named = tuple(replace(h, value=v) for h, v in zip(honest.groups[0].hyper, values, strict=True))
    start = declared(
        honest, hyper=named, max_lr=max(lr, 1e-300), schedule_kind=ScheduleKind.OPEN, schedule=(),
        scale_w=scales[0], scale_g=scales[1], guard=scales[2],
    )  # fmt: skip
    step = replace(chain_events(case)[1].event, rates=(lr,), step=number)
    with contextlib.suppress(VerificationError):
        RunChain(opened("steps", start, case), case.sound.circuit).check_public(step)
