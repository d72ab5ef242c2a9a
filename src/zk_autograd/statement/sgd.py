"""SGD over integers, without and with momentum, in PyTorch's form (Sutskever et al., ICML 2013)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format, nearest_coprime, round_half_up
from zk_autograd.statement.base import Array, Hyper, Named, Public, Statement


def _step_format(name: str, reach: float, max_lr: float, clip: float, P: int) -> Format:
    """Scales such that ``|A*g| <= P*P/2``, ``A = lr * 2**(scale_w - scale_g) * P``."""
    limit = P // 2 - 1
    scale_g = math.floor(math.log2(limit / clip)) if clip > 0 else 99
    if not 0 <= scale_g <= 30:
        raise FormatError(f"{name}: clip {clip!r} does not fit a table of {P}: expected {limit / 2**30:.2g} to {limit}")
    scale_w = min(math.floor(math.log2(limit / (reach * max_lr * clip))), 28)
    if scale_w < 12:
        raise FormatError(
            f"{name}: a learning rate of {max_lr!r} does not fit this profile with gradients clipped at {clip!r}: "
            f"weights would keep {scale_w} fractional bits, at least 12 are needed; "
            f"the largest rate that fits is {limit / (reach * clip * 2**12):.3g}"
        )
    return Format(scale_w=scale_w, scale_g=scale_g, guard=0, clip=min(math.floor(clip * 2**scale_g), limit))


class SGD(Statement):
    """``w' = w - floor((A*g + P/2) / P)`` with ``A = lr * 2**(scale_w - scale_g) * P``."""

    name = "sgd"
    state = ("w",)
    hints = ()
    public = ("A",)
    defaults: ClassVar[Mapping[str, float]] = {}
    lookups = 3

    def check_hyper(self, hyper: Hyper) -> None:
        """Nothing to check."""

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        return _step_format(self.name, 1.0, max_lr, clip, P)

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        return Public(A=round_half_up(Fraction(lr) * P * Fraction(2) ** (fmt.scale_w - fmt.scale_g)))

    def advance(
        self, pre: Named, g: Array, pub: Public, P: int, isqrt: Callable[[Array], Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        return {"w": pre["w"] - (g * pub.A + P // 2) // P}, {}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        dw = pre["w"] - post["w"]
        return {
            "dw is the rounded step": g * pub.A + P // 2 - dw * P,
            "|dw| < P/2": dw + P // 2,
            "|g| < P/2": g + P // 2,
        }


class Momentum(Statement):
    """::

        m' = floor((u*m + c*g + P/2) / P)               u = momentum, c = 1 - dampening, in units of P
        w' = w - floor((A*m' + P/2) / P)                A = lr * 2**(scale_w - scale_g) * P

    On the first step ``u = 0`` and ``c = P``: PyTorch starts the buffer at the first gradient.
    """

    name = "momentum"
    state = ("w", "m")
    hints = ()
    public = ("u", "c", "A")
    defaults: ClassVar[Mapping[str, float]] = {"momentum": 0.9, "dampening": 0.0}
    lookups = 4

    def check_hyper(self, hyper: Hyper) -> None:
        for name in ("momentum", "dampening"):
            if not 0.0 <= hyper[name] < 1.0:
                raise FormatError(f"momentum: expected 0 <= {name} < 1, got {hyper[name]!r}")

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        # The buffer of any gradient sequence is at most clip * max(1, (1-dampening)/(1-momentum)) (+ rounding).
        reach = max(1.0, (1 - hyper["dampening"]) / (1 - hyper["momentum"])) * 1.001
        return _step_format(self.name, reach, max_lr, clip, P)

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        A = round_half_up(Fraction(lr) * P * Fraction(2) ** (fmt.scale_w - fmt.scale_g))
        first = step == 1
        return Public(
            u=0 if first else round_half_up(Fraction(hyper["momentum"]) * P),
            c=P if first else P - round_half_up(Fraction(hyper["dampening"]) * P),
            A=nearest_coprime(A, P),
        )

    def advance(
        self, pre: Named, g: Array, pub: Public, P: int, isqrt: Callable[[Array], Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        m = (pre["m"] * pub.u + g * pub.c + P // 2) // P
        return {"w": pre["w"] - (m * pub.A + P // 2) // P, "m": m}, {}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        dw = pre["w"] - post["w"]
        return {
            "m' is the rounded mean": pre["m"] * pub.u + g * pub.c + P // 2 - post["m"] * P,
            "dw is the rounded step": post["m"] * pub.A + P // 2 - dw * P,
            "|dw| < P/2": dw + P // 2,
            "|g| < P/2": g + P // 2,
        }
