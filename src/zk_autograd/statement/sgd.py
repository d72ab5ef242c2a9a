"""SGD over integers, without and with momentum, in PyTorch's form (Sutskever et al., ICML 2013)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import (
    Format,
    decay_fx,
    nearest_coprime,
    round_down,
    round_half_up,
    rounding_offset,
    scale_for,
)
from zk_autograd.statement.base import Array, Hyper, Named, Public, Statement


def _step_format(name: str, reach: Callable[[int], int], max_lr: float, clip: float, P: int) -> Format:
    """The finest scales in which ``|A*x| <= P*(P/2 - 1)`` for every ``|x| <= reach(clip)``, x being what A meets."""
    limit = P // 2 - 1
    scale_g, fixed = scale_for(clip, limit)
    largest = reach(fixed)
    # A = lr * 2**(scale_w - scale_g) * P, moved by at most 16 to be coprime to P.
    room = (limit * P / largest - 16) / P * 2.0**scale_g
    if not (math.isfinite(max_lr) and max_lr > 0 and math.log2(room / max_lr) >= 12):
        raise FormatError(
            f"{name}: a largest learning rate of {max_lr!r} does not fit this profile with gradients clipped at "
            f"{clip!r}: expected above 0, and at most {round_down(room / 2**12)}, the largest that fits "
            "(weights keep at least 12 fractional bits)"
        )
    scale_w = math.floor(min(math.log2(room / max_lr), 28))
    return Format(scale_w=scale_w, scale_g=scale_g, guard=0, clip=fixed)


class SGD(Statement):
    """``w' = w - floor((A*g + r) / P)`` with ``A = lr * 2**(scale_w - scale_g) * P``.

    ``r`` is the step's :func:`~zk_autograd.fixed_point.rounding_offset`: steps below half a unit of ``w`` add up.
    """

    name = "sgd"
    state = ("w",)
    hints = ()
    public = ("A", "r")
    defaults: ClassVar[Mapping[str, float]] = {}
    lookups = 3

    def check_hyper(self, hyper: Hyper) -> None:
        """Nothing to check."""

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        return _step_format(self.name, lambda fixed: fixed, max_lr, clip, P)

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        A = round_half_up(Fraction(lr) * P * Fraction(2) ** (fmt.scale_w - fmt.scale_g))
        return Public(A=A, r=rounding_offset(step, P))

    def advance(
        self, pre: Named, g: Array, pub: Public, P: int, isqrt: Callable[[Array], Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        return {"w": pre["w"] - (g * pub.A + pub.r) // P}, {}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        dw = pre["w"] - post["w"]
        return {
            "dw is the rounded step": g * pub.A + pub.r - dw * P,
            "|dw| < P/2": dw + P // 2,
            "|g| < P/2": g + P // 2,
        }


class Momentum(Statement):
    """::

        m' = floor((u*m + c*g + r) / P)                 u = momentum, c = 1 - dampening, in units of P
        w' = w - floor((A*m' + r) / P)                  A = lr * 2**(scale_w - scale_g) * P

    On the first step ``u = 0`` and ``c = P``: PyTorch starts the buffer at the first gradient.
    ``r`` is the step's :func:`~zk_autograd.fixed_point.rounding_offset`.
    """

    name = "momentum"
    state = ("w", "m")
    hints = ()
    public = ("u", "c", "A", "r")
    defaults: ClassVar[Mapping[str, float]] = {"momentum": 0.9, "dampening": 0.0}
    lookups = 4

    def check_hyper(self, hyper: Hyper) -> None:
        for name in ("momentum", "dampening"):
            if not 0.0 <= hyper[name] < 1.0:
                raise FormatError(f"momentum: expected 0 <= {name} < 1, got {hyper[name]!r}")

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        u, c = self._means(hyper, P)

        def largest_buffer(fixed: int) -> int:
            # Where u*m + c*fixed, rounded away from 0, gives m again; the first step takes the gradient as it is.
            return max(fixed, -(-(c * fixed + P) // (P - u)))

        return _step_format(self.name, largest_buffer, max_lr, clip, P)

    @staticmethod
    def _means(hyper: Hyper, P: int) -> tuple[int, int]:
        u, lost = (decay_fx(f"momentum: {name}", hyper[name], P) for name in ("momentum", "dampening"))
        return u, P - lost

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        A = round_half_up(Fraction(lr) * P * Fraction(2) ** (fmt.scale_w - fmt.scale_g))
        u, c = self._means(hyper, P)
        first = step == 1
        return Public(
            u=0 if first else u,
            c=P if first else c,
            A=nearest_coprime(A, P),
            r=rounding_offset(step, P),
        )

    def advance(
        self, pre: Named, g: Array, pub: Public, P: int, isqrt: Callable[[Array], Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        m = (pre["m"] * pub.u + g * pub.c + pub.r) // P
        return {"w": pre["w"] - (m * pub.A + pub.r) // P, "m": m}, {}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        dw = pre["w"] - post["w"]
        return {
            "m' is the rounded mean": pre["m"] * pub.u + g * pub.c + pub.r - post["m"] * P,
            "dw is the rounded step": post["m"] * pub.A + pub.r - dw * P,
            "|dw| < P/2": dw + P // 2,
            "|g| < P/2": g + P // 2,
        }
