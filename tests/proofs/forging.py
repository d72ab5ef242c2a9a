"""Witnesses that lie, made in the circuit's own arithmetic: integers modulo the field's prime.

An element is one parameter's part of a witness: ``{"pre.w": ..., "post.w": ..., "g": ..., "s": ...}``. Everything is
derived from a statement's own :meth:`bounds`, evaluated on Python integers; none of the rules is repeated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from tests.proofs.told import Told
from zk_autograd.field import MODULUS
from zk_autograd.fixed_point import nearest_coprime
from zk_autograd.proofs.base import OPS, Circuit, Columns, Ints
from zk_autograd.proofs.witness import fresh_noise, fresh_salt
from zk_autograd.statement import Ops, Public, Statement

Element: TypeAlias = dict[str, int]

ROOT_BOUND = "s*s <= v'"

_ADAM = {
    "post.m": "m' is the rounded mean",
    "post.v": "v' is the rounded mean",
    "post.w": "dw*D <= A*m'",
}
_L2 = {"e": "e is g and the rounded decay"} | _ADAM
_DECOUPLED = {
    "post.m": "m' is the rounded mean",
    "post.v": "v' is the rounded mean",
    "d": "d is the rounded decay",
    "post.w": "dw*D <= A*m'",
}
_LAMB = {
    "post.m": "m' is the rounded mean",
    "post.v": "v' is the rounded mean",
    "d": "d is the rounded decay",
    "u": "dw*D <= A*m'",
    "post.w": "w' is the rounded share",
}
_SGD = {"post.w": "dw is the rounded step"}
_MOMENTUM = {"post.m": "m' is the rounded mean", "post.w": "dw is the rounded step"}

_WIDE = {
    "qh": "s*s <= v'",
    "ph": "v' <= s*s + 2s",
    "ch": "dw*D <= A*m'",
    "dh": "A*m' < (dw+1)*D",
}
"""The hint that is a bound's high digit, and the bound that is left for the low one."""

LINEAR: Told[dict[str, str]] = Told("LINEAR of tests/proofs/forging.py", {
    "adam": _ADAM, "adam-l2": _L2, "adamw": _DECOUPLED,
    "adam-wide": _ADAM | _WIDE, "adamw-wide": _DECOUPLED | _WIDE,
    "amsgrad": _ADAM, "amsgrad-l2": _L2, "amsgradw": _DECOUPLED,
    "lamb": _LAMB, "sgd": _SGD, "sgd-l2": _SGD,
    "momentum": _MOMENTUM, "momentum-l2": _MOMENTUM, "nesterov": _MOMENTUM, "nesterov-l2": _MOMENTUM,
})  # fmt: skip
"""Per statement: each output and the bound that is linear in it and whose value is a remainder, in order of use."""

ORDER = ["g", "e", "post.m", "post.v", "s", "post.h", "d", "u", "post.w", *_WIDE]
"""What a step consists of, in the order in which it is computed."""

BEFORE, TOTALS = {"sw": 123, "su": 4567}, {"sw": 10**9 + 7, "su": 10**8 + 7}
"""What a shard in the middle of a block finds: sums over the shards before it, and over all of them."""


def signed(x: int) -> int:
    """The representative of a field element that is nearest to 0."""
    x %= MODULUS
    return x if x <= MODULUS // 2 else x - MODULUS


def fraction(numerator: int, denominator: int) -> int:
    """The field element ``numerator / denominator``."""
    return numerator * pow(denominator, -1, MODULUS) % MODULUS


def field_root(x: int) -> int | None:
    """A square root of a field element, if it has one (Tonelli-Shanks)."""
    x %= MODULUS
    if x == 0 or pow(x, (MODULUS - 1) // 2, MODULUS) != 1:
        return 0 if x == 0 else None
    odd, twos = MODULUS - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    c, t, root = pow(5, odd, MODULUS), pow(x, odd, MODULUS), pow(x, (odd + 1) // 2, MODULUS)  # 5 is no square
    while t != 1:
        i, power = 0, t
        while power != 1:
            power, i = power * power % MODULUS, i + 1
        b = pow(c, 1 << (twos - i - 1), MODULUS)
        c, t, root, twos = b * b % MODULUS, t * b * b % MODULUS, root * b % MODULUS, i
    return root


@dataclass(frozen=True)
class Rule:
    """One step of one statement: what its bounds say of an element."""

    st: Statement
    pub: Public
    P: int
    scalars: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> tuple[str, ...]:
        return self.st.state

    @property
    def hints(self) -> tuple[str, ...]:
        return self.st.hints

    @property
    def linear(self) -> dict[str, str]:
        return LINEAR[self.st.name]

    @property
    def targets(self) -> list[str]:
        """What a prover chooses: the state after the step, and the hints."""
        return [f"post.{n}" for n in self.st.state] + list(self.st.hints)

    def later(self, target: str) -> list[str]:
        """What an honest prover computes after ``target``, in order."""
        return later(self, target)

    def bounds(self, e: Element) -> dict[str, int]:
        """Every bound's value, in [0, p)."""
        pre, post = ({n: e[f"{side}.{n}"] for n in self.st.state} for side in ("pre", "post"))
        hints = {n: e[n] for n in self.st.hints} | self.scalars
        values = self.st.bounds(pre, post, e["g"], hints, self.pub, self.P)
        return {name: value % MODULUS for name, value in values.items()}

    def violated(self, e: Element) -> frozenset[str]:
        """Names of the bounds that do not hold."""
        return frozenset(name for name, value in self.bounds(e).items() if value >= self.P)

    def solve(self, e: Element, target: str, bound: str, value: int) -> Element:
        """``e`` with ``target`` such that a bound linear in it has this value exactly, in the field."""
        at_0, at_1 = (self.bounds(e | {target: x})[bound] for x in (0, 1))
        return e | {target: fraction(value - at_0, at_1 - at_0)}

    def follow(self, e: Element, *targets: str) -> Element:
        """``e`` with each target recomputed from the rest as an honest prover would, as far as that has a meaning."""
        for target in targets:
            if target == "s":
                e = e | {"s": math.isqrt(max(0, signed(e["post.v"])))}
                continue
            if target == "post.h":
                e = e | {"post.h": max(signed(e["pre.h"]) * self.pub.k, signed(e["s"]))}
                continue
            bound = LINEAR[self.st.name][target]
            if target not in _WIDE:  # the whole quantity, of which a high digit is taken later
                e = e | dict.fromkeys(_WIDE.keys() & e.keys(), 0)
            at_0, at_1 = (self.bounds(e | {target: x})[bound] for x in (0, 1))
            if at_0 == at_1:  # a lie has made the divisor 0
                continue
            remainder = signed(at_0) % max(1, abs(signed(at_1 - at_0)))
            e = self.solve(e, target, bound, remainder)
            e = e | {target: signed(e[target])}
        return e

    def is_honest(self, e: Element) -> bool:
        """Whether the reference comes to the same from the same state and gradient."""
        g, pre = signed(e["g"]), {n: e[f"pre.{n}"] for n in self.st.state}
        if abs(g) > self.st.gradient_limit(self.P):
            return False
        return all(signed(e[name]) == value for name, value in self.honest(pre, g).items())

    def honest(self, pre: dict[str, int], g: int) -> Element:
        """An honest element, by the reference."""
        post, hints = self.st.begin(pre, g, self.pub, self.P, Ops(math.isqrt, max))
        post = self.st.finish(pre, post, hints | self.scalars, self.pub, self.P)
        both = {f"pre.{n}": x for n, x in pre.items()} | {f"post.{n}": x for n, x in post.items()}
        return both | {"g": g} | hints


def later(rule: Rule, target: str) -> list[str]:
    """What an honest prover computes after ``target``, in order."""
    order = [t for t in ORDER if t in ("g", *rule.targets)]
    if target not in order:
        raise AssertionError(f"{target} is missing in ORDER of tests/proofs/forging.py: see docs/optimizers.md")
    return order[order.index(target) + 1 :]


def fractions(rule: Rule, e: Element) -> list[int]:
    """Small parts of one by everything that the rule multiplies with, and more."""
    D = 2 * e.get("post.h", e.get("s", 0)) + rule.pub.get("E", 1)
    rates = [rule.pub[n] for n in ("A", "B") if rule.pub.get(n, 0) > 0]
    parts = [(1, 2), (1, 4), (1, 8), (1, 3), (1, rule.P), (rule.P - 1, rule.P), (1, D), (1, 2 * D)]
    parts += [(a, rate) for rate in rates for a in (1, 2)]
    return [fraction(a, b) for a, b in parts if b and a % b]


class Samples:
    """Random states and gradients over all of the table, and what an honest step makes of them."""

    def __init__(self, rule: Rule, count: int, seed: int) -> None:
        self.rule, st, P = rule, rule.st, rule.P
        rng = np.random.default_rng(seed)
        # Even in size as well as in value: small roots meet large moments, as at the edge of the quotient's range.
        limit = st.gradient_limit(P)
        even, small = (
            rng.integers(0, 2 * limit, count), np.exp(rng.uniform(0, math.log(2 * limit), count)).astype(np.int64)
        )  # fmt: skip
        root = np.where(rng.random(count) < 0.5, even, small) * (rng.random(count) > 0.02)
        # What decays, decays by little more than half of the table.
        decay = max(rule.pub.get("W", 0), rule.pub.get("V", 0))
        largest = (P * P // 2 + P) // decay if decay else 1 << 30
        place = "Samples of tests/proofs/forging.py"
        self.pre: Told[Ints] = Told(place, {"w": rng.integers(-largest, largest, count)})
        if "m" in st.state:
            self.pre["m"] = rng.integers(-limit, limit, count)
            if limit > P // 2:  # two digits: moments of every size meet roots of every size
                self.pre["m"] >>= rng.integers(0, limit.bit_length(), count)
        if "v" in st.state:
            self.pre["v"] = root * root + rng.integers(0, 2 * root + 1)
        if "h" in st.state:
            self.pre["h"] = np.where(rng.random(count) < 0.5, rng.integers(0, P // 2, count), root // 16)
        if decay:
            self.pre["w"][rng.random(count) < 0.1] = 0
        self.g: Ints = rng.integers(-limit, limit, count)
        for value, share in ((0, 0.3), (limit - 1, 0.1), (limit, 0.01), (-limit, 0.1), (-limit - 1, 0.01)):
            self.g[rng.random(count) < share] = value
        post, hints = st.begin(self.pre, self.g, rule.pub, P, OPS)
        post = st.finish(self.pre, post, hints | rule.scalars, rule.pub, P)
        bounds: dict[str, Ints] = st.bounds(self.pre, post, self.g, hints | rule.scalars, rule.pub, P)
        self.holds = {name: (b >= 0) & (b < P) for name, b in bounds.items()}
        self.valid = np.all(list(self.holds.values()), axis=0)
        self.values = bounds | {f"{n}'": x for n, x in post.items()} | {"g": self.g} | dict(hints)

    def element(self, index: int) -> Element:
        return self.rule.honest({n: int(x[index]) for n, x in self.pre.items()}, int(self.g[index]))

    def extremes(self) -> dict[str, Element]:
        """Elements at the ends of every bound and of every value: ``"low s"``, ``"high dw*D <= A*m'"``, ..."""
        found: dict[str, int] = {}
        for name, value in self.values.items():
            found[f"low {name}"] = int(np.where(self.valid, value, np.iinfo(np.int64).max).argmin())
            found[f"high {name}"] = int(np.where(self.valid, value, np.iinfo(np.int64).min).argmax())
        return {name: self.element(index) for name, index in found.items()}

    def just_outside(self, bound: str) -> list[Element]:
        """Elements of an honest step that leaves the table by this bound only, as little as found, at either end."""
        value = self.values[bound]
        only = ~self.holds[bound] & np.all([held for name, held in self.holds.items() if name != bound], axis=0)
        above, below = np.flatnonzero(only & (value > 0)), np.flatnonzero(only & (value < 0))
        at = [a[np.abs(value[a]).argmin()] for a in (above, below) if len(a)]
        return [self.element(int(i)) for i in at]

    def ordinary(self, count: int) -> dict[str, Element]:
        """The first elements that come, by name: ``"ordinary 0"``, ..."""
        return {f"ordinary {i}": self.element(int(at)) for i, at in enumerate(np.flatnonzero(self.valid)[:count])}


@dataclass(frozen=True)
class Case:
    """A circuit for the mock prover and as many honest elements as it takes, the extremes first."""

    rule: Rule
    circuit: Circuit
    honest: dict[str, Element]
    samples: Samples
    noise: list[int] = field(init=False)
    salt: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.honest) != self.circuit.shard:
            raise ValueError(f"expected {self.circuit.shard} elements, got {len(self.honest)}")
        object.__setattr__(self, "noise", fresh_noise(self.circuit.noise, self.rule.P).tolist())
        object.__setattr__(self, "salt", fresh_salt())

    def columns(self, forged: dict[str, Element] | None = None, pub: Public | None = None) -> Columns:
        """The honest columns, with the named elements replaced."""
        elements, st = (self.honest | (forged or {})).values(), self.rule.st

        def rows(*keys: str) -> list[int]:
            return [e[key] for key in keys for e in elements]

        return Columns(
            pre=[*rows(*(f"pre.{n}" for n in st.state)), *self.salt],
            post=[*rows(*(f"post.{n}" for n in st.state)), *self.salt],
            work=[*rows("g", *st.hints), *self.noise, *self.rule.scalars.values(), *self.salt],
            hyper=[(pub or self.rule.pub)[n] for n in st.inputs],
            **self._carried(list(elements)),
        )

    def exchanged(self, *keys: str) -> list[Columns]:
        """With these values of two parameters exchanged that differ in everything."""
        names = [n for n in self.honest if n.startswith("ordinary")]
        a = names[0]
        x = self.honest[a]
        b = next(n for n in names[1:] if all(self.honest[n][k] != v for k, v in x.items() if v))
        y = self.honest[b]
        return [self.columns({a: x | {k: y[k] for k in keys}, b: y | {k: x[k] for k in keys}})]

    def reordered(self) -> list[Columns]:
        return self.exchanged(*self.honest["ordinary 0"])

    def unused(self, column: str) -> int:
        return 0

    def _carried(self, elements: list[Element]) -> dict[str, list[int]]:
        """What the shard carries; its sums are those of the elements, whatever they are."""
        if not self.rule.st.carries:
            return {}
        pre = {n: np.array([e[f"pre.{n}"] for e in elements], dtype=object) for n in self.rule.st.state}
        hints = {n: np.array([e[n] for e in elements], dtype=object) for n in self.rule.st.hints}
        sums = {n: int((x * x).sum()) for n, x in self.rule.st.squared(pre, hints).items()}
        after = [(BEFORE[n] + sums[n]) % MODULUS for n in sums]
        tail = [*(TOTALS[n] for n in sums), *self.salt]
        return {"carry_in": [*(BEFORE[n] for n in sums), *tail], "carry_out": [*after, *tail]}


def _hyper(st: Statement) -> dict[str, float]:
    odd = {"beta2": 0.9988, "max_ratio": 10.0, "dampening": 0.1, "weight_decay": 0.02}
    return {name: odd.get(name, value) for name, value in st.defaults.items()}


STEEP: dict[str, Callable[[int], dict[str, int]]] = {
    "sgd": lambda P: {"A": P + 1, "r": P // 2},
    "nesterov": lambda P: {"A": P // 2 + 1, "B": nearest_coprime(P // 2 + 3, P)},
    "amsgrad": lambda _: {"A": 31},
    "lamb": lambda P: {"B": P * P * 19 // 100, "R": P * P - P},  # little more than half is taken: X is 3.16 of B
}
"""By how a statement's name begins: public integers with which honest steps reach every bound's ends."""


def case(circuit: Circuit, **public: int) -> Case:
    """A case for ``circuit``: every extreme, and ordinary elements in the rest of the shard.

    Args:
        public: public integers that differ from those of the statement's schedule.
    """
    st, P, hyper = circuit.statement, circuit.P, _hyper(circuit.statement)
    # Rates above the declared one: honest steps then reach every bound's ends.
    declared = 1e-4 if st.name.endswith("-l2") or st.name == "nesterov" else 1e-3
    lr = 1e-2 if st.name.startswith("momentum") else 1e-3
    steep = next((make(P) for name, make in STEEP.items() if st.name.startswith(name)), {})
    chosen = {"W": 3, "V": 3} | steep | public
    pub = st.public_integers(hyper, lr, 7, st.choose_format(hyper, declared, 1.0, P), P)
    pub = Public(pub | {name: x for name, x in chosen.items() if name in pub})
    if st.carries:
        pub |= {"first": 0, "last": 0}
    rule = Rule(st, pub, P, st.settle(TOTALS, pub, P) if st.carries else {})
    samples = Samples(rule, 1 << 20, seed=7)
    honest = samples.extremes()
    return Case(rule, circuit, honest | samples.ordinary(circuit.shard - len(honest)), samples)
