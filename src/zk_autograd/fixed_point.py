"""The fixed-point formats of a run, and the integer arithmetic from which its public integers are computed.

Everything here is exact integer arithmetic: an auditor on another machine gets the same integers, with no
dependence on a math library's rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from zk_autograd.errors import FormatError

FRACTION_BITS = 256
"""Fractional bits of :func:`power_fx`; each squaring loses less than one unit in the last place."""


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
        if not 1 <= self.clip < 1 << 20:
            raise FormatError(f"format: expected clip in 1..2^20-1, got {self.clip}")


def round_half_up(x: Fraction) -> int:
    """The integer nearest to ``x``; halves go up."""
    return math.floor(x + Fraction(1, 2))


def power_fx(base: int, one: int, exponent: int) -> int:
    """``(base/one)**exponent`` rounded down to ``FRACTION_BITS`` fractional bits, by square and multiply.

    Args:
        base: numerator, ``0 <= base < one``.
        one: denominator.
        exponent: ``>= 0``.
    """
    result = 1 << FRACTION_BITS
    square = (base << FRACTION_BITS) // one
    while exponent:
        if exponent & 1:
            result = (result * square) >> FRACTION_BITS
        square = (square * square) >> FRACTION_BITS
        exponent >>= 1
    return result


def nearest_coprime(x: int, modulus: int) -> int:
    """The integer ``>= 1`` nearest to ``x`` that is coprime to ``modulus``; of two equally near, the smaller."""
    for distance in range(modulus):
        for candidate in (x - distance, x + distance):
            if candidate >= 1 and math.gcd(candidate, modulus) == 1:
                return candidate
    raise FormatError(f"no integer near {x} is coprime to {modulus}")


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
    return step * nearest_coprime((math.isqrt(5 * P * P) - P) // 2, P) % P


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


def round_down(x: float) -> str:
    """``x`` with three significant digits, never rounded up: for limits in messages."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 2)
    return f"{math.floor(x / unit) * unit:.3g}"
