"""Sums over a block of shards, and what follows from them: an honest block is taken, a lie about a sum is not.

Most of it is about a shard of zeros in the middle of a block: only the running sums and the scalars are left then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.proofs.forging import fraction
from tests.proofs.mocking import MockProver
from tests.proofs.proving import fresh_witness
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import OPS, Circuit, Columns
from zk_autograd.proofs.witness import ShardWitness, advance, carry, columns, fresh_noise, fresh_salt, named
from zk_autograd.statement import STATEMENTS, Public, Statement, carry_bounds, place_in, sum_of_squares

LAMB = STATEMENTS["lamb"]
LR = 1e-3


def public(P: int, step: int = 7, lr: float = LR, **hyper: float) -> Public:
    declared = dict(LAMB.defaults) | hyper
    return LAMB.public_integers(declared, lr, step, LAMB.choose_format(declared, LR, 1.0, P), P)


@given(some.lists(some.integers(-(1 << 50) + 1, (1 << 50) - 1), max_size=9), some.integers(0, 9000))
@settings(deadline=None, max_examples=50)
def test_sums_of_squares_are_exact_far_beyond_64_bits(values: list[int], zeros: int) -> None:
    values = values + [0] * zeros + values
    expected = sum(x * x for x in values)
    assert sum_of_squares(np.array(values, dtype=np.int64)) == expected
    assert sum_of_squares(np.array(values, dtype=object)) == expected


# The trust ratio.


@given(
    sw=some.integers(0, 1 << 70), su=some.integers(0, 1 << 60), step=some.integers(1, 5000),
    lr=some.floats(0, LR), ratio=some.sampled_from([1.0, 10.0, 100.0]), logrows=some.sampled_from([15, 16]),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_the_rate_is_the_declared_one_times_the_capped_ratio_of_the_norms(
    sw: int, su: int, step: int, lr: float, ratio: float, logrows: int
) -> None:
    P, hyper = 2**logrows - 8, dict(LAMB.defaults) | {"max_ratio": ratio}
    pub = public(P, step, lr, max_ratio=ratio)
    scalars = LAMB.settle({"sw": sw, "su": su}, pub, P)
    # Norms in reals: sums are of integers at their own scales.
    scale_w, scale_u = LAMB.choose_format(hyper, LR, 1.0, P).scale_w, LAMB._direction(hyper, P)[0]  # type: ignore[attr-defined]
    norms = math.sqrt(sw) / 2**scale_w, math.sqrt(su) / 2**scale_u
    expected = lr * min(norms[0] / norms[1] if all(norms) else 1.0, ratio) * 2.0 ** (scale_w - scale_u) * P
    slack = 1 + 1e-6 * expected + 2 / P
    assert scalars["T"] - slack <= expected <= scalars["T"] + slack
    assert 0 <= scalars["T"] < P
    found = LAMB.scalar_bounds({"sw": sw, "su": su}, scalars, pub, P)
    assert [name for name, x in found.items() if x % MODULUS >= P] == []


def test_a_rate_below_one_unit_is_right_on_average() -> None:
    P = 2**16 - 8
    totals = {"sw": 10**6, "su": 10**11}
    steps = [LAMB.settle(totals, public(P, step), P)["T"] for step in range(1, 2001)]
    exact = LR * math.sqrt(totals["sw"] / totals["su"]) * P
    assert 0 < exact < 1
    assert abs(sum(steps) / len(steps) - exact) < 0.01 * exact


# Honest blocks.


def block(circuit: Circuit, shards: int, pub: Public, seed: int = 0) -> list[tuple[ShardWitness, Public]]:
    """An honest block of random values."""
    rng, st = np.random.default_rng(seed), circuit.statement
    clip = st.choose_format(st.defaults, LR, 1.0, circuit.P).clip
    states, gradients = [], []
    for _ in range(shards):
        root = rng.integers(1, clip, circuit.shard)
        state = {"w": rng.integers(-5000, 5000, circuit.shard), "m": rng.integers(-clip // 4, clip // 4, circuit.shard)}
        states.append(state | {"v": 4 * root * root})
        gradients.append(rng.integers(-clip, clip + 1, circuit.shard))
    known = carry(st, [(s, st.begin(s, g, pub, circuit.P, OPS)[1]) for s, g in zip(states, gradients, strict=True)])
    return [
        (
            replace(fresh_witness(circuit, state, g, pub), carried=carried),
            Public(pub | place_in([shards], i)),
        )
        for i, (state, g, carried) in enumerate(zip(states, gradients, known, strict=True))
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_every_shard_of_an_honest_block_is_taken_and_hands_its_sums_to_the_next(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver, shards: int
) -> None:
    circuit = mock_circuit("lamb")
    made = [columns(circuit, w, advance(circuit, w, pub), pub) for w, pub in block(circuit, shards, public(circuit.P))]
    assert mock_prover.verdicts(circuit, made) == [True] * shards
    for one, two in pairwise(made):
        assert one.carry_out == two.carry_in
    assert made[0].carry_in[:2] == [0, 0]
    assert made[-1].carry_out[:2] == made[-1].carry_out[2:4]
    assert len({tuple(c.carry_in[2:4]) for c in made}) == 1
    weights = np.concatenate([np.array(c.pre[: circuit.shard], dtype=object) for c in made])
    assert made[0].carry_in[2] == int((weights * weights).sum())


def test_a_block_cut_into_shards_moves_as_one(mock_circuit: Callable[..., Circuit]) -> None:
    """The reference over the whole block, and each shard's own step."""
    circuit = mock_circuit("lamb")
    parts = block(circuit, 3, public(circuit.P))
    whole = {n: np.concatenate([w.pre[n] for w, _ in parts]) for n in LAMB.state}
    g = np.concatenate([w.g for w, _ in parts])
    post, hints = LAMB.advance(whole, g, parts[0][1], circuit.P, OPS)
    steps = [advance(circuit, w, pub) for w, pub in parts]
    assert all(np.array_equal(post[n], np.concatenate([s.post[n] for s in steps])) for n in LAMB.state)
    assert all(np.array_equal(hints[n], np.concatenate([s.hints[n] for s in steps])) for n in LAMB.hints)
    alone = np.concatenate([LAMB.advance(w.pre, w.g, p, circuit.P, OPS)[0]["w"] for w, p in parts])
    assert not np.array_equal(post["w"], alone), "the test does not see whether sums are those of the block"


def test_a_shard_that_says_it_is_at_another_place_is_refused(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver
) -> None:
    """One that is left out, or counted twice, leaves a gap between the sums' two ends."""
    circuit = mock_circuit("lamb")
    middle, pub = block(circuit, 3, public(circuit.P))[1]
    honest = columns(circuit, middle, advance(circuit, middle, pub), pub)
    at = len(LAMB.public)
    others = [replace(honest, hyper=[*honest.hyper[:at], *flags]) for flags in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert mock_prover.verdicts(circuit, others) == [True, False, False, False]


# Lies, each refused by one bound alone.


@dataclass
class Scene:
    """A shard of zeros: its sums and scalars, as integers or as field elements."""

    circuit: Circuit
    pub: Public
    before: list[int]
    after: list[int]
    totals: list[int]
    totals_after: list[int]
    scalars: dict[str, int] = field(default_factory=dict)

    @classmethod
    def honest(cls, circuit: Circuit, totals: tuple[int, int], first: int = 0, last: int = 0, **pub: int) -> Scene:
        sums = list(totals) if last else [0, 0] if first else [11, 22]
        chosen = Public(public(circuit.P) | pub | {"first": first, "last": last})
        scalars = LAMB.settle(dict(zip(LAMB.carries, totals, strict=True)), chosen, circuit.P)
        return cls(circuit, chosen, sums, list(sums), list(totals), list(totals), scalars)

    def lie(self, **scalars: int) -> Scene:
        return replace(self, scalars=self.scalars | scalars)

    def violated(self) -> set[str]:
        st: Statement = LAMB
        found = carry_bounds(
            st.carries, named(st, self.before, self.totals), dict.fromkeys(st.carries, 0),
            named(st, self.after, self.totals_after), self.pub.first, self.pub.last,
        )  # fmt: skip
        totals = dict(zip(st.carries, self.totals, strict=True))
        found |= st.scalar_bounds(totals, self.scalars, self.pub, self.circuit.P)
        return {name for name, x in found.items() if x % MODULUS >= self.circuit.P}

    def columns(self) -> Columns:
        c, st, salt = self.circuit, LAMB, list(fresh_salt())
        zeros = [0] * c.shard
        noise = fresh_noise(c.noise, c.P).tolist()
        return Columns(
            pre=[*zeros * len(st.state), *salt], post=[*zeros * len(st.state), *salt],
            work=[*zeros * (1 + len(st.hints)), *noise, *self.scalars.values(), *salt],
            hyper=[self.pub[n] for n in st.inputs],
            carry_in=[*self.before, *self.totals, *salt], carry_out=[*self.after, *self.totals_after, *salt],
        )  # fmt: skip


TOTALS = (10**12 + 39, 10**11 + 3)


def below(name: str) -> str:
    return f"{name}, from below"


def sums_that_lie(c: Circuit) -> Iterator[tuple[str, Scene]]:
    for i, name in enumerate(LAMB.carries):
        for by, bound in ((-1, str), (1, below)):
            by_one = [by * (j == i) for j in (0, 1)]

            def more(values: list[int], by_one: list[int] = by_one) -> list[int]:
                return [x + y for x, y in zip(values, by_one, strict=True)]

            middle, first, last = (Scene.honest(c, TOTALS, *ends) for ends in ((0, 0), (1, 0), (0, 1)))
            yield bound(f"{name} grows by the shard's sum"), replace(middle, after=more(middle.after))
            yield bound(f"total {name} stays"), replace(middle, totals_after=more(middle.totals))
            yield bound(f"{name} begins at 0"), replace(first, before=more(first.before), after=more(first.after))
            less = [x - y for x, y in zip(last.after, by_one, strict=True)]
            yield bound(f"{name} ends at the total"), replace(last, before=less, after=less)


def scalars_that_lie(c: Circuit) -> Iterator[tuple[str, Scene]]:
    P, free = c.P, Scene.honest(c, TOTALS)
    s = free.scalars
    cap = Scene.honest(c, TOTALS, R=(free.pub.R - s["y0"] - P * s["y1"]) * 9 // 10)
    assert s["k"] != 0, "the free one is capped"
    assert cap.scalars["k"] == 0, "the capped one is free"
    digits = [n for n in s if n[0] in "pq"]
    carried = [n for n in digits if s[n] > 0]

    # The cap is ignored: one more than it is in the place of the digits of what is missing to it.
    yield "y1 is a digit", uncapped(cap)
    # The cap is taken although the ratio is below it, or is not although the ratio is above.
    yield below("capped is 0 or 1"), under_the_cap(cap)
    # An inverse that makes a product of two norms look like none, and the rate as high as the cap.
    yield "none is 0 or 1", none_at_will(free)
    for by, bound in ((1, str), (-1, below)):
        yield bound("X*X*den <= num"), free.lie(p0=s["p0"] + by)
        yield bound("num < (X+1)*(X+1)*den, or capped"), free.lie(q0=s["q0"] + by)
    yield "T is the rounded rate", free.lie(T=s["T"] + 1)
    yield "T is the rounded rate", free.lie(T=s["T"] - 1)
    for part in (1, -1):
        yield "T is a digit", free.lie(T=(s["T"] + fraction(part, P)) % MODULUS)
    yield "y0 is a digit", free.lie(y0=s["y0"] + P, y1=s["y1"] - 1)
    for name in carried:
        lower = f"{name[0]}{int(name[1:]) - 1}"
        if lower in s:
            yield f"{lower} is a digit", free.lie(**{name: s[name] - 1, lower: s[lower] + P})


def uncapped(scene: Scene) -> Scene:
    """The honest scalars of a higher cap, the digits taken below zero."""
    P, pub = scene.circuit.P, scene.pub
    higher = Scene.honest(scene.circuit, TOTALS).scalars
    X = public(P).R - higher["y0"] - P * higher["y1"]
    y1, y0 = divmod(pub.R - X, P)
    assert y1 < 0
    return scene.lie(**higher | {"y0": y0, "y1": y1, "k": fraction(1, pub.R - X)})


def under_the_cap(scene: Scene) -> Scene:
    """One less than the cap, and no proof that it is not less than it should be."""
    P, pub = scene.circuit.P, scene.pub
    num, den = LAMB._squared_rate({"sw": TOTALS[0], "su": TOTALS[1]}, 0, pub)  # type: ignore[attr-defined]
    X = pub.R - 1
    rest, found = num - X * X * den, {}
    for name in (n for n in scene.scalars if n[0] == "p"):
        rest, found[name] = divmod(rest, P)
    return scene.lie(y0=1, y1=0, k=0, T=(X + pub.j) // P, **found)


def none_at_will(scene: Scene) -> Scene:
    """``none`` is whatever makes the numerator R*R times the denominator."""
    sw, su = TOTALS
    pub, P = scene.pub, scene.circuit.P
    free = sw * pub.B * pub.B
    none = fraction(pub.R**2 * su - free, pub.U**2 - free - pub.R**2 * (1 - su))
    digits = {n: 0 for n in scene.scalars if n[0] in "pq"}
    i = (1 - none) * fraction(1, sw * su) % MODULUS
    return scene.lie(i=i, k=0, y0=0, y1=0, T=(pub.R + pub.j) // P, **digits)


PAIRS = {"none is 0 or 1"}
"""Equalities that a lie breaks by more than the table, so that both of their look-ups refuse it."""


def every_lie(c: Circuit) -> list[tuple[str, Scene]]:
    return [*sums_that_lie(c), *scalars_that_lie(c)]


def test_each_lie_about_sums_and_ratio_is_refused_by_one_bound_alone(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver
) -> None:
    circuit = mock_circuit("lamb")
    ends = [Scene.honest(circuit, TOTALS, *e) for e in ((0, 0), (1, 0), (0, 1))]
    assert [s.violated() for s in ends] == [set()] * 3
    assert mock_prover.verdicts(circuit, [s.columns() for s in ends]) == [True] * 3
    lies = every_lie(circuit)
    for bound, scene in lies:
        assert scene.violated() == ({bound, below(bound)} if bound in PAIRS else {bound}), bound
    verdicts = mock_prover.verdicts(circuit, [scene.columns() for _, scene in lies])
    assert [bound for (bound, _), taken in zip(lies, verdicts, strict=True) if taken] == []


def test_every_scalar_changed_by_an_integer_or_a_fraction_is_refused(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver
) -> None:
    circuit = mock_circuit("lamb")
    honest = Scene.honest(circuit, TOTALS)
    lies = [
        honest.lie(**{name: (x + by) % MODULUS}) for name, x in honest.scalars.items() for by in (1, -1, fraction(1, 2))
    ]
    assert all(s.violated() for s in lies)
    assert not any(mock_prover.verdicts(circuit, [s.columns() for s in lies]))


@pytest.mark.parametrize("totals", [(0, 0), (0, 10**9), (10**9, 0), (1, 1 << 60), (1 << 90, 1), TOTALS])
def test_norms_of_zero_and_extreme_ones_are_taken_and_leave_one_rate_only(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver, totals: tuple[int, int]
) -> None:
    circuit = mock_circuit("lamb")
    scene = Scene.honest(circuit, totals)
    P, pub, T = circuit.P, scene.pub, scene.scalars["T"]
    if 0 in totals:
        assert (pub.U + pub.j) // P == T, "a ratio of 1"
    assert mock_prover.verdicts(circuit, [scene.columns()]) == [True]
    others = [
        scene.lie(T=T + by, **dict(zip(("y1", "y0"), divmod(pub.R - (T + by) * P + pub.j, P), strict=True)))
        for by in (-2, -1, 1, 2)
    ]
    assert all(s.violated() for s in others)
    assert not any(mock_prover.verdicts(circuit, [s.columns() for s in others]))


def test_a_rate_taken_modulo_the_prime_is_refused(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver
) -> None:
    """``X`` is a root of the numerator plus the prime: both differences are small, and ``X`` is an integer."""
    circuit, (sw, su) = mock_circuit("lamb"), TOTALS
    honest = Scene.honest(circuit, TOTALS)
    P, pub = circuit.P, honest.pub
    num, den = LAMB._squared_rate({"sw": sw, "su": su}, 0, pub)  # type: ignore[attr-defined]
    X = math.isqrt((num + MODULUS) // den)
    changes: dict[str, int] = {}
    for letter, rest in (("p", num + MODULUS - X * X * den), ("q", (X + 1) ** 2 * den - 1 - num - MODULUS)):
        assert rest >= 0
        for name in (n for n in honest.scalars if n[0] == letter):
            rest, changes[name] = divmod(rest, P)
        assert rest == 0
    y1, y0 = divmod(pub.R - X, P)
    lie = honest.lie(**changes, T=(X + pub.j) // P, y0=y0, y1=y1, k=fraction(1, pub.R - X))
    assert lie.violated() == {"y1 is a digit", "T is a digit"}
    assert mock_prover.verdicts(circuit, [lie.columns()]) == [False]


def test_sums_beyond_what_the_digits_hold_cannot_be_proven(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver
) -> None:
    """Their highest digit would have to leave the table, above and below."""
    circuit = mock_circuit("lamb")
    P, honest = circuit.P, Scene.honest(circuit, TOTALS)
    for letter, totals in (("p", (1 << 200, 1)), ("q", (1, 1 << 215))):
        count = sum(name[0] == letter for name in honest.scalars)
        num, den = LAMB._squared_rate(dict(zip(LAMB.carries, totals, strict=True)), 0, honest.pub)  # type: ignore[attr-defined]
        X = min(honest.pub.R, math.isqrt(num // den))
        y = honest.pub.R - X
        found = {"i": fraction(1, totals[0] * totals[1]), "k": fraction(1, y) if y else 0}
        found |= {"y0": y % P, "y1": y // P, "T": (X + honest.pub.j) // P}
        for name, rest in (("p", num - X * X * den), ("q", (X + 1) ** 2 * den - 1 - num if y else 0)):
            for n in range(count):
                rest, found[f"{name}{n}"] = (0, rest) if n == count - 1 else divmod(rest, P)
        lie = replace(honest, totals=list(totals), totals_after=list(totals)).lie(**found)
        assert lie.violated() == {f"{letter}{count - 1} is a digit"}
        assert mock_prover.verdicts(circuit, [lie.columns()]) == [False]
