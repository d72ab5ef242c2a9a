"""Values that are honest in some other arithmetic: modulo a power of two, or by the sign that a program gives them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.proofs.corpus.base import Attack, Lie, Step, attack, moved, solved
from tests.proofs.forging import Element
from zk_autograd.field import MODULUS

LIES: list[Attack[Lie]] = []


def _everywhere(rule: Step, e: Element, *by: int) -> Iterator[Element]:
    for target, wrap, sign in product(["g", *rule.targets], by, (1, -1)):
        yield e | {target: e[target] + sign * wrap}


@attack(LIES)
def machine_words(rule: Step, e: Element) -> Iterator[Element]:
    """2^31, 2^32, 2^63, 2^64 more or less: the same number to code that keeps 32 or 64 bits."""
    yield from _everywhere(rule, e, 1 << 31, 1 << 32, 1 << 63, 1 << 64)


@attack(LIES)
def past_exact_floats(rule: Step, e: Element) -> Iterator[Element]:
    """2^24 and 2^53 more or less: where 32- and 64-bit floats begin to skip integers."""
    yield from _everywhere(rule, e, 1 << 24, 1 << 53)


@attack(LIES)
def the_provers_own_integers(rule: Step, e: Element) -> Iterator[Element]:
    """2^127, 2^128, 2^128 - 1 more or less: EZKL computes a look-up's result on 128-bit integers made from the field
    element's low bits; the look-up itself must see the whole element."""
    yield from _everywhere(rule, e, 1 << 127, 1 << 128, (1 << 128) - 1)


@attack(LIES)
def looked_up_past_128_bits(rule: Step, e: Element) -> Iterator[Element]:
    """Each quotient solved so that the value that is looked up is the honest one plus 2^128, 2^64, or a multiple."""
    honest = rule.bounds(e)
    for (target, bound), by in product(solved(rule), (1 << 128, -(1 << 128), 1 << 192, 1 << 64)):
        lie = rule.solve(e, target, bound, honest[bound] + by)
        yield from (lie, rule.follow(lie, *rule.later(target)))


@attack(LIES)
def next_to_the_prime(rule: Step, e: Element) -> Iterator[Element]:
    """p - 1, (p - 1)/2, (p + 1)/2 for every value: where a program that signs field elements changes the sign."""
    for target, value in product(["g", *rule.targets], (MODULUS - 1, MODULUS // 2, MODULUS // 2 + 1)):
        if (target, value) != ("g", MODULUS - 1):  # -1 is another gradient, no lie
            yield e | {target: value}


@attack(LIES)
def the_other_side_of_the_prime(rule: Step, e: Element) -> Iterator[Element]:
    """p - x for every x that is not 0, the rest following."""
    for target in rule.targets:
        if e[target]:
            yield from moved(rule, e, target, MODULUS - 2 * e[target])


@attack(LIES)
def inverses(rule: Step, e: Element) -> Iterator[Element]:
    """1/x for every x of the new state and the hints."""
    for target in rule.targets:
        if e[target] % MODULUS not in (0, 1, MODULUS - 1):
            yield e | {target: pow(e[target], -1, MODULUS)}
