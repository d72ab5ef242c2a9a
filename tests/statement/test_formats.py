"""The format chosen for a run: no gradient sequence leaves the table, and what cannot fit is refused with a limit."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.statement.runs import HYPER, OPS, Ints, outside, run
from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format, rounding_offset
from zk_autograd.statement import STATEMENTS
from zk_autograd.statement.adam import Adam
from zk_autograd.statement.adam_wide import WideAdam

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
DECLARED = [(name, hyper) for name in NAMES for hyper in HYPER[name]]


def hostile_gradients(fmt: Format, P: int, hyper: dict[str, float], steps: int) -> list[Ints]:
    """One element per attack: see the comments."""
    t = np.arange(steps)
    clip = fmt.clip
    beta1, beta2 = hyper.get("beta1", hyper.get("momentum", 0.0)), hyper.get("beta2", 0.999)
    growth = beta2 / beta1 if beta1 else 2.0
    growing = growth ** np.clip(t - steps + 1.0, -400, 0)
    c2 = (P - round(beta2 * P)) << fmt.guard
    offsets = np.array([rounding_offset(int(step), P) for step in t + 1])
    columns = [
        # all at the clipping bound; alternating; after long silence
        np.full(steps, clip), np.full(steps, -clip), clip * (-1) ** t,
        np.where(t >= steps // 2, clip, 0), np.where(t >= steps // 2, -clip, 0),
        # one spike, small and large
        np.where(t == steps // 2, clip, 0), np.where(t == steps // 2, -3, 0),
        # Cauchy-Schwarz's worst case for m / sqrt(v): growth by beta2 / beta1 after zeros, at its peak at the end
        *(sign * np.floor(peak * growing) for sign in (1, -1) for peak in (clip, 1000, 50)),
        # the largest gradients that v rounds away, in both directions; and constant ones of about that size
        *(sign * np.sqrt((P - 1 - offsets) // c2).astype(np.int64) for sign in (1, -1)),
        *(np.full(steps, g) for g in (-1, 1, -4, 4, -8, 8, -16, 16, -31, 31)),
        # the buffer filled to its brim, then turned round
        np.where(t < steps // 2, clip, -clip),
    ]  # fmt: skip
    return list(np.stack([c.astype(np.int64).clip(-clip, clip) for c in columns], axis=1))


@pytest.mark.parametrize("logrows", [14, 15, 16])
@pytest.mark.parametrize(("name", "hyper"), DECLARED)
def test_no_hostile_gradients_leave_the_table_at_the_largest_rate(
    name: str, hyper: dict[str, float], logrows: int
) -> None:
    st, P = STATEMENTS[name], 2**logrows - 8
    for lr in (1e-5, 1e-3, 2.0**-9 * 0.999, 1e-2):
        fmt = st.choose_format(hyper, lr, 1.0, P)
        for number, step in enumerate(run(st, hyper, lr, fmt, P, hostile_gradients(fmt, P, hyper, 120)), 1):
            assert not outside(st, step, P).any(), (lr, number, np.flatnonzero(outside(st, step, P)))


def largest_small_step(kind: type[Adam], P: int, hyper: dict[str, float], steps: int, width: int) -> float:
    """The largest ``|m'| * A / D`` per unit of ``lr * 2**scale_w``, over all gradients that keep ``v < width``.

    Exhaustive: for every ``v`` only the most negative ``m`` that any gradient sequence reaches needs to be kept, since
    a more negative ``m`` never leads to a less negative one.
    """
    b1, b2, c1, c2 = kind._means(hyper, P)
    c2 <<= kind.guard
    g = np.arange(math.isqrt(width * P // c2) + 2)
    lowest = np.full(width, 1, dtype=np.int64)
    lowest[0] = 0
    root = np.sqrt(np.arange(width)).astype(np.int64)
    largest = 0.0
    for step in range(1, steps):
        r = rounding_offset(step, P)
        v = np.flatnonzero(lowest <= 0)
        v = v[np.minimum.accumulate(np.concatenate([[1], lowest[v]]))[:-1] > lowest[v]]
        after_v = (v[:, None] * b2 + g * g * c2 + r) // P
        after_m = (lowest[v][:, None] * b1 - g * c1 + r) // P
        lowest = np.full(width, 1, dtype=np.int64)
        np.minimum.at(lowest, after_v[after_v < width], after_m[after_v < width])
        step_sizes = -lowest * kind._unit(kind.guard) / (kind.root_scale * root + kind.least_E)
        largest = max(largest, float(step_sizes.max()))
    return largest


@pytest.mark.parametrize("logrows", [15, 16])
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.99), (0.95, 0.99), (0.5, 0.9), (0.0, 0.999)])
@pytest.mark.parametrize("kind", [Adam, WideAdam])
def test_small_gradients_searched_exhaustively_never_pass_adams_reach(
    kind: type[Adam], beta1: float, beta2: float, logrows: int
) -> None:
    P, hyper = 2**logrows - 8, {"beta1": beta1, "beta2": beta2, "eps": 1e-8}
    found = largest_small_step(kind, P, hyper, steps=250, width=500)
    assert 0 < found <= kind.reach(hyper, P)


@pytest.mark.parametrize("kind", [Adam, WideAdam])
def test_adams_reach_is_nearly_attained_so_the_format_wastes_no_bit(kind: type[Adam]) -> None:
    hyper = dict(STATEMENTS["adam"].defaults)
    assert largest_small_step(kind, 65528, hyper, steps=250, width=500) > 0.8 * kind.reach(hyper, 65528)


@pytest.mark.parametrize("logrows", [12, 15, 16, 17])
@pytest.mark.parametrize("name", NAMES)
def test_64_bits_hold_every_intermediate_of_the_largest_gradients_the_format_takes(name: str, logrows: int) -> None:
    st, P = STATEMENTS[name], 2**logrows - 8
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, P)
    assert fmt.clip <= st.gradient_limit(P)
    signs = np.array([[1, -1, 1, -1], [1, -1, -1, 1]])
    for step in run(st, dict(st.defaults), 1e-3, fmt, P, [fmt.clip * signs[t % 2] for t in range(200)]):
        exact = {n: x.astype(object) for n, x in step.pre.items()}
        post, hints = st.advance(exact, step.g.astype(object), step.public, P, OPS)
        assert all(np.array_equal(post[n], step.post[n]) for n in post)
        assert all(np.array_equal(hints[n], step.hints[n]) for n in hints)
        assert max(abs(int(x)) for n in post for x in post[n]) < 1 << st.bits


@pytest.mark.parametrize("logrows", [15, 16])
@pytest.mark.parametrize("lr", [1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("name", NAMES)
def test_usual_rates_fit(name: str, lr: float, logrows: int) -> None:
    st = STATEMENTS[name]
    fmt = st.choose_format(st.defaults, lr, 1.0, 2**logrows - 8)
    assert fmt.scale_w >= 12
    # Half a unit of A is the rate's error; decay leaves weights fewer bits.
    A = st.public_integers(st.defaults, lr, 1000, fmt, 2**logrows - 8).A
    assert A / (60 if "weight_decay" in st.defaults else 500) >= 1


@pytest.mark.parametrize("clip", [1.0, 0.1])
@pytest.mark.parametrize(("name", "hyper"), DECLARED)
def test_a_refused_rate_names_the_largest_that_fits(name: str, hyper: dict[str, float], clip: float) -> None:
    st, P = STATEMENTS[name], 2**15 - 8
    with pytest.raises(FormatError, match="the largest that fits") as refused:
        st.choose_format(hyper, 1e3, clip, P)
    named = float(re.search(r"at most ([0-9.e-]+),", str(refused.value)).group(1))  # type: ignore[union-attr]
    assert st.choose_format(hyper, named, clip, P).scale_w == 12
    with pytest.raises(FormatError, match=re.escape(str(named))):
        st.choose_format(hyper, named * 1.02, clip, P)


@pytest.mark.parametrize("lr", [0.0, -1e-3, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_largest_rate_that_is_no_rate_is_refused(name: str, lr: float) -> None:
    with pytest.raises(FormatError, match="learning rate"):
        STATEMENTS[name].choose_format(STATEMENTS[name].defaults, lr, 1.0, 65528)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf, 1e8, 1e-12])
@pytest.mark.parametrize("name", NAMES)
def test_a_clipping_bound_outside_the_table_is_refused(name: str, clip: float) -> None:
    with pytest.raises(FormatError, match="clipping bound"):
        STATEMENTS[name].choose_format(STATEMENTS[name].defaults, 1e-3, clip, 65528)


@pytest.mark.parametrize(("name", "scale_g"), [("adam", 14), ("sgd", 15), ("momentum", 15)])
def test_a_bound_just_above_the_tables_half_shrinks_by_less_than_half_a_percent_instead_of_losing_a_bit(
    name: str, scale_g: int
) -> None:
    fmt = STATEMENTS[name].choose_format(STATEMENTS[name].defaults, 1e-3, 1.0, 65528)
    assert fmt.scale_g == scale_g
    assert 0.995 <= fmt.clip / 2**scale_g < 1


@given(eps=some.floats(1e-12, 1.0), clip=some.floats(1e-4, 4.0), logrows=some.integers(12, 17))
@settings(deadline=None, max_examples=80)
def test_root_and_divisor_fit_the_table_for_every_eps_and_clip(eps: float, clip: float, logrows: int) -> None:
    P, hyper = 2**logrows - 8, {"beta1": 0.9, "beta2": 0.99, "eps": eps}
    st = STATEMENTS["adam"]
    try:
        fmt = st.choose_format(hyper, 1e-4, clip, P)
    except FormatError as error:
        assert "eps" in str(error)  # noqa: PT017
        return
    largest_root = math.isqrt(fmt.clip**2 << fmt.guard)
    E = max(st.public_integers(hyper, 1e-4, step, fmt, P).E for step in (1, 10, 1000, 10**6))
    assert 2 * largest_root + E <= P
    assert fmt.clip <= clip * 2.0**fmt.scale_g


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("adam", {"beta1": 1.0}, "beta1"),
        ("adam", {"beta2": -0.1}, "beta2"),
        ("adam", {"beta2": math.nan}, "beta2"),
        ("adam", {"beta2": 0.999999}, "beta2"),
        ("adam", {"beta1": 0.9, "beta2": 0.8}, "beta1"),
        ("adam", {"eps": 0.0}, "eps"),
        ("adam", {"eps": 2.0}, "eps"),
        ("momentum", {"momentum": 1.0}, "momentum"),
        ("momentum", {"momentum": 0.99999}, "momentum"),
        ("momentum", {"dampening": -0.5}, "dampening"),
    ],
)
def test_hyper_parameters_that_the_table_cannot_express_are_refused_by_name(
    name: str, change: dict[str, float], said: str
) -> None:
    with pytest.raises(FormatError, match=said):
        STATEMENTS[name].choose_format({**STATEMENTS[name].defaults, **change}, 1e-3, 1.0, 65528)
