"""Adam over integers (Kingma & Ba, arXiv:1412.6980, algorithm 1, in PyTorch's form)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import (
    FRACTION_BITS,
    Format,
    decay_fx,
    nearest_coprime,
    power_fx,
    round_down,
    round_half_up,
    rounding_offset,
    scale_for,
)
from zk_autograd.statement.base import Array, Hyper, Named, Public, Statement

GUARD = 2
"""Bits that v carries over g**2. The square root always fills the table, so each pair of them costs g one bit; more
guard bits make A larger, that is, finer when a schedule lowers the rate."""

HORIZON = 4096
"""Steps over which :meth:`Adam.reach` lets the gradient do its worst."""


class Adam(Statement):
    """::

        m' = floor((b1*m + c1*g + r) / P)               c1 = P - b1
        v' = floor((b2*v + c2*g*g + r) / P)             c2 = (P - b2) * 2**guard
        s  = isqrt(v')
        w' = w - floor(A*m' / (2*s + E))

    On the first step ``b1 = b2 = 0``: whatever the genesis state holds for the moments counts for nothing.
    ``r`` is the step's :func:`~zk_autograd.fixed_point.rounding_offset`. The divisor is ``2*s + E`` with ``E >= 1``,
    since ``s + 1/2`` is the mean of the roots that ``s`` stands for.
    """

    name = "adam"
    state = ("w", "m", "v")
    hints = ("s",)
    public = ("b1", "c1", "b2", "c2", "A", "E", "r")
    defaults: ClassVar[Mapping[str, float]] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    lookups = 9

    def check_hyper(self, hyper: Hyper) -> None:
        for name in ("beta1", "beta2"):
            if not 0.0 <= hyper[name] < 1.0:
                raise FormatError(f"adam: expected 0 <= {name} < 1, got {hyper[name]!r}")
        if not 0.0 < hyper["eps"] <= 1.0:
            raise FormatError(f"adam: expected 0 < eps <= 1, got {hyper['eps']!r}")
        if hyper["beta1"] ** 2 >= hyper["beta2"]:
            raise FormatError(
                f"adam: expected beta1^2 < beta2 (else no bound on a step exists), "
                f"got {hyper['beta1']!r}, {hyper['beta2']!r}"
            )

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        scale_g, fixed = self._gradient_scale(hyper, clip, P)
        # |dw| <= reach * lr * 2**scale_w; 1 % covers the rounding of A.
        room = (P // 2 - 1) / (1.01 * self.reach(hyper, P))
        if not (math.isfinite(max_lr) and max_lr > 0 and math.log2(room / max_lr) >= 12):
            raise FormatError(
                f"adam: a largest learning rate of {max_lr!r} does not fit this profile: expected above 0, and at most "
                f"{round_down(room / 2**12)}, the largest that fits (weights keep at least 12 fractional bits)"
            )
        scale_w = math.floor(min(math.log2(room / max_lr), 28))
        return Format(scale_w=scale_w, scale_g=scale_g, guard=GUARD, clip=fixed)

    @classmethod
    def _gradient_scale(cls, hyper: Hyper, clip: float, P: int) -> tuple[int, int]:
        """The finest ``(scale_g, clip)`` with ``2*s + E <= P``: room for both bounds on the root and the quotient."""
        scale, _ = scale_for(clip, (P - 1) // 2 >> GUARD // 2)
        for scale_g in range(scale, -1, -1):
            limit = (P - cls._E(hyper, 1 << FRACTION_BITS, scale_g)) // 2 >> GUARD // 2
            fixed = min(limit, math.floor(clip * 2.0**scale_g))
            if fixed >= 1 and limit >= 0.995 * clip * 2.0**scale_g:
                return scale_g, fixed
        raise FormatError(f"adam: eps {hyper['eps']!r} and clip {clip!r} together do not fit a table of {P}")

    @staticmethod
    def reach(hyper: Hyper, P: int) -> float:
        """An upper bound on ``|w - w'| / (lr * 2**scale_w)`` over all gradient sequences.

        Large gradients obey Cauchy-Schwarz: ``|m| <= bound * sqrt(v)``. Gradients so small that ``v`` stays 0 may reach
        further (their ``m`` is then divided by ``E`` alone), so the largest such ``m`` is found by trying: each step
        takes the largest gradient that the step's offset still rounds away in ``v`` and, being negative, not in ``m``.
        The cases between the two were searched exhaustively and lie below (``tests/statement/test_formats.py``).
        """
        b1, b2, c1, c2 = Adam._means(hyper, P)
        c2 <<= GUARD
        m = largest = 0
        for step in range(1, HORIZON):
            r = rounding_offset(step, P)
            m = (b1 * m - c1 * math.isqrt((P - 1 - r) // c2) + r) // P
            largest = max(largest, -m)
        # Above 1 on early steps only if beta2 is low; then the correction multiplies the step.
        correction = max(1.0, math.sqrt(1 - b2 / P) / (1 - b1 / P))
        beta1, beta2 = b1 / P, b2 / P
        cauchy_schwarz = (1 - beta1) / math.sqrt((1 - beta2) * (1 - beta1 * beta1 / beta2))
        return max(2.0 ** (GUARD // 2 + 1) * largest * correction, 1.2 * cauchy_schwarz * correction)

    @staticmethod
    def _means(hyper: Hyper, P: int) -> tuple[int, int, int, int]:
        b1, b2 = (decay_fx(f"adam: {name}", hyper[name], P) for name in ("beta1", "beta2"))
        if b1 * b1 >= b2 * P:
            raise FormatError(f"adam: beta1 and beta2 are too close, {hyper['beta1']!r} and {hyper['beta2']!r}")
        return b1, b2, P - b1, P - b2

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        b1, b2, c1, c2 = self._means(hyper, P)
        one = 1 << FRACTION_BITS
        m_sum = one - power_fx(b1, P, step)
        v_root = math.isqrt((one - power_fx(b2, P, step)) << FRACTION_BITS)
        A = round_half_up(Fraction(lr) * v_root * 2 ** (fmt.scale_w + fmt.guard // 2 + 1) / m_sum)
        first = step == 1
        return Public(
            b1=0 if first else b1,
            c1=c1,
            b2=0 if first else b2,
            c2=c2 << fmt.guard,
            A=nearest_coprime(A, P),
            E=self._E(hyper, v_root, fmt.scale_g, fmt.guard),
            r=rounding_offset(step, P),
        )

    @staticmethod
    def _E(hyper: Hyper, v_root: int, scale_g: int, guard: int = GUARD) -> int:
        scale = 2 ** (scale_g + guard // 2 + 1)
        return max(1, round_half_up(Fraction(hyper["eps"]) * v_root * scale / (1 << FRACTION_BITS)))

    def advance(
        self, pre: Named, g: Array, pub: Public, P: int, isqrt: Callable[[Array], Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        m = (pre["m"] * pub.b1 + g * pub.c1 + pub.r) // P
        v = (pre["v"] * pub.b2 + g * g * pub.c2 + pub.r) // P
        s = isqrt(v)
        w = pre["w"] - (m * pub.A) // (s + s + pub.E)
        return {"w": w, "m": m, "v": v}, {"s": s}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        s = hints["s"]
        s2 = s + s
        dw = pre["w"] - post["w"]
        D = s2 + pub.E
        q = post["v"] - s * s
        c = post["m"] * pub.A - dw * D
        return {
            "m' is the rounded mean": pre["m"] * pub.b1 + g * pub.c1 + pub.r - post["m"] * P,
            "v' is the rounded mean": pre["v"] * pub.b2 + g * g * pub.c2 + pub.r - post["v"] * P,
            "s*s <= v'": q,
            "v' <= s*s + 2s": s2 - q,
            "dw*D <= A*m'": c,
            "A*m' < (dw+1)*D": D - 1 - c,
            "|dw| < P/2": dw + P // 2,
            "s is an integer of the table": s,
            "|g| < P/2": g + P // 2,
        }
