"""The reference and the circuit say the same: what one computes the other takes, and nothing near it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.proofs.forging import Case
from tests.proofs.mocking import MockProver
from tests.proofs.proving import fresh_witness, placed
from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import LARGEST_WEIGHT, Format
from zk_autograd.proofs.base import OPS, PROFILES, Circuit, Ints, check_bounds
from zk_autograd.proofs.witness import advance, columns
from zk_autograd.statement import STATEMENTS, Public, Statement

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))

betas = some.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95])
second_betas = some.sampled_from([0.95, 0.98, 0.99, 0.995, 0.999])
decays = some.sampled_from([0.0, 1e-5, 1e-4, 1e-2, 0.1])


def hyper_of(name: str) -> some.SearchStrategy[dict[str, float]]:
    """Hyper-parameters of a statement, usual ones and edges."""
    values = {
        "beta1": betas, "beta2": second_betas, "eps": some.sampled_from([1e-10, 1e-8, 1e-5, 1e-3]),
        "momentum": betas, "dampening": betas, "weight_decay": decays, "max_ratio": some.sampled_from([1.0, 10.0]),
    }  # fmt: skip
    st = STATEMENTS[name]
    own = {key: some.sampled_from([h[key] for h in (st.defaults, *st.samples)]) for key in st.defaults}
    return some.fixed_dictionaries({key: values.get(key, own[key]) for key in st.defaults})


def run(
    st: Statement, hyper: dict[str, float], max_lr: float, clip: float, P: int, shard: int, steps: int, seed: int
) -> tuple[dict[str, Ints], Ints, Public, Format] | None:
    """State, gradient and public integers of the last of ``steps`` honest steps; None if no format fits."""
    try:
        fmt = st.choose_format(hyper, max_lr, clip, P)
    except FormatError:
        return None
    rng = np.random.default_rng(seed)
    state = {n: rng.integers(-(1 << 20), 1 << 20, shard) for n in st.state}
    if "weight_decay" in hyper:  # formats leave room for the decay of weights up to this size
        largest = int(LARGEST_WEIGHT / 2 * 2.0**fmt.scale_w)
        state["w"] = rng.integers(-largest, largest, shard)
    if "v" in state:
        state["v"] = abs(state["v"])
    size = np.exp(rng.uniform(0, np.log(fmt.clip), shard))  # each parameter has its own scale of gradients
    for step in range(1, steps + 1):
        draw = rng.choice([-1.0, 0.0, 1.0], shard) if step % 3 else rng.normal(0, 1, shard)
        g = np.clip(np.rint(draw * size), -fmt.clip, fmt.clip).astype(np.int64)
        g[: shard // 4] = rng.choice([-fmt.clip, fmt.clip])
        pub = st.public_integers(hyper, max_lr * rng.choice([1.0, 0.5, 0.01]), step, fmt, P)
        if step == steps:
            return state, g, pub, fmt
        state = dict(st.advance(state, g, pub, P, OPS)[0])
    raise AssertionError("not reached")


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("name", NAMES)
def test_every_honest_step_stays_within_the_bounds(name: str, profile: str) -> None:
    st, P = STATEMENTS[name], PROFILES[profile].P

    @MANY
    @given(hyper=hyper_of(name), exponent=some.floats(-6, -1), clip=some.sampled_from([0.01, 1.0, 3.0]),
           steps=some.integers(1, 60), seed=some.integers(0, 2**32))  # fmt: skip
    def check(hyper: dict[str, float], exponent: float, clip: float, steps: int, seed: int) -> None:
        last = run(st, hyper, 10.0**exponent, clip, P, 64, steps, seed)
        if last is not None:
            state, g, pub, _ = last
            post, hints = st.advance(state, g, pub, P, OPS)
            assert check_bounds(st, state, post, g, hints, pub, P) == []

    check()


@pytest.mark.parametrize("name", NAMES)
def test_the_circuit_takes_whatever_the_reference_computes(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver, name: str
) -> None:
    circuit = mock_circuit(name, logrows=15)

    @FEW
    @given(hyper=hyper_of(name), exponent=some.floats(-6, -2), steps=some.integers(1, 60), seed=some.integers(0, 2**32))
    def check(hyper: dict[str, float], exponent: float, steps: int, seed: int) -> None:
        last = run(circuit.statement, hyper, 10.0**exponent, 1.0, circuit.P, circuit.shard, steps, seed)
        if last is not None:
            state, g, pub, _ = last
            pub = placed(circuit.statement, pub)
            witness = fresh_witness(circuit, state, g, pub)
            honest = columns(circuit, witness, advance(circuit, witness, pub), pub)
            assert mock_prover.verdicts(circuit, [honest]) == [True]

    check()


@pytest.mark.parametrize("name", NAMES)
def test_no_integers_near_the_honest_ones_are_within_the_bounds(case_of: Callable[[str], Case], name: str) -> None:
    """All combinations of changes up to 2, and of one whole table, at the extremes and at ordinary places."""
    rule = case_of(name).rule
    st, P = rule.st, rule.P
    honest = list(case_of(name).honest.values())
    arrays = {key: np.array([e[key] for e in honest], dtype=np.int64) for key in honest[0]}
    pre = {n: arrays[f"pre.{n}"] for n in st.state}
    steps = (
        (0, 1, -1, 2, -2, P, -P) if len(rule.targets) < 5 else (0, 1, -1, P) if len(rule.targets) < 7 else (0, 1, -1)
    )
    for offsets in product(steps, repeat=len(rule.targets)):
        moved = arrays | {t: arrays[t] + by for t, by in zip(rule.targets, offsets, strict=True)}
        post = {n: moved[f"post.{n}"] for n in st.state}
        bounds = st.bounds(pre, post, arrays["g"], {n: moved[n] for n in st.hints} | rule.scalars, rule.pub, P)
        holds = np.all([(b >= 0) & (b < P) for b in bounds.values()], axis=0)
        assert holds.all() if not any(offsets) else not holds.any(), offsets


@pytest.mark.parametrize("name", NAMES)
def test_the_bounds_that_are_checked_before_proving_name_what_is_wrong(
    case_of: Callable[[str], Case], name: str
) -> None:
    rule = case_of(name).rule
    e = case_of(name).honest["ordinary 0"]

    def failing(**changes: int) -> set[str]:
        at = {key: np.array([x + changes.get(key.replace(".", "_"), 0)], dtype=np.int64) for key, x in e.items()}
        pre, post = ({n: at[f"{side}.{n}"] for n in rule.st.state} for side in ("pre", "post"))
        hints = {n: at[n] for n in rule.st.hints} | rule.scalars
        return set(check_bounds(rule.st, pre, post, at["g"], hints, rule.pub, rule.P))

    assert failing() == set()
    for target in rule.targets:
        for by in (1, -1, 2, -2, rule.P, -rule.P):
            assert failing(**{target.replace(".", "_"): by}) == rule.violated(e | {target: e[target] + by}) != set()
