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
