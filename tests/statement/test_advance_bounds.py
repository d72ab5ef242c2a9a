"""Each statement's two halves: what ``advance`` makes satisfies every bound, and nothing else does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as some

from tests.statement.runs import HYPER, OPS, Ints, Step, outside, run
from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format
from zk_autograd.statement import STATEMENTS, Statement

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
"""Those of which a parameter can be changed by itself. Of a shaped one it cannot: digits and sums belong to a shard.

Its honest and its changed shards are held to all bounds by ``tests/proofs/adafactor_round.py`` (short form:
test_fuzz_adafactor.py), look-up by look-up by test_adafactor_lies.py; here are the tests of the reference alone.
"""
SHAPED = sorted(STATEMENTS.keys() - set(NAMES))
SIZE = 48


@some.composite
def runs(draw: some.DrawFn, name: str) -> tuple[Statement, int, list[Step]]:
    """A few steps over gradients of every size, zero and the format's ends among them."""
    st, P = STATEMENTS[name], 2 ** draw(some.integers(11, 17)) - 8
    hyper = draw(some.sampled_from(HYPER[name]))
    lr = draw(some.floats(1e-6, 1e-3))
    try:
        fmt = st.choose_format(hyper, lr, draw(some.sampled_from([1.0, 0.1, 3.0])), P)
    except FormatError:
        reject()  # the smallest tables leave no room for decay or for a large buffer
    rng = np.random.default_rng(draw(some.integers(0, 2**32)))

    def gradient() -> Ints:
        sizes = np.exp(rng.uniform(0, math.log(fmt.clip + 1), SIZE)).astype(np.int64).clip(0, fmt.clip)
        g = sizes * rng.choice([-1, 0, 1, 1, -1], SIZE)
        g[:2] = fmt.clip, -fmt.clip
        return g

    return st, P, list(run(st, hyper, lr, fmt, P, [gradient() for _ in range(draw(some.integers(1, 12)))]))


@pytest.mark.parametrize("name", NAMES)
@given(data=some.data())
@settings(deadline=None, max_examples=60)
def test_an_honest_step_satisfies_every_bound(name: str, data: some.DataObject) -> None:
    st, P, steps = data.draw(runs(name))
    for step in steps:
        bounds = st.bounds(step.pre, step.post, step.g, step.hints, step.public, P)
        assert len(bounds) == st.lookups
        for what, value in bounds.items():
            assert value.min() >= 0, what
            assert value.max() < P, what


@pytest.mark.parametrize("name", NAMES)
@given(data=some.data())
@settings(deadline=None, max_examples=40)
def test_any_other_next_state_or_hint_violates_a_bound(name: str, data: some.DataObject) -> None:
    st, P, steps = data.draw(runs(name))
    for step in steps:
        for part, names in (("post", st.state), ("hints", st.hints)):
            honest = getattr(step, part)
            for key in names:
                for change in (1, 2, P, -1, -2, -P):
                    forged = {**honest, key: honest[key] + change}
                    assert outside(st, step, P, **{part: forged}).all(), (part, key, change)


@pytest.mark.parametrize("name", NAMES)
@given(data=some.data())
@settings(deadline=None, max_examples=40)
def test_no_combination_of_small_changes_satisfies_the_bounds(name: str, data: some.DataObject) -> None:
    st, P, steps = data.draw(runs(name))
    rng = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    step = steps[-1]
    for _ in range(40):
        changes = {key: rng.integers(-2, 3, SIZE) for key in (*st.state, *st.hints)}
        changed = np.any([c != 0 for c in changes.values()], axis=0)
        forged = outside(
            st, step, P,
            post={n: x + changes[n] for n, x in step.post.items()},
            hints={n: x + changes.get(n, 0) for n, x in step.hints.items()},
        )  # fmt: skip
        assert forged[changed].all()


@pytest.mark.parametrize("name", ["adam", "momentum"])
@given(data=some.data())
@settings(deadline=None, max_examples=40)
def test_the_first_step_ignores_the_genesis_moments(name: str, data: some.DataObject) -> None:
    st, P, steps = data.draw(runs(name))
    first = steps[0]
    rng = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    pre = {n: x if n == "w" else rng.integers(0, 1 << 30, SIZE) for n, x in first.pre.items()}
    post, hints = st.advance(pre, first.g, first.public, P, OPS)
    for got, expected in ((post, first.post), (hints, first.hints)):
        assert all(np.array_equal(got[n], expected[n]) for n in expected)


@pytest.mark.parametrize("name", ["adam", "momentum"])
@pytest.mark.parametrize("logrows", [15, 16])
def test_moments_fade_and_weights_rest_once_the_gradient_is_gone(name: str, logrows: int) -> None:
    st, P, hyper = STATEMENTS[name], 2**logrows - 8, HYPER[name][0]
    fmt = st.choose_format(hyper, 1e-3, 1.0, P)
    spike = np.array([fmt.clip, -fmt.clip, 300, -300, 7, -7, 1, -1], dtype=np.int64)
    steps = list(run(st, hyper, 1e-3, fmt, P, [spike] * 20 + [np.zeros_like(spike)] * 400))
    assert not steps[-1].post["m"].any()
    assert np.array_equal(steps[-1].post["w"], steps[-2].post["w"])


@pytest.mark.parametrize("name", [*NAMES, *SHAPED])
def test_a_parameter_of_zeros_stays_zero(name: str) -> None:
    st, P = STATEMENTS[name], 2**14 - 8 if name in SHAPED else 2**12 - 8
    hyper, size = HYPER[name][0], st.shard_of(P) or 1
    fmt = st.choose_format(hyper, 1e-3, 1.0, P)
    for step in run(st, hyper, 1e-3, fmt, P, [np.zeros(size, dtype=np.int64)] * (20 if st.shaped else 500)):
        assert not any(x.any() for x in (*step.post.values(), *(step.hints[n] for n in st.hints)))


def test_a_constant_gradient_moves_the_weight_by_the_real_amount_even_far_below_one_unit_a_step() -> None:
    st, P = STATEMENTS["sgd"], 2**16 - 8
    fmt = st.choose_format({}, 1.0, 1.0, P)
    lr, g = 1e-3, np.array([40, -40], dtype=np.int64)
    *_, last = run(st, {}, lr, fmt, P, [g] * 2000)
    expected = -2000 * lr * g * 2.0 ** (fmt.scale_w - fmt.scale_g)
    assert abs(expected[0]) < 2000 / 20, "the test is about steps that round to zero"
    assert np.abs(last.post["w"] - expected).max() <= 0.05 * abs(expected[0])


def test_equal_declarations_give_equal_public_integers_and_they_do_not_depend_on_history() -> None:
    fmt = Format(19, 14, 2, 16381)
    st, hyper = STATEMENTS["adam"], HYPER["adam"][0]
    once = st.public_integers(hyper, 1e-3, 1234, fmt, 65528)
    assert once == st.public_integers(dict(hyper), 1e-3, 1234, fmt, 65528)
    assert dict(once) == {
        "b1": 58975, "c1": 6553, "b2": 65462, "c2": 264, "A": 1769, "E": 1, "r": 40962,
    }  # fmt: skip  # A: 1769.12 by 60-digit decimal arithmetic, 1769 is coprime to P


@given(
    step=some.integers(1, 20_000),
    lr=some.floats(1e-5, 1e-2),
    logrows=some.integers(14, 17),
    hyper=some.sampled_from(HYPER["adam"]),
)
@settings(deadline=None, max_examples=80)
def test_adams_public_integers_are_the_float_formulas_rounded(
    step: int, lr: float, logrows: int, hyper: dict[str, float]
) -> None:
    st, P = STATEMENTS["adam"], 2**logrows - 8
    fmt = st.choose_format(hyper, 1e-2, 1.0, P)
    pub = st.public_integers(hyper, lr, step, fmt, P)
    beta1, beta2 = round(hyper["beta1"] * P) / P, round(hyper["beta2"] * P) / P
    root = math.sqrt(1 - beta2**step)
    A = lr * root / (1 - beta1**step) * 2.0 ** (fmt.scale_w + fmt.guard / 2 + 1)
    E = hyper["eps"] * root * 2.0 ** (fmt.scale_g + fmt.guard / 2 + 1)
    assert abs(pub.A - A) <= 8 + 1e-9 * A
    assert math.gcd(pub.A, P) == 1
    assert abs(pub.E - max(1.0, E)) <= 0.5 + 1e-9 * E
    assert (pub.b1, pub.b2) == ((0, 0) if step == 1 else (round(beta1 * P), round(beta2 * P)))
    assert (pub.c1, pub.c2) == (P - round(beta1 * P), (P - round(beta2 * P)) << fmt.guard)
    assert 0 <= pub.r < P


@pytest.mark.parametrize("name", ["adam-wide", "adamw-wide"])
@given(
    step=some.integers(1, 20_000), lr=some.floats(0, 1e-2), logrows=some.integers(11, 17),
    guard=some.sampled_from([0, 2]), beta1=some.floats(0, 0.99), beta2=some.floats(0.985, 0.9999),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_no_factor_of_wide_adams_c2_is_in_c1_or_A_whatever_is_declared(
    name: str, step: int, lr: float, logrows: int, guard: int, beta1: float, beta2: float
) -> None:
    st, P = STATEMENTS[name], 2**logrows - 8
    try:
        pub = st.public_integers(st.defaults | {"beta1": beta1, "beta2": beta2}, lr, step, Format(15, 20, guard, 9), P)
    except FormatError as error:
        assert "beta" in str(error)  # noqa: PT017
        return
    assert math.gcd(pub.A, P) == math.gcd(pub.A * pub.c1, pub.c2) == 1
    assert pub.b1 >= 0
    assert step == 1 or (pub.b1 + pub.c1, abs(pub.c1 - (1 - beta1) * P) <= 0.25 * (1 - beta1) * P + 1) == (P, True)


@given(step=some.integers(1, 20_000), lr=some.floats(0, 1e-2), name=some.sampled_from(["sgd", "momentum"]))
@settings(deadline=None, max_examples=60)
def test_sgds_public_integers_are_the_float_formulas_rounded(step: int, lr: float, name: str) -> None:
    st, P, hyper = STATEMENTS[name], 2**16 - 8, HYPER[name][0]
    fmt = st.choose_format(hyper, 1e-2, 1.0, P)
    pub = st.public_integers(hyper, lr, step, fmt, P)
    A = lr * P * 2.0 ** (fmt.scale_w - fmt.scale_g)
    if name == "sgd":
        assert abs(pub.A - A) <= 0.5 + 1e-9 * A
    else:
        assert abs(pub.A - A) <= 8 + 1e-9 * A
        assert math.gcd(pub.A, P) == 1
        assert (pub.u, pub.c) == ((0, P) if step == 1 else (round(hyper["momentum"] * P), P))


@pytest.mark.parametrize("name", [*NAMES, *SHAPED])
def test_offsets_take_every_value_once_in_P_steps(name: str) -> None:
    st, P, hyper = STATEMENTS[name], 2**10 - 8, HYPER[name][0]
    hyper = hyper | ({"beta2": 0.99} if "beta2" in hyper else {})
    fmt = Format(12, 7, getattr(st, "guard", 0), 100)
    assert sorted(st.public_integers(hyper, 1e-3, t, fmt, P).r for t in range(1, P + 1)) == list(range(P))
