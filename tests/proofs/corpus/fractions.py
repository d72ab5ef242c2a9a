"""Fractions modulo the field's prime: quotients of another remainder, halves, roots of small numbers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.proofs.corpus.base import Attack, Lie, Step, attack, moved, solved, with_rest
from tests.proofs.forging import ROOT_BOUND, Element, field_root, fraction, signed

LIES: list[Attack[Lie]] = []


def _parts(*quotients: tuple[int, int]) -> list[int]:
    """Those of the quotients that are no integers: a gradient that is an integer more is another gradient, no lie."""
    return [fraction(a, b) for a, b in quotients if a % b]


def _everywhere(rule: Step, e: Element, *quotients: tuple[int, int]) -> Iterator[Element]:
    for target, part in product(["g", *rule.targets], _parts(*quotients)):
        yield from moved(rule, e, target, part)


@attack(LIES)
def halves(rule: Step, e: Element) -> Iterator[Element]:
    """1/2, 1/4, 1/8 more: P is divisible by 8, so that P times them is an integer."""
    yield from _everywhere(rule, e, (1, 2), (1, 4), (1, 8))


@attack(LIES)
def thirds(rule: Step, e: Element) -> Iterator[Element]:
    """1/3 and 2/3 more: a denominator that nothing else in the rule has."""
    yield from _everywhere(rule, e, (1, 3), (2, 3))


@attack(LIES)
def parts_of_the_table(rule: Step, e: Element) -> Iterator[Element]:
    """1/P and (P - 1)/P more: a remainder by P that is off by one, with the fraction to match."""
    yield from _everywhere(rule, e, (1, rule.P), (-1, rule.P), (rule.P - 1, rule.P))


@attack(LIES)
def parts_of_the_rate(rule: Step, e: Element) -> Iterator[Element]:
    """1/A and 1/B more: what is then multiplied by the rate is an integer again."""
    for rate in ("A", "B"):
        if rule.pub.get(rate, 0) > 1:
            yield from _everywhere(rule, e, (1, rule.pub[rate]), (rule.P, rule.pub[rate]))


@attack(LIES)
def parts_of_the_divisor(rule: Step, e: Element) -> Iterator[Element]:
    """1/(2h' + E) more: what is then multiplied by the divisor is an integer again."""
    if "E" in rule.pub:
        D = 2 * e.get("post.h", e["s"]) + rule.pub.E
        yield from _everywhere(rule, e, (1, D), (1, 2 * D), (rule.P, D))


@attack(LIES)
def quotient_of_another_remainder(rule: Step, e: Element) -> Iterator[Element]:
    """(n - rho)/P for a remainder of the prover's choice: in the table, and the quotient a fraction. Alone, followed by
    the rest, and cancelled by a fraction in every later quotient, so that those remainders are the honest ones."""
    linear, honest = rule.linear, rule.bounds(e)
    for target, bound in solved(rule):
        for rho in {0, 1, honest[bound] - 1, honest[bound] + 1, rule.P - 1} - {honest[bound]}:
            lie = rule.solve(e, target, bound, rho)
            yield from with_rest(rule, lie, target)
            for after in (t for t in rule.later(target) if t in linear):
                if rule.bounds(lie)[linear[after]] != honest[linear[after]]:
                    lie = rule.solve(lie, after, linear[after], honest[linear[after]])
            yield lie


@attack(LIES)
def root_with_a_fraction(rule: Step, e: Element) -> Iterator[Element]:
    """s a half, a quarter or 1/P more, and v' with it so that ``v' - s*s`` stays; the step follows. Without a bound on
    s the half is taken: P times its square is an integer."""
    if "s" in e:
        for part in (fraction(1, 2), fraction(1, 4), fraction(-1, 2), fraction(1, rule.P)):
            lie = rule.solve(e | {"s": e["s"] + part}, "post.v", ROOT_BOUND, rule.bounds(e)[ROOT_BOUND])
            yield from (lie, rule.follow(lie, "post.w"))
            if "post.h" in e:
                yield rule.follow(lie | {"post.h": lie["s"]}, "post.w")


@attack(LIES)
def root_modulo_the_prime(rule: Step, e: Element) -> Iterator[Element]:
    """``s*s`` is v', or little less, for field elements s that are no integers at all."""
    if "s" in e:
        found = (field_root(e["post.v"] - q) for q in range(24))
        for s in [x for x in found if x is not None and abs(signed(x)) >= rule.P][:4]:
            yield from (e | {"s": s}, rule.follow(e | {"s": s}, "post.w"))
            if "post.h" in e:
                yield rule.follow(e | {"s": s, "post.h": s}, "post.w")


@attack(LIES)
def gradient_with_a_small_square(rule: Step, e: Element) -> Iterator[Element]:
    """g is no integer, but g*g is a small one, or 1/c2, or -1: v' cannot tell."""
    squares = [2, 3, 5, 7, 11, 13, -1, fraction(1, rule.pub.get("c2", 2))]
    for g in [x for x in map(field_root, squares) if x is not None and abs(signed(x)) >= rule.P][:4]:
        yield from with_rest(rule, e | {"g": g}, "g")
        if "e" in e:
            yield from with_rest(rule, e | {"e": g}, "e")


@attack(LIES)
def gradient_over_its_weight(rule: Step, e: Element) -> Iterator[Element]:
    """g is 1/c1 (1/c, 1/A) more: its product with the weight that it has in the mean is an integer."""
    weight = rule.pub.get("c1") or rule.pub.get("c") or rule.pub.A or 1
    for part in _parts((1, weight), (-1, weight), (rule.P, weight)):
        yield from moved(rule, e, "g", part)


@attack(LIES)
def gradient_and_moment_together(rule: Step, e: Element) -> Iterator[Element]:
    """g and m' by one fraction (Nesterov: P*g enters m' as it is), the rest following."""
    if "post.m" in e:
        for part in (fraction(1, 2), fraction(1, 3), fraction(1, rule.P)):
            lie = e | {"g": e["g"] + part, "post.m": e["post.m"] + part}
            yield from with_rest(rule, lie, "post.m")


@attack(LIES)
def gradient_of_another_remainder(rule: Step, e: Element) -> Iterator[Element]:
    """The gradient itself solved for, so that the first remainder is another and every quotient an integer.

    Where another integer gradient rounds to the same step, that is no lie.
    """
    bound = next(iter(rule.linear.values()))
    honest = rule.bounds(e)[bound]
    for rho in {0, honest - 1, honest + 1, rule.P - 1} - {honest}:
        if rule.bounds(e | {"g": 0})[bound] != rule.bounds(e | {"g": 1})[bound]:
            lie = rule.solve(e, "g", bound, rho)
            if not rule.is_honest(lie):
                yield lie


@attack(LIES)
def factors_of_a_small_product(rule: Step, e: Element) -> Iterator[Element]:
    """AMSGrad: ``P*(h' - h)*(h' - s)`` is looked up; with one factor a fraction it is any entry of the table."""
    if "post.h" in e:
        before, s = e["pre.h"] * rule.pub.k, e["s"]
        for grown, product_ in ((1, 1), (2, rule.P - 1), (rule.P - 1, 1), (fraction(1, rule.P), rule.P)):
            above = fraction(product_, rule.P * grown)
            lie = e | {"post.h": before + grown, "s": before + grown - above}
            yield from (lie, rule.follow(lie, "post.w"), e | {"post.h": s + above})


@attack(LIES)
def divisor_of_nothing(rule: Step, e: Element) -> Iterator[Element]:
    """s = -E/2, so that the divisor is 0 and the step is anything; and s such that it is 1."""
    if "E" in rule.pub:
        for D in (0, 1, -1):
            root = {"post.h" if "post.h" in e else "s": fraction(D - rule.pub.E, 2)}
            lie = e | root
            for by in (0, 1, rule.P // 4):
                yield lie | {"post.w": e["post.w"] + by}
            yield rule.solve(lie | dict.fromkeys(["s"], next(iter(root.values()))), "post.v", ROOT_BOUND, 0)
