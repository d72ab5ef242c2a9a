"""Lies about a shard of Adafactor: each is refused, and each look-up refuses one that all others take.

On a circuit of 2^12 rows: 21 rows of 16. A lie changes a few of the values that a prover commits to; those that follow
from them follow, unless the lie is about these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.proofs.adafactor_forging import BITS, OVER, computed, idle, moved, rooted, whole_T, whole_X, with_bit
from tests.proofs.adafactor_scenes import NAME, ST, Scene, public
from tests.proofs.forging import fraction
from tests.proofs.mocking import MockProver
from zk_autograd.proofs.base import Circuit
from zk_autograd.statement.adafactor import R_DIGITS, X_DIGITS


@pytest.fixture(scope="module")
def circuit(mock_circuit: Callable[..., Circuit]) -> Circuit:
    return mock_circuit(NAME, shard=ST.shard_of(2**12 - 8))


def honest_scenes(circuit: Circuit) -> list[Scene]:
    return [Scene.honest(circuit), Scene.honest(circuit, 3, public(circuit.P, eps2=1.0, eps1=1.0, d=0.25))]


def test_each_lie_is_refused_by_one_look_up_alone_and_each_look_up_refuses_one(
    circuit: Circuit, mock_prover: MockProver
) -> None:
    honest = honest_scenes(circuit)
    assert [s.violated() for s in honest] == [set()] * 2
    assert mock_prover.verdicts(circuit, [s.columns() for s in honest]) == [True] * 2
    lies = [
        *digits_that_lie(honest[0]),
        *values_that_lie(honest[0]),
        *ranges_that_lie(circuit),
        *bits_that_lie(circuit),
    ]
    for bound, scene in lies:
        assert scene.violated() == {bound}, bound
    P, x = circuit.P, honest[0].objects()
    pre, post = ({n: x[f"{side}.{n}"] for n in ST.state} for side in ("pre", "post"))
    totals = dict(zip(ST.carries, honest[0].totals, strict=True))
    every = ST.bounds(pre, post, x["g"], x, honest[0].pub, P)
    every |= ST.block_bounds(pre, post, x["g"], x, totals, honest[0].pub, P)
    assert set(every) - {bound for bound, _ in lies} == {f"{bit} is 0 or 1, from below" for bit in BITS}
    verdicts = mock_prover.verdicts(circuit, [scene.columns() for _, scene in lies])
    assert [bound for (bound, _), taken in zip(lies, verdicts, strict=True) if taken] == []


def test_every_value_changed_by_an_integer_or_a_fraction_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    s = Scene.honest(circuit)
    names = [*ST.hints, "post.w", "g", *ST.scalars(circuit.P), *ST.vectors(circuit.P)]
    lies = [s.lie((n, 0, s.at[n][0] + by)) for n in names for by in (1, -1, fraction(1, 2))]
    lies += [
        s.lie(("post.v", place, s.at["post.v"][place] + by)) for place in (0, ST.rows(circuit.P)) for by in (1, -1)
    ]
    assert [i for i, lie in enumerate(lies) if not lie.violated()] == []
    # A third of them with the mock prover, each name at least once.
    some = lies[::4]
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in some]))


def test_what_a_shard_does_not_use_of_its_state_counts_for_nothing(circuit: Circuit, mock_prover: MockProver) -> None:
    s, unused = Scene.honest(circuit), ST.rows(circuit.P) + ST.length
    other = s.lie(("pre.v", unused, 99), ("post.v", unused, -7))
    assert mock_prover.verdicts(circuit, [other.columns()]) == [True]


Lie = tuple[str, Scene]


def digits_that_lie(s: Scene) -> Iterator[Lie]:
    """For each look-up of a digit, the digit moved: by a table from the one below it, or by a fraction."""
    P = s.circuit.P
    said = {"M": "M", "sw": "sw", "su": "su", "r": "r'", "c": "c'", "c*": "c*"}
    said |= {"over w": "least w is right", "over M": "least M is right", "over d": "clipped is right"}
    for name in ("a", "b", "X"):
        said |= {f"{name}-": f"{name}*{name}*den <= num", f"{name}+": f"num < ({name}+1)*({name}+1)*den"}
    for group, bound in said.items():
        digits = sorted((n for n in s.at if n.rpartition(".")[0] == group), key=lambda n: int(n.rpartition(".")[2]))
        yield f"{bound}, digit 0", moved(s, digits[0], +1)
        for i, name in enumerate(digits, 1):
            if name != digits[-1]:
                yield f"{bound}, digit {i}", moved(s, digits[i], +1, (name, -P))
            by = -1 if i > 1 and any(s.at[digits[i - 2]]) else 1
            below = [(digits[i - 2], by)] if i > 1 else []
            yield f"{bound}, digit {i}", moved(s, name, fraction(-by, P), *below)
    for name, count in (("a", 2), ("b", 2), ("X", X_DIGITS), ("T", 2)):
        for i in range(count - 1):
            yield f"{name}.{i} is a digit", moved(s, f"{name}.{i + 1}", 1, (f"{name}.{i}", -P))
            by = -1 if any(s.at[f"{name}.{i}"]) else 1
            yield f"{name}.{i + 1} is a digit", moved(s, f"{name}.{i + 1}", fraction(-by, P), (f"{name}.{i}", by))


def values_that_lie(s: Scene) -> Iterator[Lie]:
    P, R, at = s.circuit.P, ST.rows(s.circuit.P), s.at
    for by in (1, -1):
        # What a row or a column has gained, and the digits and sums that go with it.
        for name, place, bound in (("r", 2, "r' is the rounded mean"), ("c", R + 2, "c' is the rounded mean")):
            v = at["post.v"][place] + by
            digits = [(f"{name}.{i}", 2, v // P**i % P) for i in range(1, R_DIGITS)]
            lie = s.lie(("post.v", place, v), *digits)
            yield bound, (rooted(lie, 2) if name == "r" else lie).settled()
        k, u = at["k"], at["u"]
        i = next(i for i in range(len(k)) if 1 <= (k[i] + s.pub.o) % P < P - 1)
        yield "k is the rounded product", s.lie(("k", i, k[i] + by))
        changed = at["pre.w"][i] - ((u[i] + by) * whole_T(s) + s.pub.r) // P
        yield "u is the rounded direction", s.lie(("u", i, u[i] + by), ("post.w", i, changed)).settled()
        yield "w' is the rounded step", s.lie(("post.w", i, at["post.w"][i] + by))
        X = whole_X(s)
        T = (X + s.pub.j) // P + by
        post = [("post.w", i, w - (x * T + s.pub.r) // P) for i, (w, x) in enumerate(zip(at["pre.w"], u, strict=True))]
        yield "T is the rounded rate", s.lie(("T.0", 0, T % P), ("T.1", 0, T // P), *post)
    # Of the field, not of the integers: the remainder stays as it is.
    i = next(i for i in range(len(k)) if (k[i] + s.pub.o) % P > 1 and (at["post.w"][i] - at["pre.w"][i]) != 0)
    yield "|w - w'| < P/2", s.lie(("post.w", i, at["post.w"][i] + fraction(_back(s, i), P)))


def _back(s: Scene, i: int) -> int:
    """By how many units the remainder of a step can move."""
    P, r = s.circuit.P, s.pub.r
    rest = (s.at["u"][i] * whole_T(s) + r) % P
    return -1 if rest else 1


def ranges_that_lie(circuit: Circuit) -> Iterator[Lie]:
    """A whole shard computed from values that are out of range in one place."""
    P, C, R = circuit.P, ST.length, ST.rows(circuit.P)
    for g0, bound in ((P // 2, "|g| < P/2"), (-(P // 2) - 1, "|g| < P/2")):
        yield bound, computed(circuit, public(P), g={0: g0})
    # A row whose moment is far below the others', with one gradient that is not.
    pub = public(P, step=2000)
    low = dict.fromkeys(range(R), 0) | {R + j: 0 for j in range(C)} | {1: 0}
    high = {i: 400 * C for i in range(R) if i != 1}
    yield "|u| < P/2", computed(circuit, pub, v=low | high, g={C + 1: 800}, w=0)


def bits_that_lie(circuit: Circuit) -> Iterator[Lie]:
    """A bit that is wrong leaves a difference below 0; one of 2 or -1 makes another rate."""
    P = circuit.P
    for f in BITS:
        for hyper in ({}, {"eps2": 1.0, "eps1": 1.0, "d": 0.25}, {"d": 12.0}):
            s = idle(circuit, public(P, **hyper))
            lie = with_bit(s, f, 1 - s.at[f][0])
            if lie is not None:
                top = [n for n in s.at if n.rpartition(".")[0] == OVER[f]][-1].rpartition(".")[2]
                yield f"{f} is right, digit {top}", lie
            double = with_bit(s, f, 2 if s.at[f][0] else -1)
            if double is not None:
                yield f"{f} is 0 or 1", double
