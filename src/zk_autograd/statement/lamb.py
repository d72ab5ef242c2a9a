"""LAMB over integers: You et al., arXiv:1904.00962, algorithm 2, with a cap on the trust ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.fixed_point import LARGEST_WEIGHT, Format, dithered, round_half_up, rounding_offset, weight_scale
from zk_autograd.statement.adam import HORIZON, Adam
from zk_autograd.statement.base import FAR, Array, Hyper, Named, Ops, Public, Range, dot, zero

GUARD = Adam.guard
ROOM = 200
"""Bits of the differences that :meth:`Lamb.settle` writes in digits; an honest layer's sums stay far below."""

LARGEST_PUBLIC = 1 << 36
JITTER = 2.0**-6
"""How far one unit of the dithered decay may move a direction, for a weight of 1."""


class Lamb(Adam):
    """A layer is a block of shards; ``sw`` and ``su`` are sums over it. With Adam's ``m'``, ``v'``, ``s``::

        d  = floor((W*w + r) / P)                       the decay, in the direction's units
        u  = -d - floor(A*m' / (2*s + E))               the direction: AdamW's step at a rate of 1
        sw, su = sums of w*w and of u*u
        X  = min(R, floor(B * sqrt(sw / su)))           rate times trust ratio; U if sw or su is 0
        T  = floor((X + j) / P)
        w' = w + floor((T*u + r) / P)

    The scales cancel: ``B = lr * P**2``. ``U`` is the same at a trust ratio of 1, ``R`` at ``max_ratio``. ``j`` dithers
    ``T`` as ``r`` dithers the quotient, with another irrational number's multiples: tiny ratios are right on average.
    """

    carries = ("sw", "su")
    largest_logrows = 17
    coprime_rate = False

    def __init__(self, name: str) -> None:
        super().__init__(name, decay="decoupled")
        self.hints += ("u",)
        self.public += ("B", "U", "R", "j")
        self.defaults = {**self.defaults, "max_ratio": 10.0, "eps": 1e-6}
        self.lookups += 2
        self.rescales = None
        self.optimizer = "Lamb"
        self.samples = [{**h, "max_ratio": ratio} for h, ratio in zip(self.samples, (1.0, 3.0), strict=True)]

    def check_hyper(self, hyper: Hyper) -> None:
        super().check_hyper(hyper)
        if not 1.0 <= hyper["max_ratio"] <= 1e6:
            raise FormatError(f"{self.name}: expected 1 <= max_ratio <= 1e6, got {hyper['max_ratio']!r}")

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        scale_g, fixed = self._gradient_scale(hyper, clip, P)
        scale_u, least_E = self._direction(hyper, P)
        fixed = min(fixed, (P - least_E) // 2 >> GUARD // 2)

        def finest(lr: float) -> float:
            # T < P; with u in the table, so is the change of a weight.
            scale = scale_u + math.log2((1 - 2 / P) / (lr * hyper["max_ratio"]))
            return min(scale, scale_u + math.log2(P * JITTER)) if hyper["weight_decay"] else scale

        return Format(weight_scale(self.name, max_lr, finest), scale_g, GUARD, fixed)

    def _direction(self, hyper: Hyper, P: int) -> tuple[int, int]:
        """Fractional bits of ``u``, the most at which every honest direction is in the table, and the least ``E``.

        Gradients so small that ``v`` stays 0 are divided by ``E`` alone: it is as large as leaves them no longer reach
        than large ones have.
        """
        b1, b2, _, _ = self._means(hyper, P)
        alone, together = _reach(b1, b2, P)
        room = Fraction(100, 101) * (P // 2 - 8)
        decay = Fraction(hyper["weight_decay"]) * Fraction(LARGEST_WEIGHT)
        scale = next((k for k in range(30, -1, -1) if (together + decay) * 2**k < room), None)
        if scale is None:
            raise FormatError(f"{self.name}: these betas let directions grow beyond a table of {P}")
        return scale, max(1, math.ceil(alone / (room / 2**scale - decay)))

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        scale_u, least_E = self._direction(hyper, P)
        direction = Format(scale_u, fmt.scale_g, fmt.guard, fmt.clip)
        unit = Fraction(2) ** (fmt.scale_w - scale_u)
        rate = Fraction(lr) * P * P
        U = round_half_up(rate * unit)
        pub = super().public_integers(hyper, 1.0, step, direction, P)
        pub |= {
            "E": max(pub.E, least_E),
            "W": dithered(Fraction(hyper["weight_decay"]) * P / unit, step),
            "B": round_half_up(rate),
            "U": U,
            "R": max(U, math.floor(rate * unit * Fraction(hyper["max_ratio"]))),
            "j": _share(step, P),
        }
        if pub["R"] > P * P - P or pub["B"] >= LARGEST_PUBLIC:
            raise FormatError(f"{self.name}: a rate of {lr!r} does not fit weights of {fmt.scale_w} fractional bits")
        return Public(pub)

    def rate_unit(self, fmt: Format, P: int) -> float:
        return 1.0 / (P * P)

    def rate_error(self, hyper: Hyper, lr: float, fmt: Format, P: int) -> float:
        pub = self.public_integers(hyper, lr, FAR, fmt, P)
        # Directions are rounded down, as Adam's steps; these and their shares by offsets that change.
        return float(abs(pub.B * self.rate_unit(fmt, P) / lr - 1) + 0.5 * self._unit(fmt.guard) / pub.A)

    # Per parameter.

    def advance(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        post, hints = self.begin(pre, g, pub, P, ops)
        hints |= self.settle(self.sums(pre, post, hints, P), pub, P)
        return self.finish(pre, post, hints, pub, P), hints

    def begin(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        post, hints = super().advance(pre, g, pub, P, ops)
        hints["u"] = post.pop("w") - pre["w"]
        return post, hints

    def squared(self, pre: Named, hints: Named) -> dict[str, Array]:
        return {"sw": pre["w"], "su": hints["u"]}

    def finish(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> dict[str, Array]:
        return {"w": pre["w"] + (hints["u"] * hints["T"] + pub.r) // P} | dict(post)

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        found = super().bounds(pre, post, g, hints, pub, P)  # its dw is -u - d
        moved = post["w"] - pre["w"]
        found["w' is the rounded share"] = dot((hints["u"], hints["T"]), (moved, -P), plus=pub.r)
        found["|w - w'| < P/2"] = moved + P // 2
        return found

    def _moved(self, pre: Named, post: Named, hints: Named) -> Array:
        return hints["u"]

    def ranges(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> list[Range]:
        # T < P, so that with such a u the change of the weight is in the table.
        return [*super().ranges(pre, post, hints, pub, P), Range(hints["u"], 4 - P // 2, P // 2 - 4)]

    # Per layer.

    def scalars(self, P: int) -> tuple[str, ...]:
        digits = range(next(n for n in range(1, ROOM) if P**n >= 1 << ROOM))
        return ("i", "k", "y0", "y1", "T", *(f"p{n}" for n in digits), *(f"q{n}" for n in digits))

    def settle(self, totals: Mapping[str, int], pub: Public, P: int) -> dict[str, int]:
        num, den = self._squared_rate(totals, int(totals["sw"] * totals["su"] == 0), pub)
        X = min(pub.R, math.isqrt(num // den))
        y = pub.R - X
        above = (X + 1) ** 2 * den - 1 - num if y else 0
        names = self.scalars(P)
        count = (len(names) - 5) // 2
        found = [_inverse(totals["sw"] * totals["su"]), _inverse(y), *_digits(y, P, 2), (X + pub.j) // P]
        found += _digits(num - X * X * den, P, count) + _digits(above, P, count)
        return dict(zip(names, found, strict=True))

    def scalar_bounds(self, totals: Named, scalars: Named, pub: Any, P: int) -> dict[str, Array]:
        product = totals["sw"] * totals["su"]
        none = 1 - product * scalars["i"]  # 1 if a sum is 0, else 0
        num, den = self._squared_rate(totals, none, pub)
        y = scalars["y1"] * P + scalars["y0"]
        capped = 1 - y * scalars["k"]
        X = pub.R - y
        above = ((X + 1) * (X + 1) * den - 1 - num) * (1 - capped)
        digits = [name for name in scalars if name[0] in "pq"]
        found = zero("none is 0 or 1", product * none)
        found |= zero("capped is 0 or 1", y * capped)
        found |= zero("X*X*den <= num", num - X * X * den - _horner(scalars, "p", P))
        found |= zero("num < (X+1)*(X+1)*den, or capped", above - _horner(scalars, "q", P))
        found["T is the rounded rate"] = X + pub.j - scalars["T"] * P
        return found | {f"{name} is a digit": scalars[name] for name in ("y0", "y1", "T", *digits)}

    @staticmethod
    def _squared_rate(totals: Named, none: Array, pub: Any) -> tuple[Array, Array]:
        """Numerator and denominator of ``X`` squared, before the cap; ``none`` is 1 if a sum is 0, else 0."""
        free = totals["sw"] * pub.B * pub.B
        return free + (pub.U * pub.U - free) * none, totals["su"] + (1 - totals["su"]) * none


def _horner(scalars: Named, letter: str, P: int) -> Array:
    """The number whose digits are the scalars of this letter, lowest first; P is exact in 32-bit floats, P*P is not."""
    digits = [value for name, value in scalars.items() if name[0] == letter]
    number = digits[-1]
    for digit in digits[-2::-1]:
        number = number * P + digit
    return number


def _digits(x: int, P: int, count: int) -> list[int]:
    found = []
    for _ in range(count):
        x, digit = divmod(x, P)
        found.append(digit)
    if x:
        raise FormatError("lamb: a layer's sums of squares are outside the range of the circuit")
    return found


def _inverse(x: int) -> int:
    return pow(x, -1, MODULUS) if x else 0


def _share(step: int, P: int) -> int:
    """Multiples of the square root of 3, modulo 1, in units of ``1/P``."""
    unit = 1 << 32
    return step * (math.isqrt(3 * unit * unit) - unit) % unit * P >> 32


@cache
def _reach(b1: int, b2: int, P: int) -> tuple[Fraction, Fraction]:
    """The two bounds of :meth:`Adam.reach`, on small gradients for ``E = 1`` and on large ones, rounded up.

    In integers, as public integers follow from them.
    """
    c1, c2 = P - b1, (P - b2) << GUARD
    m = alone = 0
    for step in range(1, HORIZON):
        r = rounding_offset(step, P)
        m = (b1 * m - c1 * math.isqrt((P - 1 - r) // c2) + r) // P
        alone = max(alone, -m << GUARD // 2 + 1)
    correction = max(Fraction(1), Fraction((P - b2) * P, c1 * c1))
    # Cauchy-Schwarz: (1 - beta1)^2 / ((1 - beta2) * (1 - beta1^2 / beta2)), and 1.2^2 of it.
    together = Fraction(c1 * c1 * b2, (P - b2) * (b2 * P - b1 * b1)) * Fraction(144, 100)
    return _root_up(alone * alone * correction), _root_up(together * correction)


def _root_up(x: Fraction) -> Fraction:
    return Fraction(math.isqrt(math.ceil(x * 2**64)) + 1, 1 << 32)


FAMILY = (Lamb("lamb"),)
