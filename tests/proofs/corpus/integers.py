"""Lies in integers: another quotient, another root, values exchanged or left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

from tests.proofs.corpus.base import Attack, Lie, Step, attack, moved, solved
from tests.proofs.forging import ROOT_BOUND, Element

LIES: list[Attack[Lie]] = []


@attack(LIES)
def a_little_more_or_less(rule: Step, e: Element) -> Iterator[Element]:
    """Every value by 1 and 2, alone and with the rest following: floor taken for ceiling, for rounding, for a cut."""
    for target, by in product(rule.targets, (1, -1, 2, -2)):
        yield from moved(rule, e, target, by)


@attack(LIES)
def a_table_more_or_less(rule: Step, e: Element) -> Iterator[Element]:
    """Every value by P: a remainder that is off by P against a quotient that is off by one."""
    for target, by in product(rule.targets, (rule.P, -rule.P)):
        yield from moved(rule, e, target, by)


@attack(LIES)
def two_values_a_little(rule: Step, e: Element) -> Iterator[Element]:
    """Every pair of values by 1, in all four directions: one error meant to hide the other."""
    for (a, b), i, j in product(combinations(rule.targets, 2), (1, -1), (1, -1)):
        yield e | {a: e[a] + i, b: e[b] + j}


@attack(LIES)
def one_beyond_the_table(rule: Step, e: Element) -> Iterator[Element]:
    """Every quotient so that its remainder is -1 or P exactly: the nearest values that no table entry stands for."""
    for (target, bound), value in product(solved(rule), (-1, rule.P)):
        lie = rule.solve(e, target, bound, value)
        yield from (lie, rule.follow(lie, *rule.later(target)))


@attack(LIES)
def root_and_second_moment_together(rule: Step, e: Element) -> Iterator[Element]:
    """s one more or less and v' moved so that ``v' - s*s`` stays: only the mean of v can tell."""
    if "s" in e:
        for by in (1, -1, rule.P):
            lie = rule.solve(e | {"s": e["s"] + by}, "post.v", ROOT_BOUND, rule.bounds(e)[ROOT_BOUND])
            yield from (lie, rule.follow(lie, "post.h", "post.w") if "post.h" in e else rule.follow(lie, "post.w"))


@attack(LIES)
def second_moment_past_its_root(rule: Step, e: Element) -> Iterator[Element]:
    """v' at the squares next to it and one before them, with the root that it then has: only the mean of v can tell."""
    if "s" in e:
        s = e["s"]
        for v in (s * s - 1, (s + 1) ** 2, (s + 1) ** 2 - 1, s * s):
            if v >= 0 and v != e["post.v"]:
                yield rule.follow(e | {"post.v": v}, *rule.later("post.v"))


@attack(LIES)
def negative_root(rule: Step, e: Element) -> Iterator[Element]:
    """-s has the same square as s; -s - 1 is the other end of the same interval. The step follows it."""
    if "s" in e:
        for s in (-e["s"], -e["s"] - 1):
            lie = e | {"s": s}
            yield lie
            yield rule.follow(lie, "post.w")
            if "post.h" in e:
                yield rule.follow(lie | {"post.h": s}, "post.w")


@attack(LIES)
def step_and_its_remainder_together(rule: Step, e: Element) -> Iterator[Element]:
    """w' (of LAMB, u) one more or less, and m' solved so that the remainder (c, or the step's) is the honest one."""
    target = "u" if "u" in e else "post.w"
    bound = rule.linear[target]
    if "post.m" not in e or rule.bounds(e | {"post.m": 0})[bound] == rule.bounds(e | {"post.m": 1})[bound]:
        return
    for by in (1, -1):
        yield rule.solve(e | {target: e[target] + by}, "post.m", bound, rule.bounds(e)[bound])


@attack(LIES)
def no_step_at_all(rule: Step, e: Element) -> Iterator[Element]:
    """Each value of the state, and then all of them, left as before the step."""
    state = {f"post.{n}": e[f"pre.{n}"] for n in rule.state}
    for key, value in state.items():
        yield from moved(rule, e, key, value - e[key])
    yield e | state


@attack(LIES)
def nothing_at_all(rule: Step, e: Element) -> Iterator[Element]:
    """Zeros: each value, all hints, everything; what a lazy prover or an unused row would hold."""
    for keys in [*([t] for t in rule.targets), list(rule.hints), rule.targets]:
        yield e | dict.fromkeys(keys, 0)


@attack(LIES)
def negated(rule: Step, e: Element) -> Iterator[Element]:
    """-x and -x - 1 (the complement) for every value: signs, and what floors negative numbers the other way."""
    for target in rule.targets:
        for value in (-e[target], -e[target] - 1):
            yield from moved(rule, e, target, value - e[target])


@attack(LIES)
def values_exchanged(rule: Step, e: Element) -> Iterator[Element]:
    """Any two of new state and hints exchanged: m' and v', s and h', w' and d."""
    for a, b in combinations(rule.targets, 2):
        yield e | {a: e[b], b: e[a]}


@attack(LIES)
def largest_root_of_neither(rule: Step, e: Element) -> Iterator[Element]:
    """AMSGrad: h' is the smaller of the two, one between or above, or their sum; the step follows."""
    if "post.h" in e:
        before, s = e["pre.h"] * rule.pub.k, e["s"]
        for h in (min(before, s), max(before, s) + 1, (before + s) // 2, before + s, 0):
            if h != e["post.h"]:
                yield rule.follow(e | {"post.h": h}, "post.w")
