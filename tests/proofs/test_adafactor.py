"""Adafactor's shard: a matrix with moments of its rows and columns. What is honest is taken, each lie is refused.

On a circuit of 2^12 rows: 21 rows of 16. A lie changes a few of the values that a prover commits to; those that follow
from them follow, unless the lie is about these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

from tests.proofs.forging import fraction
from tests.proofs.mocking import MockProver
from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import OPS, PROFILES, Circuit, Columns, Ints
from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.system import _circuit, shard_size
from zk_autograd.proofs.witness import (
    ShardWitness,
    advance,
    carry_of,
    columns,
    fresh_noise,
    fresh_salt,
    named,
)
from zk_autograd.statement import STATEMENTS, Public, carry_bounds, place_in
from zk_autograd.statement.adafactor import (
    FAMILY,
    LARGEST_PUBLIC,
    LARGEST_SIZE,
    M_DIGITS,
    R_DIGITS,
    SW_DIGITS,
    X_DIGITS,
    Adafactor,
    direction_bits,
)

NAME = "adafactor-16"
ST: Any = STATEMENTS[NAME]
LR = 1e-2


def public(P: int, step: int = 7, lr: float = LR, **hyper: float) -> Public:
    declared = dict(ST.defaults) | {"size": 900.0} | hyper
    return ST.public_integers(declared, lr, step, ST.choose_format(declared, LR, 1.0, P), P)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def circuit(mock_circuit: Callable[..., Circuit]) -> Circuit:
    return mock_circuit(NAME, shard=ST.shard_of(2**12 - 8))


def state(circuit: Circuit, rng: np.random.Generator) -> dict[str, Ints]:
    P, R, C = circuit.P, ST.rows(circuit.P), ST.length
    v = np.zeros(R * C, dtype=np.int64)
    v[:R], v[R : R + C] = rng.integers(1, C * P * P // 8, R), rng.integers(1, R * P * P // 8, C)
    return {"w": rng.integers(-40000, 40000, R * C), "v": v}


def block(circuit: Circuit, shards: int, pub: Public, seed: int = 0) -> list[tuple[ShardWitness, Public]]:
    """An honest block of random values; moments are those of gradients as large as the new ones."""
    rng, P = np.random.default_rng(seed), circuit.P
    parts = [(state(circuit, rng), rng.integers(-(P // 2) + 1, P // 2, circuit.shard)) for _ in range(shards)]
    return [
        (
            ShardWitness(
                pre, g, fresh_noise(circuit.noise, P), fresh_salt(), fresh_salt(), fresh_salt(), carried
            ),
            Public(pub | place_in([shards], i)),
        )
        for i, ((pre, g), carried) in enumerate(zip(parts, carry_of(ST, parts, pub, P), strict=True))
    ]  # fmt: skip


# Sizes.


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("st", FAMILY, ids=lambda st: st.name)
def test_a_shard_is_whole_rows_that_fit_the_circuit(st: Adafactor, profile: str) -> None:
    p = PROFILES[profile]
    shard = shard_size(st, p)
    assert shard == st.shard_of(p.P) == st.rows(p.P) * st.length
    _, cells = graph.build(st, p.P, p.columns, shard, p.noise)
    more = cells + 3 * (24 * st.length + 28 + 6 * 7)
    assert cells <= 3 * p.P * 0.998 < more
    assert max(graph.column_sizes(st, p.P, shard, p.noise).values()) < p.P


def test_a_circuit_with_shards_of_another_size_is_not_loaded(circuit: Circuit) -> None:
    description = {"statement": NAME, "logrows": 12, "shard": circuit.shard - 16, "noise": 16, "proof_bytes": 0}
    with pytest.raises(ValueError, match="no shards of 320"):
        _circuit(bytes(32), description, bytes(32), "DEV", circuit.directory, circuit.srs_path)


@pytest.mark.parametrize("logrows", range(12, 18))
@pytest.mark.parametrize("length", [16, 64, 256])
def test_no_difference_that_is_compared_reaches_half_the_prime(length: int, logrows: int) -> None:
    """The sizes of docs/soundness.md: of all values that digits and public integers allow, the largest."""
    P = 2**logrows - 8
    st = Adafactor("any", length)
    try:
        st.rows(P)
    except FormatError:
        pytest.skip("no such circuit")
    n, r, M = LARGEST_SIZE, P**R_DIGITS, P**M_DIGITS
    most = Public(n=n, B=LARGEST_PUBLIC, e1=LARGEST_PUBLIC, e2=LARGEST_PUBLIC, D=LARGEST_PUBLIC)
    totals = {"M": M, "sw": P**SW_DIGITS, "su": M}
    # Denominators grow with their moments, numerators with the sums.
    sizes = []
    for num, den in (st._row_share(r, M, most, P), st._column_share(M, most, P)):
        sizes += [num, (P * P) ** 2 * den]
    mean = 4 * M + n
    kept, weights = max(mean, n * most.e1), max(totals["sw"], n * most.e2)
    spread = mean * n * 4 ** direction_bits(P)
    sizes += [spread * most.D, 256 * kept * M, weights * most.B**2 * max(kept, most.D)]
    sizes += [(P**X_DIGITS) ** 2 * max(spread, 256 * M)]
    digits = [P ** (1 + sum(x.rpartition(".")[0] == name for x in st.scalars(P))) for name in ("X-", "over d")]
    assert 2 * max(sizes) + max(digits) < 2**231 < MODULUS // 2


# The reference.


def test_the_step_is_the_one_that_is_written_down(circuit: Circuit) -> None:
    """By Python's integers, element by element, over a block of two shards."""
    P, R, C, pub = circuit.P, ST.rows(circuit.P), ST.length, public(circuit.P)
    parts = block(circuit, 2, pub, seed=5)
    r, c, before = [], [[0] * C for _ in parts], [w.pre["v"].tolist() for w, _ in parts]
    for s, (w, _) in enumerate(parts):
        g = w.g.reshape(R, C).tolist()
        r.append([(pub.b2 * before[s][i] + pub.c2 * sum(x * x for x in g[i]) + pub.r) // P for i in range(R)])
        c[s] = [(pub.b2 * before[s][R + j] + pub.c2 * sum(row[j] ** 2 for row in g) + pub.r) // P for j in range(C)]
    M, columns_ = sum(map(sum, r)), [sum(x) for x in zip(*c, strict=True)]
    s4, n = 4 ** direction_bits(P), pub.n
    b = [math.isqrt(64 * n * s4 * P * P // (4 * C * x + n)) for x in columns_]
    u = []
    for s, (w, _) in enumerate(parts):
        a = [math.isqrt(P * P * C * (4 * M + n) // (16 * n * (4 * x + C))) for x in r[s]]
        u.append([(a[i] * b[j] * int(w.g[i * C + j]) + pub.o * P) // (P * P) for i in range(R) for j in range(C)])
    sw, su = sum(int(x) ** 2 for w, _ in parts for x in w.pre["w"]), sum(x * x for row in u for x in row)
    G, S = max(4 * M + n, n * pub.e1), max(sw, n * pub.e2)
    one, two = pub.B**2 * S * G // ((4 * M + n) * n * s4), pub.B**2 * S * pub.D // (256 * su)
    T = (math.isqrt(min(one, two)) + pub.j) // P
    for s, (w, p) in enumerate(parts):
        step = advance(circuit, w, p)
        assert step.hints["u"].tolist() == u[s]
        assert step.post["v"].tolist() == r[s] + c[s] + [0] * (R * C - R - C)
        assert step.post["w"].tolist() == [int(x) - (T * y + pub.r) // P for x, y in zip(w.pre["w"], u[s], strict=True)]


def test_a_block_cut_into_shards_moves_as_one(circuit: Circuit) -> None:
    parts = block(circuit, 3, public(circuit.P))
    whole = {n: np.concatenate([w.pre[n] for w, _ in parts]) for n in ST.state}
    g = np.concatenate([w.g for w, _ in parts])
    post, hints = ST.advance(whole, g, parts[0][1], circuit.P, OPS)
    steps = [advance(circuit, w, pub) for w, pub in parts]
    assert all(np.array_equal(post[n], np.concatenate([s.post[n] for s in steps])) for n in ST.state)
    assert all(np.array_equal(hints[n], np.concatenate([s.hints[n] for s in steps])) for n in ST.hints)
    alone = np.concatenate([ST.advance(w.pre, w.g, p, circuit.P, OPS)[0]["w"] for w, p in parts])
    assert not np.array_equal(post["w"], alone), "the test does not see whether sums are those of the block"


@pytest.mark.parametrize("name", [p.name for p in FAMILY])
def test_powers_of_the_step_are_those_of_real_numbers(name: str) -> None:
    st, P = STATEMENTS[name], 2**16 - 8
    hyper = dict(st.defaults)
    fmt = st.choose_format(hyper, LR, 1.0, P)
    first = st.public_integers(hyper, LR, 1, fmt, P)
    assert (first.b2, first.c2) == (0, P), "what the genesis says of moments counts for nothing"
    for step in (2, 3, 100, 12345, 10**6):
        pub = st.public_integers(hyper, LR, step, fmt, P)
        assert abs(pub.c2 - P * step**-0.8) <= 1
        assert pub.b2 + pub.c2 == P
        assert abs(pub.B / (P * P * min(LR, step**-0.5)) - 1) < 1e-6


# Honest shards.


@pytest.mark.parametrize("shards", [1, 3])
def test_every_shard_of_an_honest_block_is_taken_and_hands_its_sums_to_the_next(
    circuit: Circuit, mock_prover: MockProver, shards: int
) -> None:
    made = [columns(circuit, w, advance(circuit, w, p), p) for w, p in block(circuit, shards, public(circuit.P))]
    assert mock_prover.verdicts(circuit, made) == [True] * shards
    count = len(ST.carries)
    for one, two in pairwise(made):
        assert one.carry_out == two.carry_in
    assert made[0].carry_in[:count] == [0] * count
    assert made[-1].carry_out[:count] == made[-1].carry_out[count : 2 * count]


def extreme(circuit: Circuit) -> Iterator[tuple[str, dict[str, Ints], Ints, Public]]:
    P, shard = circuit.P, circuit.shard
    zero, one = np.zeros(shard, dtype=np.int64), np.eye(1, shard, 3, dtype=np.int64)[0]
    most, rng = P // 2 - 1, np.random.default_rng(1)
    idle = {"w": zero, "v": zero}
    yield "nothing at all", idle, zero, public(P)
    yield "the first step", state(circuit, rng), rng.integers(-most, most, shard), public(P, step=1)
    yield "one element alone", idle, one * 5, public(P, step=1)
    yield "all at the clipping bound", {"w": zero + 99, "v": zero}, zero - most, public(P, step=1)
    yield "weights large, gradients of one unit", {"w": zero + (1 << 13), "v": zero}, zero + 1, public(P, step=2)
    yield "gradients below eps1", idle, one, public(P, step=1, eps1=1.0)
    yield "directions cut at a low d", {"w": zero + 7, "v": zero}, zero + 100, public(P, step=1, d=0.25)
    yield "a rate of 0", idle, zero + 3, public(P, lr=0.0)


def test_extremes_are_taken(circuit: Circuit, mock_prover: MockProver) -> None:
    made, said = [], []
    for name, pre, g, pub in extreme(circuit):
        placed = Public(pub | place_in([1], 0))
        (carried,) = carry_of(ST, [(pre, g)], pub, circuit.P)
        noise = fresh_noise(circuit.noise, circuit.P)
        w = ShardWitness(pre, g, noise, fresh_salt(), fresh_salt(), fresh_salt(), carried)
        made.append(columns(circuit, w, advance(circuit, w, placed), placed))
        said.append(name)
    assert [n for n, v in zip(said, mock_prover.verdicts(circuit, made), strict=True) if not v] == []


def test_a_shard_that_says_it_is_at_another_place_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    middle, pub = block(circuit, 3, public(circuit.P))[1]
    honest = columns(circuit, middle, advance(circuit, middle, pub), pub)
    at = len(ST.public)
    others = [replace(honest, hyper=[*honest.hyper[:at], *flags]) for flags in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert mock_prover.verdicts(circuit, others) == [True, False, False, False]


def test_moments_that_leave_the_circuit_are_refused_before_they_are_proven(circuit: Circuit) -> None:
    (w, pub), P = block(circuit, 1, public(circuit.P))[0], circuit.P
    for r in (-5 * P, 2 * P**R_DIGITS):
        v = w.pre["v"].copy()
        v[0] = r
        with pytest.raises(FormatError):
            advance(circuit, replace(w, pre={**w.pre, "v": v}), pub)


# Lies.


@dataclass
class Scene:
    """A shard in a block's middle: every value that its prover commits to, by name, as elements of the field."""

    circuit: Circuit
    pub: Public
    at: dict[str, list[int]]
    before: list[int]
    totals: list[int]
    after: list[int]

    @classmethod
    def honest(cls, circuit: Circuit, seed: int = 0, pub: Public | None = None) -> Scene:
        witness, pub = block(circuit, 3, pub or public(circuit.P), seed)[1]
        step = advance(circuit, witness, pub)
        c = witness.carried
        assert c is not None
        at = {f"pre.{n}": x.tolist() for n, x in witness.pre.items()}
        at |= {f"post.{n}": step.post[n].tolist() for n in ST.state} | {"g": witness.g.tolist()}
        at |= {n: step.hints[n].tolist() for n in ST.hints} | {n: [x] for n, x in step.scalars.items()}
        return cls(circuit, pub, at | dict(step.vectors), list(c.before), list(c.totals), list(step.after))

    def lie(self, *changes: tuple[str, int, int]) -> Scene:
        """Other values at (name, place, value)."""
        at = dict(self.at)
        for name, place, value in changes:
            at[name] = [*at[name][:place], value % MODULUS, *at[name][place + 1 :]]
        return replace(self, at=at)

    def _objects(self) -> dict[str, Any]:
        found: dict[str, Any] = {n: np.array(x, dtype=object) for n, x in self.at.items()}
        return found | {n: self.at[n][0] for n in ST.scalars(self.circuit.P)}

    def violated(self) -> set[str]:
        P, x = self.circuit.P, self._objects()
        pre, post = ({n: x[f"{side}.{n}"] for n in ST.state} for side in ("pre", "post"))
        totals = dict(zip(ST.carries, self.totals, strict=True))
        sums = {n: x % MODULUS for n, x in _sums(pre, post, x, P).items()}
        found = ST.bounds(pre, post, x["g"], x, self.pub, P)
        found |= ST.block_bounds(pre, post, x["g"], x, totals, self.pub, P)
        found |= carry_bounds(
            ST.carries, named(ST, self.before, self.totals), sums, named(ST, self.after, self.totals), 0, 0
        )
        return {n for n, v in found.items() if np.any(np.asarray(v, dtype=object) % MODULUS >= P)}

    def settled(self) -> Scene:
        """With running sums that are those of the values; the totals stay, as of a block with another rest."""
        P, x = self.circuit.P, self._objects()
        pre, post = ({n: _signed(x[f"{side}.{n}"]) for n in ST.state} for side in ("pre", "post"))
        sums = _sums(pre, post, {"u": _signed(x["u"])}, P)
        after = [b + sums[n] for n, b in zip(ST.carries, self.before, strict=True)]
        return replace(self, after=[v % MODULUS for v in after])

    def columns(self) -> Columns:
        P, salt = self.circuit.P, list(fresh_salt())
        side = {s: [*chain(*(self.at[f"{s}.{n}"] for n in ST.state)), *salt] for s in ("pre", "post")}
        once = [*ST.scalars(P), *ST.vectors(P)]
        noise = fresh_noise(self.circuit.noise, P).tolist()
        work = [*self.at["g"], *chain(*(self.at[n] for n in ST.hints)), *noise, *chain(*(self.at[n] for n in once))]
        return Columns(
            **side, work=[*work, *salt], hyper=[self.pub[n] for n in ST.inputs],
            carry_in=[*self.before, *self.totals, *salt], carry_out=[*self.after, *self.totals, *salt],
        )  # fmt: skip


def _signed(x: Any) -> Any:
    return np.array([v - MODULUS if v > MODULUS // 2 else v for v in x], dtype=object)


def _sums(pre: Any, post: Any, hints: Any, P: int) -> dict[str, int]:
    R, C = ST.rows(P), ST.length
    v = post["v"].tolist()
    found = {f"c{j}": v[R + j] for j in range(C)} | {"M": sum(v[:R])}
    squares = {"sw": pre["w"].tolist(), "su": hints["u"].tolist()}
    return found | {n: sum(a * a for a in x) for n, x in squares.items()}


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


def moved(s: Scene, name: str, by: int, *others: tuple[str, int]) -> Scene:
    """The first element of a vector at which what is below stays in the table, changed by so much."""
    for place in range(len(s.at[name])):
        if all(by_other < -1 or s.at[other][place] + by_other >= 0 for other, by_other in others):
            break
    changes = [(name, place, s.at[name][place] + by)]
    return s.lie(*changes, *((other, place, s.at[other][place] + b) for other, b in others))


def values_that_lie(s: Scene) -> Iterator[Lie]:
    P, R, at = s.circuit.P, ST.rows(s.circuit.P), s.at
    for by in (1, -1):
        # What a row or a column has gained, and the digits and sums that go with it.
        for name, place, bound in (("r", 2, "r' is the rounded mean"), ("c", R + 2, "c' is the rounded mean")):
            v = at["post.v"][place] + by
            digits = [(f"{name}.{i}", 2, v // P**i % P) for i in range(1, R_DIGITS)]
            lie = s.lie(("post.v", place, v), *digits)
            yield bound, (_rooted(lie, 2) if name == "r" else lie).settled()
        k, u = at["k"], at["u"]
        i = next(i for i in range(len(k)) if 1 <= (k[i] + s.pub.o) % P < P - 1)
        yield "k is the rounded product", s.lie(("k", i, k[i] + by))
        changed = at["pre.w"][i] - ((u[i] + by) * _T(s) + s.pub.r) // P
        yield "u is the rounded direction", s.lie(("u", i, u[i] + by), ("post.w", i, changed)).settled()
        yield "w' is the rounded step", s.lie(("post.w", i, at["post.w"][i] + by))
        X = _X(s)
        T = (X + s.pub.j) // P + by
        post = [("post.w", i, w - (x * T + s.pub.r) // P) for i, (w, x) in enumerate(zip(at["pre.w"], u, strict=True))]
        yield "T is the rounded rate", s.lie(("T.0", 0, T % P), ("T.1", 0, T // P), *post)
    # Of the field, not of the integers: the remainder stays as it is.
    i = next(i for i in range(len(k)) if (k[i] + s.pub.o) % P > 1 and (at["post.w"][i] - at["pre.w"][i]) != 0)
    yield "|w - w'| < P/2", s.lie(("post.w", i, at["post.w"][i] + fraction(_back(s, i), P)))


def _back(s: Scene, i: int) -> int:
    """By how many units the remainder of a step can move."""
    P, r = s.circuit.P, s.pub.r
    rest = (s.at["u"][i] * _T(s) + r) % P
    return -1 if rest else 1


def _X(s: Scene) -> int:
    return sum(s.at[f"X.{i}"][0] * s.circuit.P**i for i in range(X_DIGITS))


def _T(s: Scene) -> int:
    return s.at["T.0"][0] + s.at["T.1"][0] * s.circuit.P


def _rooted(s: Scene, row: int) -> Scene:
    """With the differences of a row's root as they are for its moment, the root itself as before."""
    P, pub = s.circuit.P, s.pub
    num, den = ST._row_share(s.at["post.v"][row], s.totals[ST.carries.index("M")], pub, P)
    a = s.at["a.0"][row] + P * s.at["a.1"][row]
    return _differences(s, "a", row, a, num, den)


def _differences(s: Scene, name: str, place: int, root: int, num: int, den: int) -> Scene:
    """The digits of a root's two differences, the highest whatever is left."""
    P, changes = s.circuit.P, []
    for letter, rest in ((f"{name}-", num - root * root * den), (f"{name}+", (root + 1) ** 2 * den - 1 - num)):
        digits = [n for n in s.at if n.rpartition(".")[0] == letter]
        for i, digit in enumerate(digits, 1):
            changes.append((digit, place, rest // P**i if i == len(digits) else rest // P**i % P))
    return s.lie(*changes)


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
    P, x = circuit.P, honest[0]._objects()
    pre, post = ({n: x[f"{side}.{n}"] for n in ST.state} for side in ("pre", "post"))
    totals = dict(zip(ST.carries, honest[0].totals, strict=True))
    every = ST.bounds(pre, post, x["g"], x, honest[0].pub, P)
    every |= ST.block_bounds(pre, post, x["g"], x, totals, honest[0].pub, P)
    assert set(every) - {bound for bound, _ in lies} == {f"{bit} is 0 or 1, from below" for bit in BITS}
    verdicts = mock_prover.verdicts(circuit, [scene.columns() for _, scene in lies])
    assert [bound for (bound, _), taken in zip(lies, verdicts, strict=True) if taken] == []


BITS = ("least w", "least M", "clipped")
"""No integer makes ``f - f*f`` positive. A field element does: see the test of these."""


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


def computed(
    circuit: Circuit, pub: Public, v: dict[int, int] | None = None, g: dict[int, int] | None = None,
    w: int | None = None,
) -> Scene:  # fmt: skip
    """The only shard but for the places of a block, with everything as the statement computes it, in range or not."""
    rng, P, shard = np.random.default_rng(4), circuit.P, circuit.shard
    pre = state(circuit, rng)
    gradient = rng.integers(-9, 9, shard)
    for place, value in (v or {}).items():
        pre["v"][place] = value
    if w is not None:
        pre["w"][:] = w
    for place, value in (g or {}).items():
        gradient[place] = value
    post, hints = ST.begin(pre, gradient, pub, P, OPS)
    hints |= ST.middle(pre, post, gradient, ST.sums(pre, post, hints, P), pub, P)
    totals = ST.sums(pre, post, hints, P)
    scalars = ST.settle(totals, pub, P)
    done = ST.finish(pre, post, hints | scalars, pub, P)
    at = {f"pre.{n}": x.tolist() for n, x in pre.items()} | {f"post.{n}": done[n].tolist() for n in ST.state}
    at |= {"g": gradient.tolist()} | {n: hints[n].tolist() for n in ST.hints} | {n: [x] for n, x in scalars.items()}
    at |= ST.detail(post, totals, pub, P)
    sums, placed = [totals[n] for n in ST.carries], Public(pub | {"first": 0, "last": 0})
    return Scene(circuit, placed, at, [0] * len(sums), sums, sums)


def bits_that_lie(circuit: Circuit) -> Iterator[Lie]:
    """A bit that is wrong leaves a difference below 0; one of 2 or -1 makes another rate."""
    P = circuit.P
    for f in BITS:
        for hyper in ({}, {"eps2": 1.0, "eps1": 1.0, "d": 0.25}, {"d": 12.0}):
            s = _idle(circuit, public(P, **hyper))
            lie = _with_bit(s, f, 1 - s.at[f][0])
            if lie is not None:
                top = [n for n in s.at if n.rpartition(".")[0] == _OVER[f]][-1].rpartition(".")[2]
                yield f"{f} is right, digit {top}", lie
            double = _with_bit(s, f, 2 if s.at[f][0] else -1)
            if double is not None:
                yield f"{f} is 0 or 1", double


_OVER = {"least w": "over w", "least M": "over M", "clipped": "over d"}


def _idle(circuit: Circuit, pub: Public) -> Scene:
    """A shard of zeros: whatever the layer's rate is, its weights stay."""
    s = computed(circuit, pub, v=dict.fromkeys(range(circuit.shard), 0), g=dict.fromkeys(range(circuit.shard), 0), w=0)
    # Totals of others.
    others = {f"c{j}": 10**6 + j for j in range(ST.length)} | {"M": 16 * 10**6, "sw": 10**11 + 7, "su": 10**7 + 1}
    return _resettled(replace(s, totals=[others[n] for n in ST.carries]))


def _resettled(s: Scene) -> Scene:
    totals, P = dict(zip(ST.carries, s.totals, strict=True)), s.circuit.P
    post = {n: np.array(s.at[f"post.{n}"], dtype=np.int64) for n in ST.state}
    found = {n: [x] for n, x in ST.settle(totals, s.pub, P).items()} | ST.detail(post, totals, s.pub, P)
    return replace(s, at=s.at | found)


def _with_bit(s: Scene, name: str, value: int) -> Scene | None:
    """Another bit, and all that follows from it, the highest digit of its difference whatever is left; None if more."""
    P, pub = s.circuit.P, s.pub
    totals = dict(zip(ST.carries, s.totals, strict=True))
    bits = {f: s.at[f][0] for f in BITS} | {name: value}
    changes = [(name, 0, value)]
    for f, (over, x) in zip(BITS, ST._compared(totals, bits, pub, P).items(), strict=True):
        if f != name and f == "clipped":
            bits[f] = int(x < 0)
            changes.append((f, 0, bits[f]))
        rest = (1 - 2 * bits[f]) * x - bits[f]
        digits = [n for n in s.at if n.rpartition(".")[0] == over]
        if f != name and not 0 <= rest < P ** (len(digits) + 1):
            return None
        changes += [(n, 0, rest // P**i if i == len(digits) else rest // P**i % P) for i, n in enumerate(digits, 1)]
    num, den = ST._squared_rate(totals, bits, pub, P)
    if num < 0 or den < 1:
        return None
    X = math.isqrt(num // den)
    T = (X + pub.j) // P
    changes += [(f"X.{i}", 0, X // P**i) for i in range(X_DIGITS - 1, X_DIGITS)]
    changes += [(f"X.{i}", 0, X // P**i % P) for i in range(X_DIGITS - 1)]
    changes += [("T.0", 0, T % P), ("T.1", 0, T // P)]
    return _differences(s.lie(*changes), "X", 0, X, num, den)


def test_a_bit_that_is_no_integer_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    """``f - f*f = s`` has a root in the field for half of all ``s``; ``f`` is then no small number."""
    s = _idle(circuit, public(circuit.P))
    small = next(x for x in range(1, 99) if pow(1 - 4 * x, (MODULUS - 1) // 2, MODULUS) == 1)
    root = _field_root((1 - 4 * small) % MODULUS)
    f = (1 + root) * fraction(1, 2) % MODULUS
    assert (f - f * f) % MODULUS == small
    lies = [s.lie((bit, 0, f)) for bit in BITS]
    assert all(f"{bit} is 0 or 1, from below" in lie.violated() for bit, lie in zip(BITS, lies, strict=True))
    assert not any(f"{bit} is 0 or 1" in lie.violated() for bit, lie in zip(BITS, lies, strict=True))
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in lies]))


def _field_root(x: int) -> int:
    """A square root in the field, by Cipolla's algorithm."""
    a = next(a for a in range(1, 999) if pow(a * a - x, (MODULUS - 1) // 2, MODULUS) == MODULUS - 1)
    w, result, base, e = (a * a - x) % MODULUS, (1, 0), (a, 1), (MODULUS + 1) // 2

    def times(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
        return (p[0] * q[0] + p[1] * q[1] * w) % MODULUS, (p[0] * q[1] + p[1] * q[0]) % MODULUS

    while e:
        if e & 1:
            result = times(result, base)
        base, e = times(base, base), e >> 1
    assert result[0] * result[0] % MODULUS == x
    return result[0]


def test_a_root_that_is_off_by_one_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    """Of a row, of a column and of the layer's rate; all that follows from it follows."""
    P, s = circuit.P, _idle(circuit, public(circuit.P))
    totals = dict(zip(ST.carries, s.totals, strict=True))
    share = {"a": ST._row_share(0, totals["M"], s.pub, P), "b": ST._column_share(totals["c0"], s.pub, P)}
    share["X"] = ST._squared_rate(totals, {f: s.at[f][0] for f in BITS}, s.pub, P)
    lies, tops = [], {n.rpartition(".")[0]: n.rpartition(".")[2] for n in s.at}
    for name, (num, den) in share.items():
        count = X_DIGITS if name == "X" else 2
        honest = sum(s.at[f"{name}.{i}"][0] * P**i for i in range(count))
        for root in (honest + 1, honest - 1):
            lie = s.lie(*((f"{name}.{i}", 0, root // P**i % P) for i in range(count)))
            if name == "X":
                T = (root + s.pub.j) // P
                lie = lie.lie(("T.0", 0, T % P), ("T.1", 0, T // P))
            lie = _differences(lie, name, 0, root, num, den)
            sides = {1: f"{name}*{name}*den <= num", -1: f"num < ({name}+1)*({name}+1)*den"}
            letter = f"{name}{'-' if root > honest else '+'}"
            assert lie.violated() == {f"{sides[root - honest]}, digit {tops[letter]}"}
            lies.append(lie)
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in lies]))


def test_a_rate_taken_modulo_the_prime_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    """``X`` is a root of the numerator plus the prime: both differences are small, and ``X`` is an integer."""
    P, s = circuit.P, _idle(circuit, public(circuit.P))
    totals = dict(zip(ST.carries, s.totals, strict=True))
    num, den = ST._squared_rate(totals, {f: s.at[f][0] for f in BITS}, s.pub, P)
    X = math.isqrt((num + MODULUS) // den)
    T = (X + s.pub.j) // P
    lie = s.lie(("X.0", 0, X % P), ("X.1", 0, X // P % P), ("X.2", 0, X // P**2), ("T.0", 0, T % P), ("T.1", 0, T // P))
    lie = _differences(lie, "X", 0, X, num + MODULUS, den)
    assert lie.violated() == {"X.2 is a digit", "T.1 is a digit"}
    assert mock_prover.verdicts(circuit, [lie.columns()]) == [False]


def test_sums_beyond_their_digits_cannot_be_proven(circuit: Circuit, mock_prover: MockProver) -> None:
    """The highest digit would have to leave the table. Rates and roots of such sums fit theirs: only it refuses."""
    P, s, lies = circuit.P, _idle(circuit, public(circuit.P)), []
    for name, count in (("sw", SW_DIGITS), ("su", M_DIGITS)):
        value = P**count + 5
        totals = dict(zip(ST.carries, s.totals, strict=True)) | {name: value}
        settled = _beyond(s, totals, name, count)
        assert settled.violated() == {f"{name}, digit {count - 1}"}
        lies.append(settled)
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in lies]))


def _beyond(s: Scene, totals: dict[str, int], name: str, count: int) -> Scene:
    """Settled for totals of which one has a digit too many; its own digits are cut where the circuit's end."""
    P = s.circuit.P
    fitting = ST.settle(totals | {name: P**count - 1}, s.pub, P)
    bits = {f: fitting[f] for f in BITS}
    changes = [(f, 0, bits[f]) for f in BITS]
    changes += [(f"{name}.{i}", 0, totals[name] // P**i if i == count - 1 else totals[name] // P**i % P)
                for i in range(1, count)]  # fmt: skip
    for f, (over, x) in zip(BITS, ST._compared(totals, bits, s.pub, P).items(), strict=True):
        rest = (1 - 2 * bits[f]) * x - bits[f]
        changes += [(n, 0, rest // P**i) if n == _last(s, over) else (n, 0, rest // P**i % P)
                    for i, n in enumerate((m for m in s.at if m.rpartition(".")[0] == over), 1)]  # fmt: skip
    num, den = ST._squared_rate(totals, bits, s.pub, P)
    X = math.isqrt(num // den)
    T = (X + s.pub.j) // P
    changes += [("X.0", 0, X % P), ("X.1", 0, X // P % P), ("X.2", 0, X // P**2), ("T.0", 0, T % P), ("T.1", 0, T // P)]
    return _differences(replace(s, totals=[totals[n] for n in ST.carries]).lie(*changes), "X", 0, X, num, den)


def _last(s: Scene, group: str) -> str:
    return [n for n in s.at if n.rpartition(".")[0] == group][-1]


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
