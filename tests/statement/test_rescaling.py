"""A change of scale: the state is carried over by a step's public integers, and nothing else about the step changes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.statement.runs import HYPER, OPS, Step, outside, run
from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format
from zk_autograd.statement import STATEMENTS, UNCHANGED, Public, Statement
from zk_autograd.statement.base import LARGEST_SHIFT, LEAST_RESCALED, PUBLIC_LIMIT

P = 2**16 - 8
NAMES = [name for name, st in sorted(STATEMENTS.items()) if st.rescales is not None]
ADAMS = [name for name in NAMES if "v" in STATEMENTS[name].state]
SIZE = 64


def started(name: str, lr: float, clip: float = 1.0) -> tuple[Statement, dict[str, float], Format]:
    st, hyper = STATEMENTS[name], HYPER[name][0]
    return st, hyper, st.choose_format(hyper, lr, clip, P)


def changed(name: str, shift: int, seed: int) -> Step:
    """A step with a change of scale, after twenty steps with gradients small enough for it."""
    st, hyper, fmt = started(name, 1e-3, 0.5)
    rng = np.random.default_rng(seed)
    top = fmt.clip >> max(shift, 0) + 1
    sizes = np.exp(rng.uniform(0, math.log(max(top, 2)), (20, SIZE))).astype(np.int64) * rng.choice([-1, 0, 1], SIZE)
    *_, last = run(st, hyper, 1e-3, fmt, P, list(sizes))
    new = st.check_shift(hyper, 1e-3, fmt, shift, P)
    pub = st.step_integers(hyper, 1e-3, 21, new, P, shift, st.resolution(hyper, UNCHANGED, 21, shift, P))
    g = rng.integers(-new.clip, new.clip + 1, SIZE)
    g[:2] = new.clip, -new.clip
    post, hints = st.advance(last.post, g, pub, P, OPS)
    return Step(pub, last.post, g, post, hints)


def allowed(name: str) -> list[int]:
    st, hyper, fmt = started(name, 1e-3, 0.5)
    found = []
    for shift in range(-LARGEST_SHIFT, LARGEST_SHIFT + 1):
        try:
            st.check_shift(hyper, 1e-3, fmt, shift, P)
        except FormatError:
            continue
        found.append(shift)
    return found


@pytest.mark.parametrize("name", NAMES)
@given(data=some.data())
@settings(deadline=None, max_examples=25)
def test_a_step_with_a_change_satisfies_every_bound_and_no_other_result_does(name: str, data: some.DataObject) -> None:
    shift = data.draw(some.sampled_from(allowed(name)))
    st, step = STATEMENTS[name], changed(name, shift, data.draw(some.integers(0, 2**32)))
    assert all(0 <= x < PUBLIC_LIMIT for x in step.public.values())
    assert not outside(st, step, P).any()
    for part, names in (("post", st.state), ("hints", st.hints)):
        honest = getattr(step, part)
        for key in names:
            for change in (1, P, -1, -P):
                forged = {**honest, key: honest[key] + change}
                assert outside(st, step, P, **{part: forged}).all(), (part, key, change)


@pytest.mark.parametrize("name", [name for name in NAMES if STATEMENTS[name].rescales])
@pytest.mark.parametrize("shift", [1, 3, 6])
def test_the_moments_become_those_of_the_finer_scale(name: str, shift: int) -> None:
    st, hyper, fmt = started(name, 1e-3, 0.5)
    rng = np.random.default_rng(1)
    top = fmt.clip >> shift + 1
    *_, last = run(st, hyper, 1e-3, fmt, P, [rng.integers(-top, top, SIZE) for _ in range(30)])
    new = st.check_shift(hyper, 1e-3, fmt, shift, P)
    zero = np.zeros(SIZE, dtype=np.int64)
    pre = {**last.post, "w": zero}  # without decay
    plain = st.public_integers(hyper, 1e-3, 31, fmt, P)
    known = st.resolution(hyper, UNCHANGED, 31, shift, P)
    scaled = st.step_integers(hyper, 1e-3, 31, new, P, shift, known)
    (as_was, _), (finer, _) = (st.advance(pre, zero, pub, P, OPS) for pub in (plain, scaled))
    assert np.abs(finer["m"] - (as_was["m"] << shift)).max() <= 1 << shift
    for key, power in (("v", 2), ("h", 1)):
        if key in st.state:
            assert np.abs(finer[key] - (as_was[key] << power * shift)).max() <= 1 << power * shift
    # The step itself is the same, up to what is rounded.
    assert np.abs(finer["w"] - as_was["w"]).max() <= 0.08 * np.abs(as_was["w"]).max() + 1


@pytest.mark.parametrize("name", ADAMS)
def test_a_parameter_whose_second_moment_was_rounded_away_takes_no_far_larger_step_than_before(name: str) -> None:
    st, hyper, fmt = started(name, 1e-3, 0.5)
    shift, zero = 7, np.zeros(1, dtype=np.int64)
    pre = dict.fromkeys(st.state, zero) | {"m": zero + 1}
    plain = st.public_integers(hyper, 1e-3, 50, fmt, P)
    fmt = replace(fmt, scale_g=min(fmt.scale_g, 30 - shift))
    new, known = st.check_shift(hyper, 1e-3, fmt, shift, P), st.resolution(hyper, UNCHANGED, 50, shift, P)
    scaled = st.step_integers(hyper, 1e-3, 50, new, P, shift, known)
    steps = [abs(int(st.advance(pre, zero, pub, P, OPS)[0]["w"][0])) for pub in (plain, scaled)]
    assert steps[1] <= 10 * steps[0]
    naive = Public(scaled | {"E": plain.E})
    assert abs(int(st.advance(pre, zero, naive, P, OPS)[0]["w"][0])) > 10 * steps[1], "the test sees nothing"


def test_what_was_recorded_coarsely_fades_with_the_second_moment() -> None:
    st, hyper, fmt = started("adam", 1e-3, 0.5)
    known = st.resolution(hyper, UNCHANGED, 100, 8, P)
    E = [st.step_integers(hyper, 1e-3, 100 + n, fmt, P, 0, known).E for n in (0, 1, 1000, 4000, 20_000)]
    beta2 = round(0.999 * P) / P
    assert [32, 32, *(max(1, round(32 * beta2 ** (n / 2))) for n in (1000, 4000, 20_000))] == E
    assert E[-1] == 1
    # A second change finds what is left of the first.
    later = st.resolution(hyper, known, 1100, 2, P)
    assert later.units / 2**32 == pytest.approx(4 * 256 * beta2**500, rel=1e-6)
    assert st.resolution(hyper, known, 20_000, -3, P).units == 2**32 >> 3


@pytest.mark.parametrize("name", NAMES)
def test_without_a_change_the_integers_are_the_plain_ones(name: str) -> None:
    st, hyper, fmt = started(name, 1e-3)
    assert st.step_integers(hyper, 1e-3, 7, fmt, P) == st.public_integers(hyper, 1e-3, 7, fmt, P)


@pytest.mark.parametrize("name", NAMES)
def test_no_allowed_change_makes_an_integer_too_small_or_too_large(name: str) -> None:
    st, hyper, fmt = started(name, 1e-3, 0.5)
    for shift in allowed(name):
        pub = st.step_integers(hyper, 1e-3, 5, replace(fmt, scale_g=fmt.scale_g + shift), P, shift)
        least = LEAST_RESCALED if shift < 0 else 0
        assert all(least <= pub[key] < PUBLIC_LIMIT for key in st.rescales or ())
    assert 1 in allowed(name)


@pytest.mark.parametrize(
    ("name", "shift", "said"),
    [
        ("adam", 9, "at most 8 bits"),
        ("adam", -9, "at most 8 bits"),
        ("adam", -6, "makes b2 15"),
        ("adam", -15, "scale_g"),
        ("amsgrad", -1, "makes k 0"),
        ("sgd", -1, "leave room for gradients up to 0"),
        ("momentum", -1, "leave room for gradients up to 0"),
        ("nesterov-l2", -1, "leave room for gradients up to 0"),
        ("adam-l2", 8, "leave room for gradients"),
    ],
)
def test_a_change_that_may_not_be_says_why(name: str, shift: int, said: str) -> None:
    st, hyper, fmt = started(name, 1e-3, 1.0)
    if name == "adam-l2":
        hyper = hyper | {"weight_decay": 0.01}
        fmt = st.choose_format(hyper, 1e-3, 1.0, P)
    with pytest.raises(FormatError, match=said):
        st.check_shift(hyper, 1e-3, fmt, shift, P)


def test_a_finer_scale_must_leave_plain_sgd_its_learning_rate() -> None:
    st, hyper, fmt = started("sgd", 1e-3)
    A = st.public_integers(hyper, 1e-3, 1, fmt, P).A
    most = int(math.log2(A / 16))
    now = fmt
    for _ in range(most):
        now = st.check_shift(hyper, 1e-3, now, 1, P)
    with pytest.raises(FormatError, match="learning rates are multiples of"):
        st.check_shift(hyper, 1e-3, now, 1, P)


def test_a_large_eps_and_a_fine_scale_do_not_go_together() -> None:
    st, hyper = STATEMENTS["adam"], {"beta1": 0.9, "beta2": 0.999, "eps": 0.1}
    fmt = st.choose_format(hyper, 1e-3, 1.0, P)
    with pytest.raises(FormatError, match="leave room for gradients"):
        st.check_shift(hyper, 1e-3, fmt, 4, P)


def test_a_bound_shrinks_to_what_a_larger_eps_leaves_of_the_table() -> None:
    st, hyper = STATEMENTS["adam"], {"beta1": 0.9, "beta2": 0.999, "eps": 1e-3}
    fmt = st.choose_format(hyper, 1e-3, 1.0, P)
    new = st.check_shift(hyper, 1e-3, fmt, 6, P)
    assert fmt.clip / 2 < new.clip < fmt.clip
    E = max(st.public_integers(hyper, 1e-3, step, new, P).E for step in (1, 1000, 10**6))
    assert 2 * math.isqrt(new.clip**2 << new.guard) + E <= P
    assert 2 * math.isqrt((new.clip + 2) ** 2 << new.guard) + E > P


def test_a_statement_that_says_nothing_of_it_changes_no_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    st, hyper, fmt = started("adam", 1e-3)
    monkeypatch.setattr(st, "rescales", None)
    with pytest.raises(FormatError, match="cannot change"):
        st.step_integers(hyper, 1e-3, 5, fmt, P, 1)
