"""Random steps at the ends of every range, and random lies about them, for ``tests/fuzz_circuits.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tests.proofs.forging import LINEAR, Element, Rule, fraction, fractions, later
from tests.proofs.model import WIDE
from tests.proofs.told import Told
from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.fixed_point import nearest_coprime
from zk_autograd.proofs.base import OPS, Ints
from zk_autograd.statement import Public, Statement

Random: TypeAlias = np.random.Generator

POOL = 1 << 13
"""Steps drawn for a round, from which those at the ends of a bound are taken first."""


def pick(rng: Random, choices: list[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def draw_public(rng: Random, st: Statement, P: int) -> tuple[str, Public]:
    """Public integers, and how they were drawn: of a run's schedule, or each at the ends of its range."""
    if rng.random() < 0.5:
        scheduled = _of_a_run(rng, st, P)
        if scheduled is not None:
            return scheduled
    return "each by itself", _extreme(rng, st, P)


def _of_a_run(rng: Random, st: Statement, P: int) -> tuple[str, Public] | None:
    choices = {
        "beta1": [0.0, 0.5, 0.9, 0.95], "beta2": [0.95, 0.99, 0.999, 0.9995], "eps": [1e-12, 1e-8, 1e-3, 1.0],
        "momentum": [0.0, 0.5, 0.9, 0.999], "dampening": [0.0, 0.1, 0.9], "weight_decay": [0.0, 1e-5, 1e-2, 1.0],
        "max_ratio": [1.0, 2.0, 10.0, 1000.0],
    }  # fmt: skip
    own = {name: [hyper[name] for hyper in (st.defaults, *st.samples)] for name in st.defaults}
    hyper = {name: pick(rng, choices.get(name, own[name])) for name in st.defaults}
    max_lr = float(10.0 ** rng.uniform(-7, 0))
    try:
        fmt = st.choose_format(hyper, max_lr, pick(rng, [0.01, 1.0, 3.0, 100.0]), P)
    except FormatError:
        return None
    step = pick(rng, [1, 1, 2, 3, 10, 1000, 10**6, 1 << 40])
    rate = pick(rng, [1.0, 1.0, 0.5, 0.01, 1e-9, 0.0])
    pub = st.public_integers(hyper, max_lr * rate, step, fmt, P)
    return "first step of a run" if step == 1 else "a step of a run", pub


def _extreme(rng: Random, st: Statement, P: int) -> Public:
    small = [0, 1, P // 2, P - 1, int(rng.integers(P))]
    rate = pick(rng, [1, 2, P - 1, P, P + 1, int(2 ** rng.uniform(0, 20)), int(2 ** rng.uniform(0, 36))])
    plain = ("B" in st.public and not st.carries) or "m" not in st.state
    values = Told("_extreme of tests/proofs/drawing.py", {
        "b1": pick(rng, small), "c1": pick(rng, [1, P, P - 1, P // 2, int(rng.integers(1, P))]),
        "b2": pick(rng, small), "c2": pick(rng, [1, 4, P, 4 * P, int(rng.integers(1, 4 * P))]),
        "u": pick(rng, small), "c": pick(rng, [1, P, P // 2, int(rng.integers(1, P))]),
        "A": pick(rng, [0, rate, rate]) if plain else nearest_coprime(rate, P),
        "B": nearest_coprime(pick(rng, [1, P, rate]), P),
        "E": pick(rng, [1, 2, P // 2, P - 1, P, P + 1, int(2 ** rng.uniform(0, 12)), (1 << 36) - 1]),
        "r": pick(rng, small), "k": pick(rng, [0, 1, 1]),
        "W": pick(rng, [0, 1, 3, P, int(2 ** rng.uniform(0, 12))]),
        "V": pick(rng, [0, 1, 3, int(2 ** rng.uniform(0, 12))]),
    })  # fmt: skip
    if st.name in WIDE:  # what makes a gradient an integer there: c1 and A without a factor of c2
        values["c2"] = nearest_coprime(values["c2"], values["c1"])
        values["A"] = nearest_coprime(rate, P * values["c2"])
    if st.carries:  # a direction of at most 46 bits, so that its share stays in the reference's 64
        cap = pick(rng, [0, 1, P - 1, P, P * P - P, P * P - P, int(rng.integers(P * P - P))])
        values |= {
            "A": nearest_coprime(min(rate, 1 << 28), P), "R": cap, "U": pick(rng, [0, cap, int(rng.integers(cap + 1))]),
            "B": pick(rng, [0, 1, P, rate, (1 << 36) - 1]), "j": pick(rng, small),
        }  # fmt: skip
    return Public({name: int(values[name]) for name in st.public})


def draw_elements(rng: Random, rule: Rule, count: int) -> tuple[list[Element], Counter[tuple[str, str, str]]]:
    """Steps as the integer reference computes them, and which bounds were met exactly at which end.

    Half of them have a bound at an end of its range or next to it; some leave the table.
    """
    st, P, pub = rule.st, rule.P, rule.pub
    g = _gradients(rng, P)
    pre = _states(rng, rule, g)
    post, hints = st.begin(pre, g, pub, P, OPS)
    post = st.finish(pre, post, hints | rule.scalars, pub, P)
    bounds: dict[str, Ints] = st.bounds(pre, post, g, hints | rule.scalars, pub, P)
    ends: Counter[tuple[str, str, str]] = Counter()
    at_ends: list[Ints] = []
    for name, value in bounds.items():
        for end, exact in (("-1", -1), ("0", 0), ("P-1", P - 1), ("P", P)):
            met = np.flatnonzero(value == exact)
            if len(met):
                ends[st.name, name, end] += len(met)
                at_ends.append(met[: max(2, count // (8 * len(bounds)))])
        for near in (1, 2, P - 2, P + 1):
            at_ends.append(np.flatnonzero(value == near)[:2])
    chosen = np.unique(np.concatenate(at_ends))
    chosen = rng.permutation(chosen)[: count // 2]
    rest = rng.permutation(np.setdiff1d(np.arange(POOL), chosen))[: count - len(chosen)]
    order = np.concatenate([chosen, rest])
    arrays = {f"pre.{n}": pre[n] for n in st.state} | {"g": g}
    arrays |= {f"post.{n}": post[n] for n in st.state} | {n: hints[n] for n in st.hints}
    lists = {key: np.broadcast_to(a, (POOL,))[order].tolist() for key, a in arrays.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)], ends


def _of(rng: Random, *draws: Ints) -> Ints:
    """Element by element one of the draws."""
    return np.choose(rng.integers(len(draws), size=POOL), draws)


def _one_of(rng: Random, values: list[int]) -> Ints:
    return rng.choice(np.array(values, dtype=np.int64), POOL)


def _log(rng: Random, largest: int) -> Ints:
    """Evenly spread in size, both signs."""
    size = np.exp2(rng.uniform(0, np.log2(max(2, largest)), POOL)).astype(np.int64)
    signed: Ints = size * rng.choice([-1, 1], POOL)
    return signed


def _gradients(rng: Random, P: int) -> Ints:
    ends = [0, 0, 0, 1, -1, P // 2 - 1, P // 2 - 1, -(P // 2), -(P // 2), P // 2, -(P // 2) - 1]
    return _of(rng, _one_of(rng, ends), _log(rng, P // 2), _log(rng, 16), rng.integers(-P // 2, P // 2, POOL))


def _states(rng: Random, rule: Rule, g: Ints) -> dict[str, Ints]:
    st, P, pub = rule.st, rule.P, rule.pub
    largest = 1 << 46
    decay = max(pub.get("W", 0), pub.get("V", 0))
    if decay:  # up to the weights whose decay leaves the table, and some beyond
        largest = min(largest, P * P // 2 // decay + P)
    w = _of(rng, _one_of(rng, [0, 1, -1, largest, -largest]), _log(rng, largest), rng.integers(-largest, largest, POOL))
    pre = {"w": w}
    if "m" in st.state:
        ends = [0, 0, 1, -1, P, -P, P // 2, -(P // 2)]
        pre["m"] = _of(rng, _one_of(rng, ends), _log(rng, 2 * P), rng.integers(-P, P, POOL))
    if "v" in st.state:
        e = g + (w * pub.W + pub.r) // P if "e" in st.hints else g
        root = abs(_log(rng, P))
        near = root * root + _one_of(rng, [-1, 0, 0, 1, 2])
        square = np.maximum(
            0, _of(rng, near, root * root + 2 * root, root * 0, root * root + rng.integers(0, 2 * root + 1))
        )
        if pub.b2:  # such that v' rather than v is next to a square
            aimed = (square * P + _one_of(rng, [0, P - 1]) - pub.c2 * e * e - pub.r) // pub.b2
            square = np.where((rng.random(POOL) < 0.6) & (aimed >= 0) & (aimed < 1 << 40), aimed, square)
        pre["v"] = square
    if "h" in st.state:
        v = (pre["v"] * pub.b2 + e * e * pub.c2 + pub.r) // P
        s = OPS.isqrt(np.maximum(v, 0))
        near_s = np.maximum(0, s + _one_of(rng, [-1, 0, 1]))
        pre["h"] = _of(rng, near_s, rng.integers(0, P, POOL), _one_of(rng, [0, P - 1, P // 2]))
    return pre


Lie: TypeAlias = Callable[[Random, Rule, Element, list[Element]], Element]


def _added(*by: int) -> Lie:
    def lie(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
        target = pick(rng, rule.targets)
        return e | {target: e[target] + pick(rng, list(by)) * pick(rng, [1, -1])}

    return lie


def _table(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    target = pick(rng, rule.targets)
    return e | {target: e[target] + pick(rng, [rule.P, -rule.P])}


def _fraction(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    target = pick(rng, ["g", *rule.targets])
    return e | {target: e[target] + pick(rng, fractions(rule, e))}


def _negated(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    target = pick(rng, rule.targets)
    return e | {target: -e[target] - pick(rng, [0, 1])}


def _borrowed(rng: Random, rule: Rule, e: Element, others: list[Element]) -> Element:
    target = pick(rng, ["g", *rule.targets])
    return e | {target: pick(rng, others)[target]}


def _whole(rng: Random, rule: Rule, e: Element, others: list[Element]) -> Element:
    other = pick(rng, others)
    return e | {t: other[t] for t in rule.targets}


def _exchanged(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    a, b = pick(rng, rule.targets), pick(rng, ["g", *rule.targets])
    return e | {a: e[b], b: e[a]}


def _remainder(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    target = pick(rng, list(LINEAR[rule.st.name]))
    bound, P = LINEAR[rule.st.name][target], rule.P
    if rule.bounds(e | {target: 0})[bound] == rule.bounds(e | {target: 1})[bound]:
        return e
    lie = rule.solve(e, target, bound, pick(rng, [0, 1, P - 1, P, -1, int(rng.integers(P))]))
    return rule.follow(lie, *later(rule, target)) if rng.random() < 0.5 else lie


def _followed(rng: Random, rule: Rule, e: Element, others: list[Element]) -> Element:
    target = pick(rng, ["g", *rule.targets])
    by = pick(rng, [1, -1, rule.P, fraction(1, 2), fraction(1, rule.P), *fractions(rule, e)])
    return rule.follow(e | {target: e[target] + by}, *later(rule, target))


def _before(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    key = f"pre.{pick(rng, list(rule.st.state))}"
    return e | {key: e[key] + pick(rng, [1, -1, 2, rule.P, -rule.P, 1 << 64, 1 << 128])}


def _gradient(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    return e | {"g": e["g"] + pick(rng, [1, -1, 2, -2 * e["g"], rule.P, 1 << 128])}


def _any(rng: Random, rule: Rule, e: Element, _: list[Element]) -> Element:
    return e | {pick(rng, rule.targets): int.from_bytes(rng.bytes(40), "big") % MODULUS}


def _two(rng: Random, rule: Rule, e: Element, others: list[Element]) -> Element:
    first, second = pick(rng, list(_LIES.values())[:-1]), pick(rng, list(_LIES.values())[:-1])
    lie: Element = first(rng, rule, e, others)
    again: Element = second(rng, rule, lie, others)
    return again


_LIES: dict[str, Lie] = {
    "none": lambda rng, rule, e, others: e,
    "another representation": _added(MODULUS),
    "one or two more or less": _added(1, 2),
    "a table more or less": _table,
    "a power of two": _added(1 << 31, 1 << 32, 1 << 53, 1 << 63, 1 << 64, 1 << 127, 1 << 128, (1 << 128) - 1),
    "a fraction": _fraction,
    "negated": _negated,
    "of another parameter": _borrowed,
    "another parameter's step": _whole,
    "exchanged": _exchanged,
    "a chosen remainder": _remainder,
    "followed by the rest": _followed,
    "another state before": _before,
    "another gradient": _gradient,
    "any field element": _any,
    "two of these": _two,
}


def draw_lie(rng: Random, rule: Rule, e: Element, others: list[Element]) -> tuple[str, Element]:
    """A lie about ``e`` and its kind; now and then it is none, by chance or as a control."""
    kind = pick(rng, list(_LIES))
    return kind, _LIES[kind](rng, rule, e, others)
