"""All witnesses that a tiny table takes, over the whole field: an exhaustive search, with no proof's lemma in it.

Each unknown has a bound, or a sum of two, that is linear in it once those before it are known. That bound's value is
one of ``P``, the sum's one of ``2P - 1``, so the unknown is one of so many field elements, whatever else it is:
integers, fractions, wrapped values. Trying all of them misses no accepted witness.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeAlias

from tests.proofs.forging import Element, Rule
from tests.proofs.told import Told
from zk_autograd.field import MODULUS

_ROOT = [("s", "s is an integer of the table")]
_LARGEST_ROOT = [("post.h", "h' >= h"), ("s", "h' >= s")]
_REST = [("post.v", "s*s <= v'"), ("post.w", "|dw| < P/2"), ("post.m", "dw*D <= A*m'")]
_L2, _DECOUPLED = [("e", "|e| < P/2")], [("d", "|d| < P/2")]
_SGD = [("post.w", "|dw| < P/2")]
_MOMENTUM = [*_SGD, ("post.m", "dw is the rounded step")]

_WIDE_ROOT = [
    ("qh", "s*s <= v', high digit"),
    ("ph", "v' <= s*s + 2s, high digit"),
    ("s", ("s*s <= v'", "v' <= s*s + 2s")),  # 2s, less the high digits' part
    ("post.v", "s*s <= v'"),
]
_WIDE_REST = [
    ("post.w", "|dw| < P/2"),
    ("ch", "dw*D <= A*m', high digit"),
    ("post.m", "dw*D <= A*m'"),
    ("dh", "A*m' < (dw+1)*D, high digit"),
]

Solved: TypeAlias = tuple[str, str | tuple[str, str]]
"""An unknown, and the bound, or the two bounds, whose value or sum settles it."""

SOLVED_BY: Told[list[Solved]] = Told("SOLVED_BY of tests/proofs/enumerating.py", {
    "adam": [*_ROOT, *_REST],
    "adam-l2": [*_L2, *_ROOT, *_REST],
    "adamw": [*_DECOUPLED, *_ROOT, *_REST],
    "adam-wide": [*_WIDE_ROOT, *_WIDE_REST],
    "adamw-wide": [*_WIDE_ROOT, *_DECOUPLED, *_WIDE_REST],
    "amsgrad": [*_LARGEST_ROOT, *_REST],
    "amsgrad-l2": [*_L2, *_LARGEST_ROOT, *_REST],
    "amsgradw": [*_DECOUPLED, *_LARGEST_ROOT, *_REST],
    "lamb": [*_DECOUPLED, *_ROOT, ("post.v", "s*s <= v'"), ("u", "|dw| < P/2"), ("post.m", "dw*D <= A*m'"),
             ("post.w", "|w - w'| < P/2")],
    "sgd": _SGD, "sgd-l2": _SGD,
    "momentum": _MOMENTUM, "momentum-l2": _MOMENTUM, "nesterov": _MOMENTUM, "nesterov-l2": _MOMENTUM,
})  # fmt: skip
"""Per statement: its unknowns in an order in which each is linear in a bound of those before it."""


def accepted(rule: Rule, known: Element, without: str | None = None) -> list[Element]:
    """Every witness that meets the bounds, given the state before and the gradient, as elements of [0, p).

    Args:
        without: a bound that is left out.
    """
    order = SOLVED_BY[rule.st.name]
    assert {t for t, _ in order} == set(rule.targets)
    blank = known | dict.fromkeys(rule.targets, 0)
    checks = _by_last_unknown(rule, blank, [t for t, _ in order])
    if without is not None:
        assert without not in {b for _, b in order}, "the search itself needs this bound"
        checks = [[b for b in names if b != without] for names in checks]

    def extend(e: Element, depth: int) -> Iterator[Element]:
        if depth == len(order):
            yield e
            return
        target, bound = order[depth]
        parts = (bound,) if isinstance(bound, str) else bound
        at_0, at_1 = (sum(rule.bounds(e | {target: x})[part] for part in parts) for x in (0, 1))
        inverse = pow(at_1 - at_0, -1, MODULUS)
        for value in range(len(parts) * (rule.P - 1) + 1):
            tried = e | {target: (value - at_0) * inverse % MODULUS}
            values = rule.bounds(tried)
            if all(values[b] < rule.P for b in checks[depth + 1]):
                yield from extend(tried, depth + 1)

    if any(rule.bounds(blank)[b] >= rule.P for b in checks[0]):
        return []
    return list(extend(blank, 0))


def _by_last_unknown(rule: Rule, blank: Element, targets: list[str]) -> list[list[str]]:
    """The bounds that can be looked at once so many unknowns are known: all appear, each once."""
    rng = random.Random(1)
    base = blank | {t: rng.randrange(MODULUS) for t in targets}
    last = dict.fromkeys(rule.bounds(base), 0)
    for depth, target in enumerate(targets, start=1):
        moved = rule.bounds(base | {target: rng.randrange(MODULUS)})
        last |= {b: depth for b, value in rule.bounds(base).items() if moved[b] != value}
    return [[b for b, at in last.items() if at == depth] for depth in range(len(targets) + 1)]
