"""Adam over integers (Kingma & Ba, arXiv:1412.6980, algorithm 1, in PyTorch's form)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import FRACTION_BITS, Format, nearest_coprime, power_fx, round_half_up
from zk_autograd.statement.base import Array, Hyper, Named, Public, Statement


class Adam(Statement):
    """::

        m' = floor((b1*m + c1*g + P/2) / P)             c1 = P - b1
        v' = floor((b2*v + c2*g*g + P/2) / P)           c2 = (P - b2) * 2**guard
        s  = isqrt(v')
        w' = w - floor(A*m' / (s + E))

    On the first step ``b1 = b2 = 0``: whatever the genesis state holds for the moments counts for nothing.
    """

    name = "adam"
    state = ("w", "m", "v")
    hints = ("s",)
    public = ("b1", "c1", "b2", "c2", "A", "E")
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
        guard = 4
        # 2*s < P, so that both bounds on the square root have room; s <= clip * 2**(guard/2).
        limit = (P // 2 - 1) >> (guard // 2)
        scale_g = math.floor(math.log2(limit / clip))
        if not 0 <= scale_g <= 30:
            raise FormatError(
                f"adam: clip {clip!r} does not fit a table of {P}: expected {limit / 2**30:.2g} to {limit}"
            )
        # Cauchy-Schwarz over any gradient sequence: |m| / sqrt(v) <= reach, so |dw| <= reach * lr * 2**scale_w.
        b1, b2 = hyper["beta1"], hyper["beta2"]
        reach = (1 - b1) / math.sqrt((1 - b2) * (1 - b1 * b1 / b2))
        room = (P // 2 - 1) / (reach * max_lr)
        scale_w = min(math.floor(math.log2(room)), 28)
        if scale_w < 12:
            raise FormatError(
                f"adam: a learning rate of {max_lr!r} does not fit this profile: weights would keep {scale_w} "
                f"fractional bits, at least 12 are needed; "
                f"the largest rate that fits is {(P // 2 - 1) / (reach * 2**12):.3g}"
            )
        fmt = Format(scale_w=scale_w, scale_g=scale_g, guard=guard, clip=min(math.floor(clip * 2**scale_g), limit))
        if self._E(hyper, 1 << FRACTION_BITS, fmt) + P // 2 > P:
            raise FormatError(
                f"adam: eps {hyper['eps']!r} does not fit this profile: at most {P / 2 / 2 ** (scale_g + 2):.2g}"
            )
        return fmt

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        b1, b2 = (min(round_half_up(Fraction(hyper[n]) * P), P - 1) for n in ("beta1", "beta2"))
        one = 1 << FRACTION_BITS
        m_sum = one - power_fx(b1, P, step)
        v_root = math.isqrt((one - power_fx(b2, P, step)) << FRACTION_BITS)
        A = round_half_up(Fraction(lr) * v_root * 2 ** (fmt.scale_w + fmt.guard // 2) / m_sum)
        first = step == 1
        return Public(
            b1=0 if first else b1,
            c1=P - b1,
            b2=0 if first else b2,
            c2=(P - b2) << fmt.guard,
            A=nearest_coprime(A, P),
            E=self._E(hyper, v_root, fmt),
        )

    @staticmethod
    def _E(hyper: Hyper, v_root: int, fmt: Format) -> int:
        return max(
            1,
            round_half_up(Fraction(hyper["eps"]) * v_root * 2 ** (fmt.scale_g + fmt.guard // 2) / (1 << FRACTION_BITS)),
        )

    def advance(
        self, pre: Named, g: Array, pub: Public, P: int, isqrt: Callable[[Array], Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        m = (pre["m"] * pub.b1 + g * pub.c1 + P // 2) // P
        v = (pre["v"] * pub.b2 + g * g * pub.c2 + P // 2) // P
        s = isqrt(v)
        w = pre["w"] - (m * pub.A) // (s + pub.E)
        return {"w": w, "m": m, "v": v}, {"s": s}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        s = hints["s"]
        dw = pre["w"] - post["w"]
        D = s + pub.E
        q = post["v"] - s * s
        c = post["m"] * pub.A - dw * D
        return {
            "m' is the rounded mean": pre["m"] * pub.b1 + g * pub.c1 + P // 2 - post["m"] * P,
            "v' is the rounded mean": pre["v"] * pub.b2 + g * g * pub.c2 + P // 2 - post["v"] * P,
            "s*s <= v'": q,
            "v' <= s*s + 2s": s + s - q,
            "dw*D <= A*m'": c,
            "A*m' < (dw+1)*D": D - 1 - c,
            "|dw| < P/2": dw + P // 2,
            "s is an integer of the table": s,
            "|g| < P/2": g + P // 2,
        }
