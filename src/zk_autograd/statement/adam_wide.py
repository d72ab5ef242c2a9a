"""Adam whose gradients and roots take two digits of the table: 2**9 times as fine as :mod:`.adam` at the same bound."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format, nearest_coprime
from zk_autograd.statement.adam import Adam
from zk_autograd.statement.base import Array, Hyper, Named, Ops, Public, called

DIGITS = {
    "s*s <= v'": "qh",
    "v' <= s*s + 2s": "ph",
    "dw*D <= A*m'": "ch",
    "A*m' < (dw+1)*D": "dh",
}
"""The bounds that are two look-ups instead of one, and the hint that holds each one's high digit."""

GAIN = 7
"""Gradients may be ``P * 2**GAIN``. A larger one would let ``b2*v`` leave 64 bits at 2^16 rows."""


class WideAdam(Adam):
    """:class:`~.adam.Adam`, where a bound ``0 <= x < P`` on a root or a quotient is one ``0 <= x < P*P``.

    Such a bound is two look-ups, of a high digit that the prover names and of ``x - high*P``. The divisor is
    ``15*s + E``: the multiple being odd, the bounds on the quotient make ``s`` an integer, so that it needs no look-up
    of its own; nor does ``g``, since ``c1`` and ``A`` have no factor in common with ``c2`` (``docs/soundness.md``).
    ``E`` is at least 9: 15/2 make ``s`` the mean ``s + 1/2``, and with 9 rates up to 0.1 fit 2^15 rows.
    """

    bits = 48
    largest_logrows = 17
    guard = 0
    root_scale = 15
    least_E = 9
    largest_shift = 7  # else the sizes of docs/soundness.md would not do

    def __init__(self, name: str, decay: Literal["none", "decoupled"] = "none") -> None:
        super().__init__(name, decay)
        self.hints += tuple(DIGITS.values())
        self.lookups += len(DIGITS) - 2
        self.optimizer = called(self.optimizer, "wide=True")

    def gradient_limit(self, P: int) -> int:
        return min(P << GAIN, math.isqrt((1 << 62) // P))

    def largest_divisor(self, P: int) -> int:
        return min(P * P, self.root_scale * self.gradient_limit(P) + self.least_E)

    @classmethod
    def _means(cls, hyper: Hyper, P: int) -> tuple[int, int, int, int]:
        _, b2, c1, c2 = super()._means(hyper, P)
        c1 = next(c for c in range(c1, 0, -1) if math.gcd(c, c2) == 1)
        fresh = (1 - Fraction(hyper["beta1"])) * P
        if fresh - c1 > fresh / 4 or (P - c1) ** 2 >= b2 * P:
            raise FormatError(f"adam-wide: beta1 {hyper['beta1']!r} is too near to 1, or to beta2, for a table of {P}")
        return P - c1, b2, c1, c2

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        pub = super().public_integers(hyper, lr, step, fmt, P)
        pub["c2"] = nearest_coprime(pub.c2, pub.c1)  # as it is already, unless somebody declares guard bits
        pub["A"] = nearest_coprime(pub.A, P * pub.c2)
        return pub

    def _divisor(self, root: Array, twice: Array, E: Array) -> Array:
        return root * self.root_scale + E

    def _integers(self, g: Array, hints: Named, P: int) -> dict[str, Array]:
        return {}

    def advance(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        post, hints = super().advance(pre, g, pub, P, ops)
        whole = super().bounds(pre, post, g, hints, pub, P)
        return post, hints | {digit: whole[bound] // P for bound, digit in DIGITS.items()}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        found = super().bounds(pre, post, g, hints, pub, P)
        low = {bound: found[bound] - hints[digit] * P for bound, digit in DIGITS.items()}
        return found | low | {f"{bound}, high digit": hints[digit] for bound, digit in DIGITS.items()}


FAMILY = (WideAdam("adam-wide"), WideAdam("adamw-wide", decay="decoupled"))
