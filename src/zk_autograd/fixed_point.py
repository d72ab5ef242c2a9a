"""The fixed-point formats of a run, and the integer arithmetic from which its public integers are computed.

Everything here is exact integer arithmetic: an auditor on another machine gets the same integers, with no
dependence on a math library's rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from zk_autograd.errors import FormatError

FRACTION_BITS = 256
"""Fractional bits of :func:`power_fx`; each squaring loses less than one unit in the last place."""


MIN_SCALE_W = 12
"""No format keeps fewer fractional bits of a weight."""

LARGEST_WEIGHT = 8.0
"""Formats leave room for the decay of weights up to this size; larger ones are found, and refused, when they come."""


DECAY_SHARE = 1 / 4
"""Share of a range that one unit of a :func:`dithered` decay may take, for such weights."""


@dataclass(frozen=True)
class Format:
    """How integers stand for reals in one run: ``real = integer / 2**scale``.

    Attributes:
        scale_w: fractional bits of a weight.
        scale_g: fractional bits of a gradient and of a first moment.
        guard: extra bits that the second moment carries over ``g**2`` (even, >= 0; design: ``e``).
        clip: largest absolute gradient as an integer at ``scale_g``; larger ones are clipped to it and counted.
    """

    scale_w: int
    scale_g: int
    guard: int
    clip: int

    def __post_init__(self) -> None:
        if not (0 <= self.scale_w <= 40 and 0 <= self.scale_g <= 30 and 0 <= self.guard <= 8 and self.guard % 2 == 0):
            raise FormatError(
                "format: expected scale_w in 0..40, scale_g in 0..30 and an even guard in 0..8, "
                f"got scale_w={self.scale_w}, scale_g={self.scale_g}, guard={self.guard}"
            )
        if not 1 <= self.clip <= 1 << 24:
            raise FormatError(f"format: expected clip in 1..2^24, got {self.clip}")


@dataclass(frozen=True)
class ParameterBlock:
    """Consecutive parameters of one group that share a format.

    Attributes:
        group: which parameter group, from 0.
        count: how many parameters.
        format: what their integers mean.
    """

    group: int
    count: int
    format: Format


def round_half_up(x: Fraction) -> int:
    """The integer nearest to ``x``; halves go up."""
    return rounded(x.numerator, x.denominator)


def rounded(numerator: int, denominator: int) -> int:
    """:func:`round_half_up` of a quotient by a number above 0, which need not be in lowest terms."""
    return (2 * numerator + denominator) // (2 * denominator)


def power_fx(base: int, one: int, exponent: int) -> int:
    """``(base/one)**exponent`` rounded down to ``FRACTION_BITS`` fractional bits, by square and multiply.

    Args:
        base: numerator, ``0 <= base < one``.
        one: denominator.
        exponent: ``>= 0``, below 2^64.
    """
    result, squares, number = 1 << FRACTION_BITS, _squares(base, one), 0
    while exponent:
        if exponent & 1:
            result = (result * squares[number]) >> FRACTION_BITS
        exponent >>= 1
        number += 1
    return result


@lru_cache(64)
def _squares(base: int, one: int) -> tuple[int, ...]:
    """``base/one``, its square, the square of that and so on: a run's steps all take the same ones."""
    squares = [(base << FRACTION_BITS) // one]
    while len(squares) < 64:
        squares.append(squares[-1] * squares[-1] >> FRACTION_BITS)
    return tuple(squares)


def nearest_coprime(x: int, modulus: int) -> int:
    """The integer ``>= 1`` nearest to ``x`` that is coprime to ``modulus``; of two equally near, the smaller."""
    for distance in range(modulus):
        for candidate in (x - distance, x + distance):
            if candidate >= 1 and math.gcd(candidate, modulus) == 1:
                return candidate
    raise FormatError(f"no integer near {x} is coprime to {modulus}")


@lru_cache(1024)
def decay_fx(name: str, decay: float, P: int) -> int:
    """``decay`` in units of ``1/P``, for ``0 <= decay < 1``.

    Raises:
        FormatError: so close to 1 that ``1 - decay``, the weight of what is new, would be off by over a quarter.
    """
    fixed = round_half_up(Fraction(decay) * P)
    if abs((P - fixed) - (1 - Fraction(decay)) * P) > (1 - Fraction(decay)) * P / 4:
        raise FormatError(f"{name}: expected at most {1 - 2 / P:.6f} for a table of {P}, got {decay!r}")
    return fixed


def rounding_offset(step: int, P: int) -> int:
    """What is added before a quotient by ``P`` is floored on step ``step`` (1-based), in ``[0, P)``.

    A running mean that is always rounded to the nearest integer stops short of its limit, by up to ``1/(2*(1 - beta))``
    units: for ever, if the gradient is gone. Offsets that are spread evenly over the steps (multiples of the golden
    ratio) make the same sums right on average: over ``P`` steps, ``floor((x + offset)/P)`` averages exactly ``x/P``.
    """
    return step * _golden(P) % P


@lru_cache(64)
def _golden(P: int) -> int:
    return nearest_coprime((math.isqrt(5 * P * P) - P) // 2, P)


def dithered(x: Fraction, step: int) -> int:
    """An integer next to ``x >= 0``, down or up so that over the steps the mean is ``x``, however small ``x`` is.

    Independent of :func:`rounding_offset`, which meets it in the same products: its multiples are of another irrational
    number, the square root of 2.
    """
    unit = 1 << 32
    return math.floor(x + Fraction(step * (math.isqrt(2 * unit * unit) - unit) % unit, unit))


def scale_for(clip: float, limit: int, highest: int = 30) -> tuple[int, int]:
    """The finest scale at which ``clip`` stays within ``limit``, and ``clip`` as an integer at that scale.

    A power of two just above ``limit`` does not cost a whole bit: the integer may be up to 0.5 % below ``clip``.

    Raises:
        FormatError: ``clip`` is not a positive number, or too large for any scale.
    """
    if not (math.isfinite(clip) and clip > 0):
        raise FormatError(f"format: expected a clipping bound above 0, got {clip!r}")
    scale = min(math.floor(math.log2(limit / 0.995 / clip)), highest)
    fixed = min(math.floor(clip * 2.0**scale), limit)
    if scale < 0 or fixed < 1:
        raise FormatError(f"format: expected a clipping bound between {2.0**-highest:.2g} and {limit}, got {clip!r}")
    return scale, fixed


def l2_room(weight_decay: float, fixed: int, scale_g: int) -> int:
    """How far decay can move a gradient, for weights up to ``LARGEST_WEIGHT``: its mean, and one unit."""
    if not weight_decay:
        return 0
    return math.ceil(LARGEST_WEIGHT * weight_decay * 2.0**scale_g) + math.ceil(DECAY_SHARE * fixed) + 1


def l2_scale(fixed: int, P: int) -> float:
    """The logarithm of the finest scale of weights at which one unit of decay, ``w/P``, keeps to its share."""
    return math.log2(DECAY_SHARE * fixed * P / LARGEST_WEIGHT)


def weight_scale(name: str, max_lr: float, finest: Callable[[float], float]) -> int:
    """The finest scale of weights for rates up to ``max_lr``.

    Args:
        name: of the statement, for the message.
        finest: the logarithm of the finest scale that leaves the table room, for a rate; falls as the rate rises.
    Raises:
        FormatError: no rate, or weights would keep less than ``MIN_SCALE_W`` fractional bits; names the largest rate.
    """
    if math.isfinite(max_lr) and max_lr > 0 and finest(max_lr) >= MIN_SCALE_W:
        return math.floor(min(finest(max_lr), 28))
    low, high = -100.0, 100.0
    if not finest(2.0**low) >= MIN_SCALE_W:
        raise FormatError(f"{name}: the hyper-parameters and the clipping bound leave no room for any learning rate")
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if finest(2.0**middle) >= MIN_SCALE_W else (low, middle)
    raise FormatError(
        f"{name}: a largest learning rate of {max_lr!r} does not fit this profile with these hyper-parameters: "
        f"expected above 0, and at most {round_down(2.0**low)}, the largest that fits (weights keep at least "
        f"{MIN_SCALE_W} fractional bits)"
    )


def round_down(x: float) -> str:
    """``x`` with three significant digits, never rounded up: for limits in messages."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 2)
    return f"{math.floor(x / unit) * unit:.3g}"
