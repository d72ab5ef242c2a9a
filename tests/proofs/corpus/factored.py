"""What attacks are on a shard of Adafactor that know a parameter's root, rate or divisor by its name.

A shard has other roots (``a`` of a row, ``b`` of a column, ``X`` of the layer), other divisors and other weights. The
attacks' names and intents are those of the modules beside this one; the rest of these is run as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product

from tests.proofs.corpus.base import moved, with_rest
from tests.proofs.forging import Element, field_root, fraction, signed
from tests.proofs.shards import WHOLE, ShardRule
from zk_autograd.field import MODULUS

NO_MEANING: Mapping[str, str] = {
    "gradient_and_moment_together": "no first moment: gradients are averaged by their squares",
    "factors_of_a_small_product": "no product of two values that a prover chooses may be anything but 0",
}
"""Attacks that Adafactor has nothing for, and why."""

READ: dict[str, Callable[[ShardRule, Element], Iterator[Element]]] = {}
"""By name, the attacks that read otherwise here."""


def read(make: Callable[[ShardRule, Element], Iterator[Element]]) -> Callable[[ShardRule, Element], Iterator[Element]]:
    READ[make.__name__] = make
    return make


def whole(rule: ShardRule, e: Element, name: str) -> int:
    """A number that is committed to in digits."""
    return sum(e[f"{name}.{i}"] * rule.P**i for i in range(WHOLE[name]))


def in_digits(rule: ShardRule, name: str, x: int) -> Element:
    """An integer in digits, the highest whatever is left; of a fraction or a negative number the lowest is all."""
    count, P = WHOLE[name], rule.P
    if not 0 <= signed(x) < P ** (count + 1):
        return {f"{name}.{i}": x if i == 0 else 0 for i in range(count)}
    return {f"{name}.{i}": x // P**i if i == count - 1 else x // P**i % P for i in range(count)}


def share(rule: ShardRule, e: Element, name: str) -> tuple[int, int]:
    """Numerator and denominator of a root's square, of the element's own row and column."""
    totals = dict(zip(rule.st.carries, rule.scene.totals, strict=True))
    if name == "a":
        found = rule.st._row_share(e["post.r"], totals["M"], rule.pub, rule.P)
    elif name == "b":
        column = totals[f"c{rule.place % rule.st.length}"]
        found = rule.st._column_share(column, rule.pub, rule.P)
    else:
        found = rule.st._squared_rate(totals, {f: e[f] for f in ("least w", "least M", "clipped")}, rule.pub, rule.P)
    num, den = found
    return num, den


def _roots(rule: ShardRule) -> list[str]:
    """Those that are lied about here."""
    first, step = rule.share
    return ["a", "b", "X"] if step == 1 else ["a", "b", "X"][first % 3 :][:1]


def _rooted(rule: ShardRule, e: Element, name: str, x: int) -> Iterator[Element]:
    """Another root: alone, with the digits of its two differences, and with the rest of the step."""
    lie = e | in_digits(rule, name, x)
    num, den = share(rule, e, name)
    yield lie
    digits: Element = {}
    for letter, rest in ((f"{name}-", num - x * x * den), (f"{name}+", (x + 1) ** 2 * den - 1 - num)):
        names, left = [n for n in e if n.rpartition(".")[0] == letter], max(0, signed(rest))
        digits |= {n: left // rule.P**i if i == len(names) else left // rule.P**i % rule.P
                   for i, n in enumerate(names, 1)}  # fmt: skip
    yield lie | digits
    last = f"{name}.{WHOLE[name] - 1}"
    yield rule.follow(lie, *rule.later(last))


def _everywhere(rule: ShardRule, e: Element, *quotients: tuple[int, int]) -> Iterator[Element]:
    for target, (a, b) in product(["g", *rule.targets], quotients):
        if b and a % b:
            yield from moved(rule, e, target, fraction(a, b))


@read
def parts_of_the_rate(rule: ShardRule, e: Element) -> Iterator[Element]:
    """1/B, and 1/T of the rate that the layer's step has."""
    for rate in (rule.pub.B, whole(rule, e, "T")):
        if rate > 1:
            yield from _everywhere(rule, e, (1, rate), (rule.P, rate))


@read
def parts_of_the_divisor(rule: ShardRule, e: Element) -> Iterator[Element]:
    """The divisors are those of the squares of the three roots."""
    for name in _roots(rule):
        _, den = share(rule, e, name)
        yield from _everywhere(rule, e, (1, den), (rule.P, den))


@read
def root_with_a_fraction(rule: ShardRule, e: Element) -> Iterator[Element]:
    """Of a row's root the moment goes with it, so that the lower difference is the honest one."""
    for name, part in product(_roots(rule), (fraction(1, 2), fraction(1, 4), fraction(-1, 2), fraction(1, rule.P))):
        yield from _rooted(rule, e, name, whole(rule, e, name) + part)
    yield from _with_its_moment(rule, e, fraction(1, 2), fraction(1, rule.P))


@read
def root_modulo_the_prime(rule: ShardRule, e: Element) -> Iterator[Element]:
    """Roots of ``num/den`` in the field, or of little less; and integers whose square is so modulo the prime only."""
    for name in _roots(rule):
        num, den = share(rule, e, name)
        found = (field_root((num - q) * pow(den, -1, MODULUS)) for q in range(24))
        for x in [x for x in found if x is not None and abs(signed(x)) >= rule.P ** WHOLE[name]][:2]:
            yield from _rooted(rule, e, name, x)
        for times in (1, 2):
            yield from _rooted(rule, e, name, math.isqrt((num + times * MODULUS) // den))


@read
def root_and_second_moment_together(rule: ShardRule, e: Element) -> Iterator[Element]:
    """A row's root one more or less, its moment moved so that the lower difference stays."""
    yield from _with_its_moment(rule, e, 1, -1, rule.P)


def _with_its_moment(rule: ShardRule, e: Element, *by: int) -> Iterator[Element]:
    bound = "a*a*den <= num, digit 0"
    for step in by:
        lie = e | in_digits(rule, "a", whole(rule, e, "a") + step)
        lie = rule.solve(lie, "post.r", bound, rule.bounds(e)[bound])
        yield from (lie, rule.follow(lie, *rule.later("a.1")))


@read
def second_moment_past_its_root(rule: ShardRule, e: Element) -> Iterator[Element]:
    """A row's moment next to where its root is another, on both sides; the root and the rest follow."""
    num, _ = share(rule, e, "a")
    a, n, C = whole(rule, e, "a"), rule.pub.n, rule.st.length
    for x in (a, a + 1):  # the largest moment of root x, and the one behind it
        largest = (num // (x * x * 16 * n) - C) // 4 if x else 0
        for r in (largest, largest + 1):
            if r >= 0 and r != e["post.r"]:
                yield from with_rest(rule, e | {"post.r": r}, "post.r")


@read
def negative_root(rule: ShardRule, e: Element) -> Iterator[Element]:
    for name in _roots(rule):
        x = whole(rule, e, name)
        yield from _rooted(rule, e, name, -x)
        yield from _rooted(rule, e, name, -x - 1)
        yield e | {f"{name}.{i}": -e[f"{name}.{i}"] for i in range(WHOLE[name])}


@read
def gradient_over_its_weight(rule: ShardRule, e: Element) -> Iterator[Element]:
    """1/(a*b) more, and 1/c2: its weights in the direction and in the moments."""
    for weight in (whole(rule, e, "a") * whole(rule, e, "b"), rule.pub.c2):
        for part in ((1, weight), (-1, weight), (rule.P, weight)):
            if weight and part[0] % weight:
                yield from moved(rule, e, "g", fraction(*part))


@read
def gradient_of_another_remainder(rule: ShardRule, e: Element) -> Iterator[Element]:
    """Solved for in the direction's product, which is linear in it."""
    bound = "k is the rounded product"
    honest = rule.bounds(e)[bound]
    for rho in {0, honest - 1, honest + 1, rule.P - 1} - {honest}:
        yield from with_rest(rule, rule.solve(e, "g", bound, rho), "g")


@read
def divisor_of_nothing(rule: ShardRule, e: Element) -> Iterator[Element]:
    """A moment, or a bit, with which a root is one of something over 0, so that it is anything; and over 1."""
    n, C = rule.pub.n, rule.st.length
    totals = dict(zip(rule.st.carries, rule.scene.totals, strict=True))
    spread = rule.st._squared_rate(totals, {"least w": 0, "least M": 0, "clipped": 0}, rule.pub, rule.P)[1]
    for den in (0, 1, -1):
        row = fraction(den - 16 * n * C, 64 * n)
        bit = fraction(den - spread, 256 * totals["su"] - spread)
        for lie, key, name in ((e | {"post.r": row}, "post.r", "a"), (e | {"clipped": bit}, "clipped", "X")):
            yield from with_rest(rule, lie, key)
            for x in (0, rule.P // 4):
                yield lie | in_digits(rule, name, whole(rule, e, name) + x)


@read
def largest_root_of_neither(rule: ShardRule, e: Element) -> Iterator[Element]:
    """The other one of two, their mean, their sum, or what a bit that is none makes of them; the rate follows."""
    for name in ("least w", "least M", "clipped"):
        root = field_root(1 - 4 * next(x for x in range(1, 99) if field_root(1 - 4 * x) is not None)) or 0
        for bit in (1 - e[name], fraction(1, 2), 2, -1, (1 + root) * fraction(1, 2)):
            yield from with_rest(rule, e | {name: bit}, name)


@read
def step_and_its_remainder_together(rule: ShardRule, e: Element) -> Iterator[Element]:
    """w' one more or less, and the direction or the rate solved so that the remainder is the honest one."""
    bound = "w' is the rounded step"
    honest = rule.bounds(e)[bound]
    for by, with_it in product((1, -1), ("u", "T.0")):
        lie = e | {"post.w": e["post.w"] + by}
        if rule.bounds(lie | {with_it: 0})[bound] != rule.bounds(lie | {with_it: 1})[bound]:
            yield rule.solve(lie, with_it, bound, honest)


@read
def two_values_a_little(rule: ShardRule, e: Element) -> Iterator[Element]:
    """Pairs that stand in one bound: of two that do not, each is refused by its own."""
    honest = rule.bounds(e)
    seen = {t: {n for n, x in rule.bounds(e | {t: e[t] + 1}).items() if x != honest[n]} for t in rule.every_target}
    pairs = [(a, b) for a, b in combinations(rule.every_target, 2) if seen[a] & seen[b]]
    first, step = rule.share
    for (a, b), i, j in product(pairs[first :: step * step], (1, -1), (1, -1)):
        yield e | {a: e[a] + i, b: e[b] + j}
