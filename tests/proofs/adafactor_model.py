"""What one step of Adafactor is, a second time: Python's integers, from the formulas of ``docs/adr/0017-adafactor.md``.

Nothing here calls a statement. A shard is made value by value, as its prover would commit to it: what has to stand in
a table is cut into digits, and what does not fit stays in the highest of them. Every integer is taken modulo the
field's prime, as the nearest to 0, so that a liar's values can be followed, too: a quotient of any element of the field
leaves a remainder of the table.

Of the state before the step only what the formulas make of it counts: ``b2*r``, and differences and squares of ``w``.
So they may be any elements of the field, and with ``b2 = 0`` a moment of before may be anything at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from zk_autograd.field import MODULUS

Values: TypeAlias = dict[str, list[int]]
Forced: TypeAlias = Mapping[tuple[str, int], int]
Share: TypeAlias = tuple[int, int]


def near(x: int) -> int:
    """The representative of a field element that is nearest to 0."""
    x %= MODULUS
    return x if x <= MODULUS // 2 else x - MODULUS


def root(share: Share) -> int:
    """Of a fraction, rounded down; 0 where there is none."""
    num, den = share
    return math.isqrt(num // den) if den > 0 and num >= 0 else 0


@dataclass(frozen=True)
class Table:
    """A circuit's: ``P`` entries, for shards of ``R`` rows of ``C``."""

    P: int
    C: int
    R: int

    @property
    def s(self) -> int:
        """Fractional bits of a direction."""
        return round(math.log2(self.P + 8)) - 8

    def digits(self, name: str) -> int:
        """How many digits of base ``P`` a number has."""
        fixed = {"r": 3, "c": 3, "c*": 4, "M": 4, "sw": 5, "su": 4, "a": 2, "b": 2, "X": 3, "T": 2}
        if name in fixed:
            return fixed[name]
        moments = 42 + 3 * (self.s + 8)
        bits = {"over w": 86, "over M": 72, "over d": 148, "X-": 170, "X+": 170}.get(name, moments)
        count = 1
        while self.P**count < 1 << bits:
            count += 1
        return count


@dataclass(frozen=True)
class Given:
    """What a shard's step starts from. ``before`` and ``totals`` have ``c0 ...``, ``M``, ``sw`` and ``su``."""

    w: Sequence[int]
    r: Sequence[int]
    c: Sequence[int]
    g: Sequence[int]
    before: Mapping[str, int] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Made:
    """A shard's values by name, and whether a proof of them exists.

    ``r'`` and ``c'`` are the moments after the step, ``after`` the sums with the shard in ``Given.before``'s order.
    ``shares`` has numerators and denominators of the squares of ``a``, ``b`` and ``X``.
    """

    table: Table
    forced: Forced
    values: Values = field(default_factory=dict)
    shares: dict[str, list[Share]] = field(default_factory=dict)
    fits: bool = True

    def put(self, name: str, values: Iterable[int]) -> list[int]:
        """What goes on with ``name`` from here: these values, or what a liar wants."""
        found = [near(self.forced.get((name, i), x)) for i, x in enumerate(values)]
        self.values[name] = found
        return found

    def within(self, values: Iterable[int]) -> None:
        """They are looked up with half a table added."""
        self.fits &= all(-self.table.P <= 2 * x < self.table.P for x in values)

    def split(self, name: str, values: Sequence[int], lowest: int = 1) -> None:
        """Cuts into digits; the lowest is what the others leave and has no name, unless ``lowest`` is 0."""
        P, count, values = self.table.P, self.table.digits(name), [near(x) for x in values]
        self.fits &= all(0 <= x < P**count for x in values)
        for i in range(lowest, count):
            self.put(f"{name}.{i}", (x // P**i if i == count - 1 else x // P**i % P for x in values))

    def rooted(self, name: str, shares: list[Share]) -> list[int]:
        """The roots of fractions, their digits, and those of what lies between their squares and the fractions."""
        self.shares[name] = shares
        roots = self.put(name, map(root, shares))
        del self.values[name]
        self.fits &= all(den > 0 and num >= 0 for num, den in shares)
        self.split(name, roots, 0)
        both = list(zip(roots, shares, strict=True))
        self.split(f"{name}-", [num - x * x * den for x, (num, den) in both])
        self.split(f"{name}+", [(x + 1) ** 2 * den - 1 - num for x, (num, den) in both])
        return roots


def moments(table: Table, p: Mapping[str, int], given: Given) -> tuple[list[int], list[int]]:
    """Those after the step, of rows and of columns."""
    P, C, R = table.P, table.C, table.R
    squares = [near(x) ** 2 for x in given.g]
    rows = [sum(squares[i * C : (i + 1) * C]) for i in range(R)]
    columns = [sum(squares[j::C]) for j in range(C)]

    def mean(old: int, added: int) -> int:
        return near(p["b2"] * old + p["c2"] * added + p["r"]) // P

    return [mean(*x) for x in zip(given.r, rows, strict=True)], [mean(*x) for x in zip(given.c, columns, strict=True)]


def row_share(table: Table, p: Mapping[str, int], r: int, M: int) -> Share:
    return table.P**2 * table.C * (4 * M + p["n"]), 16 * p["n"] * (4 * r + table.C)


def column_share(table: Table, p: Mapping[str, int], c: int) -> Share:
    return 64 * p["n"] * 4**table.s * table.P**2, 4 * table.C * c + p["n"]


def product(table: Table, a: Sequence[int], b: Sequence[int], g: Sequence[int]) -> list[int]:
    return [near(a[i // table.C] * b[i % table.C] * near(x)) // table.P for i, x in enumerate(g)]


def sums(
    table: Table, rows: Sequence[int], columns: Sequence[int], w: Sequence[int], u: Sequence[int]
) -> dict[str, int]:
    """What a shard adds to its block's sums."""
    found = {f"c{j}": x for j, x in enumerate(columns)} | {"M": sum(rows)}
    return found | {"sw": sum(near(x) ** 2 for x in w), "su": sum(x * x for x in u)}


def block(table: Table, p: Mapping[str, int], parts: Sequence[Given]) -> list[Given]:
    """The shards of a whole block, each with the sums of those before it and over all."""
    P, begun = table.P, [moments(table, p, part) for part in parts]
    M = sum(sum(rows) for rows, _ in begun)
    b = [root(column_share(table, p, sum(x))) for x in zip(*(columns for _, columns in begun), strict=True)]
    found = []
    for part, (rows, columns) in zip(parts, begun, strict=True):
        a = [root(row_share(table, p, r, M)) for r in rows]
        u = [(k + p["o"]) // P for k in product(table, a, b, part.g)]
        found.append(sums(table, rows, columns, part.w, u))
    totals = {n: sum(x[n] for x in found) for n in found[0]}
    befores = [{n: sum(x[n] for x in found[:i]) for n in totals} for i in range(len(parts))]
    return [Given(x.w, x.r, x.c, x.g, before, totals) for x, before in zip(parts, befores, strict=True)]


def made(table: Table, p: Mapping[str, int], given: Given, forced: Forced | None = None) -> Made:
    """Everything that follows, in the order in which it does.

    Args:
        p: the public integers, with the shard's place.
        forced: by name and place, what a liar has in place of a value; what depends on it follows. Beside the names of
            committed values there are ``r'``, ``c'``, whole roots ``a``, ``b`` and ``X``, ``T``, and ``sums``.
    """
    P, n, m = table.P, p["n"], Made(table, forced or {})
    totals = {name: near(x) for name, x in given.totals.items()}
    M, sw, su = (totals[name] for name in ("M", "sw", "su"))

    # 1. moments, and directions
    m.within(near(x) for x in given.g)
    began = moments(table, p, given)
    rows, columns = m.put("r'", began[0]), m.put("c'", began[1])
    stars = [totals[f"c{j}"] for j in range(table.C)]
    for name, values in (("r", rows), ("c", columns), ("c*", stars)):
        m.split(name, values)
    a = m.rooted("a", [row_share(table, p, r, M) for r in rows])
    b = m.rooted("b", [column_share(table, p, c) for c in stars])
    k = m.put("k", product(table, a, b, given.g))
    u = m.put("u", [near(x + p["o"]) // P for x in k])
    m.within(u)

    # 2. the layer: two larger ones and a smaller one, each by a bit
    for name in ("M", "sw", "su"):
        m.split(name, [totals[name]])

    def decided(name: str, over: str, x: int) -> int:
        (bit,) = m.put(name, [int(x < 0)])
        m.split(over, [(1 - 2 * bit) * x - bit])
        return bit

    def either(bit: int, yes: int, no: int) -> int:  # polynomials: a liar's bit may be another number
        return no + (yes - no) * bit

    mean, spread = 4 * M + n, (4 * M + n) * n * 4**table.s
    S = either(decided("least w", "over w", sw - n * p["e2"]), n * p["e2"], sw)
    G = either(decided("least M", "over M", mean - n * p["e1"]), n * p["e1"], mean)
    clipped = decided("clipped", "over d", spread * p["D"] - 256 * G * su)
    share = near(p["B"] ** 2 * S * either(clipped, p["D"], G)), near(either(clipped, 256 * su, spread))
    (X,) = m.rooted("X", [share])
    (T,) = m.put("T", [near(X + p["j"]) // P])
    del m.values["T"]
    m.split("T", [T], 0)

    # 3. weights
    moved = [near(T * x + p["r"]) // P for x in u]
    post = m.put("post.w", [near(w - x) for w, x in zip(given.w, moved, strict=True)])
    m.within(near(after - w) for after, w in zip(post, given.w, strict=True))

    # 4. the shard's place among its block's
    added = m.put("sums", sums(table, rows, columns, given.w, u).values())
    del m.values["sums"]
    after = m.put("after", [given.before[name] + x for name, x in zip(given.totals, added, strict=True)])
    m.fits &= not near(p["first"]) or all(near(x) == 0 for x in given.before.values())
    m.fits &= not near(p["last"]) or after == list(totals.values())
    return m
