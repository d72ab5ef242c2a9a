"""One shard among a block's, for ``tests/fuzz_circuits.py``: its sums, what the block settles on, and lies about both.

Only for statements with ``carries``. A rule's ``scalars`` are those of the block, and its public integers hold the
shard's place in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tests.proofs import model
from tests.proofs.drawing import Random, pick
from tests.proofs.forging import Element, Rule, fraction, signed
from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.statement import Public, Statement, carry_bounds

Sums = dict[str, int]
FREE = {"i", "k"}
"""Scalars that may be anything where the model does not name them."""


def sums_of(st: Statement, elements: list[Element]) -> Sums:
    """The sums of squares of these elements, whatever they hold; exact."""
    pre = {n: np.array([e[f"pre.{n}"] for e in elements], dtype=object) for n in st.state}
    hints = {n: np.array([e[n] for e in elements], dtype=object) for n in st.hints}
    return {n: int((x * x).sum()) for n, x in st.squared(pre, hints).items()}


@dataclass(frozen=True)
class Block:
    """What a shard carries: sums and, as ``total NAME``, totals, before it and with it; ``rule`` has the scalars."""

    rule: Rule
    before: Sums
    after: Sums

    @classmethod
    def of(cls, rule: Rule, totals: Sums, before: Sums, sums: Sums) -> Block:
        """Honest about these sums of the shard."""
        same = {f"total {n}": x for n, x in totals.items()}
        return cls(rule, before | same, {n: before[n] + sums[n] for n in sums} | same)

    @property
    def totals(self) -> Sums:
        return {n: self.before[f"total {n}"] for n in self.rule.st.carries}

    def failing(self, elements: list[Element]) -> list[bool]:
        """Whether each of the bounds that a shard has once fails, in order."""
        rule, sums = self.rule, sums_of(self.rule.st, elements)
        found = carry_bounds(rule.st.carries, self.before, sums, self.after, rule.pub.first, rule.pub.last)
        found |= rule.st.scalar_bounds(self.totals, rule.scalars, rule.pub, rule.P)
        return [x % MODULUS >= rule.P for x in found.values()]

    def true(self, elements: list[Element]) -> bool:
        """By the independent model: whether sums and scalars are those of an honest block."""
        rule, sums = self.rule, sums_of(self.rule.st, elements)
        if not model.lamb_place(self.before, sums, self.after, rule.pub.first, rule.pub.last):
            return False
        totals = {n: signed(x) for n, x in self.totals.items()}
        if any(not 0 <= x < 1 << 250 for x in totals.values()):
            return False
        expected = model.lamb_scalars(totals["sw"], totals["su"], rule.pub, rule.P)
        names = rule.scalars.keys() - (FREE - (expected or {}).keys())
        return expected is not None and all((rule.scalars[n] - expected[n]) % MODULUS == 0 for n in names)

    def tails(self) -> dict[str, list[int]]:
        """What stands in the two columns of running sums, before their salts."""
        names = [*self.rule.st.carries, *(f"total {n}" for n in self.rule.st.carries)]
        return {"carry_in": [self.before[n] for n in names], "carry_out": [self.after[n] for n in names]}


def settled(rule: Rule, totals: Sums) -> Rule:
    """The rule with what these totals settle on; FormatError where they do not fit. Reference and model agree on it."""
    expected = model.lamb_scalars(totals["sw"], totals["su"], rule.pub, rule.P)
    try:
        found = rule.st.settle(totals, rule.pub, rule.P)
    except FormatError:
        assert expected is None, f"the model says that a block fits, the reference does not: {totals}, {rule.pub}"
        raise
    assert expected is not None, f"the reference says that a block fits, the model does not: {totals}, {rule.pub}"
    same = all(found[n] == expected[n] for n in expected)
    assert same, f"the block differs from the model's: {totals}, {rule.pub}: {found} and {expected}"
    return replace(rule, scalars=found)


def draw_totals(rng: Random, pub: Mapping[str, int], least: Sums) -> Sums:
    """Sums over a block, at least these: of every size, none at all, or at the ends of the cap and of whole roots."""
    kind = int(rng.integers(8))
    size = {n: int(2 ** rng.uniform(0, 100)) + x for n, x in least.items()}
    if kind == 0:
        return dict(least)
    if kind == 1:
        return least | {pick(rng, list(least)): size[pick(rng, list(least))]}
    if kind == 2:  # beyond what the digits hold, perhaps
        return size | {pick(rng, list(least)): 1 << int(rng.integers(120, 220))}
    if kind in (3, 4) and pub["B"]:  # where the ratio meets the cap
        su = math.isqrt(size["su"]) ** 2 or 1
        sw = pub["R"] ** 2 * su // pub["B"] ** 2 + int(rng.integers(-1, 3))
        return {"sw": max(sw, least["sw"]), "su": max(su, least["su"])}
    if kind == 5:  # whole roots
        return {n: (math.isqrt(x) + 1) ** 2 for n, x in size.items()}
    return size


def draw_block_rule(rng: Random, rule: Rule) -> Rule:
    """The rule with a place in a block and with totals' scalars, before any element is known."""
    first, last = pick(rng, [(0, 0), (0, 0), (1, 0), (0, 1), (1, 1)])
    rule = replace(rule, pub=Public(rule.pub | {"first": first, "last": last}))
    while True:
        try:
            return settled(rule, draw_totals(rng, rule.pub, {"sw": 0, "su": 0}))
        except FormatError:
            continue


def retaken(rule: Rule, elements: list[Element]) -> list[Element]:
    """The same states and gradients, with the share of the direction that this rule's block takes, by the reference."""
    found = []
    for e in elements:
        pre = {n: e[f"pre.{n}"] for n in rule.st.state}
        post = {n: e[f"post.{n}"] for n in rule.st.state if n != "w"}
        w = rule.st.finish(pre, post, {n: e[n] for n in rule.st.hints} | rule.scalars, rule.pub, rule.P)["w"]
        found.append(e | {"post.w": int(w)})
    return found


def around(rng: Random, rule: Rule, elements: list[Element]) -> tuple[Block, list[Element]] | None:
    """An honest block round these elements, which may have to take another share; None if there is none."""
    sums = sums_of(rule.st, elements)
    none = dict.fromkeys(sums, 0)
    before = none if rule.pub.first else {n: int(2 ** rng.uniform(0, 90)) for n in sums}
    least = {n: before[n] + sums[n] for n in sums}
    try:
        totals = least if rule.pub.last else draw_totals(rng, rule.pub, least)
        rule = settled(rule, totals)
    except FormatError:
        return None
    return Block.of(rule, totals, before, sums), retaken(rule, elements)


def draw_block_lie(rng: Random, block: Block, elements: list[Element]) -> tuple[str, Block]:
    """A lie about the sums, the place or the scalars, and its kind; now and then it is none."""
    rule, P = block.rule, block.rule.P
    kind = pick(rng, [
        "none", "a sum", "a total", "a total on both sides", "place", "a scalar", "a scalar", "a digit carried",
        "another cap", "another ratio", "the sums of others", "free inverses",
    ])  # fmt: skip
    by = pick(rng, [1, -1, 2, P, -P, fraction(1, 2), fraction(1, P), MODULUS, 1 << 128])
    name, scalars = pick(rng, list(rule.st.carries)), rule.scalars
    if kind == "a sum":
        side = pick(rng, ["before", "after"])
        return kind, replace(block, **{side: getattr(block, side) | {name: getattr(block, side)[name] + by}})
    if kind.startswith("a total"):
        key = f"total {name}"
        sides = ("before", "after") if kind.endswith("sides") else (pick(rng, ["before", "after"]),)
        return kind, replace(block, **{s: getattr(block, s) | {key: getattr(block, s)[key] + by} for s in sides})
    if kind == "place":
        flag = pick(rng, ["first", "last"])
        rule = replace(rule, pub=Public(rule.pub | {flag: 1 - rule.pub[flag]}))
    elif kind == "a scalar":
        which = pick(rng, list(scalars))
        rule = replace(rule, scalars=scalars | {which: scalars[which] + by})
    elif kind == "a digit carried":
        letter, n = pick(rng, ["p", "q", "y"]), int(rng.integers(1, 2 if rng.random() < 0.3 else 8))
        high, low = (f"{letter}{n}", f"{letter}{n - 1}") if letter != "y" else ("y1", "y0")
        rule = replace(rule, scalars=scalars | {high: scalars[high] - 1, low: scalars[low] + P})
    elif kind == "another cap":
        other = Public(rule.pub | {"R": min(P * P - P, max(0, rule.pub.R + pick(rng, [1, -1, P, -P])))})
        rule = replace(rule, scalars=_settled_as(rule, other, block.totals))
    elif kind == "another ratio":
        other = Public(rule.pub | {"B": max(0, rule.pub.B + pick(rng, [1, -1])), "U": rule.pub.U ^ 1})
        rule = replace(rule, scalars=_settled_as(rule, other, block.totals))
    elif kind == "the sums of others":
        totals = draw_totals(rng, rule.pub, dict.fromkeys(rule.st.carries, 0))
        rule = replace(rule, scalars=_settled_as(rule, rule.pub, totals))
    elif kind == "free inverses":  # free where a sum is 0, or the rate is the cap
        which = pick(rng, ["i", "k"])
        rule = replace(rule, scalars=scalars | {which: int.from_bytes(rng.bytes(40), "big") % MODULUS})
    return kind, replace(block, rule=rule)


def _settled_as(rule: Rule, pub: Public, totals: Mapping[str, int]) -> dict[str, int]:
    try:
        return rule.st.settle(totals, pub, rule.P)
    except FormatError:
        return rule.scalars
