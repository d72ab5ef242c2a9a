"""Adam and its variants over integers, in PyTorch's form.

Adam: Kingma & Ba, arXiv:1412.6980, algorithm 1. AdamW: Loshchilov & Hutter, arXiv:1711.05101. AMSGrad: Reddi et al.,
arXiv:1904.09237 (PyTorch's form takes the maximum before bias correction).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import (
    FRACTION_BITS,
    LARGEST_WEIGHT,
    Format,
    decay_fx,
    dithered,
    l2_room,
    l2_scale,
    nearest_coprime,
    power_fx,
    round_half_up,
    rounded,
    rounding_offset,
    scale_for,
    weight_scale,
)
from zk_autograd.statement.base import (
    RESOLUTION_ONE,
    UNCHANGED,
    Array,
    Hyper,
    Named,
    Ops,
    Public,
    Range,
    Resolution,
    Statement,
    called,
    check_decay,
    decaying,
    dot,
)

MEMORY = Fraction(1, 8)
"""Share of a former unit of roots that ``E`` stands for at least, after a change to a finer scale.

``E >= 1`` stands for the half unit of a root that is rounded away. Where ``v`` was recorded in units ``2**shift`` times
as large, more of it is not known: without a memory, parameters whose ``v`` was 0 would take steps of ``2**shift``
rates. A whole unit slows down those whose roots are a few units. Measured: an eighth (decision 15)."""

SAMPLES = ({"beta1": 0.0, "beta2": 0.99, "eps": 1e-3}, {"beta1": 0.8, "beta2": 0.7, "eps": 1e-6})

HORIZON = 4096
"""Steps over which :meth:`Adam.reach` lets the gradient do its worst."""


class Adam(Statement):
    """::

        e  = g                                          l2:         e = g + floor((W*w + r) / P)
        m' = floor((b1*m + c1*e + r) / P)               c1 = P - b1
        v' = floor((b2*v + c2*e*e + r) / P)             c2 = (P - b2) * 2**guard
        s  = isqrt(v')
        h' = s                                          amsgrad:    h' = max(k*h, s)
        d  = 0                                          decoupled:  d = floor((W*w + r) / P)
        w' = w - d - floor(A*m' / (2*h' + E))

    On the first step ``b1 = b2 = k = 0``: whatever the genesis state holds for the moments counts for nothing.
    ``r`` is the step's :func:`~zk_autograd.fixed_point.rounding_offset`. The divisor is ``2*s + E`` with ``E >= 1``,
    since ``s + 1/2`` is the mean of the roots that ``s`` stands for. AMSGrad keeps the largest root instead of the
    largest ``v``: the root is monotone, so both are the same. ``W`` is :func:`~zk_autograd.fixed_point.dithered`.

    Args:
        decay: what weight decay is added to: nothing, the gradient (``l2``), or the weights (``decoupled``).
        amsgrad: whether steps are divided by the largest root so far.
    """

    guard = 2
    """Bits that v carries over g**2. The square root always fills the table, so each pair of them costs g one bit; more
    guard bits make A larger, that is, finer when a schedule lowers the rate."""
    root_scale = 2
    """What the root is multiplied with in the divisor."""
    least_E = 1

    def __init__(self, name: str, decay: Literal["none", "l2", "decoupled"] = "none", amsgrad: bool = False) -> None:
        self.name, self._decay, self._amsgrad = name, decay, amsgrad
        self.state = ("w", "m", "v", *("h",) * amsgrad)
        self.hints = ("s", *{"none": (), "l2": ("e",), "decoupled": ("d",)}[decay])
        self.public = ("b1", "c1", "b2", "c2", "A", "E", "r", *("W",) * (decay != "none"), *("k",) * amsgrad)
        self.defaults = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
        if decay != "none":
            self.defaults |= {"weight_decay": 1e-2 if decay == "decoupled" else 1e-4}
        # In units of a finer scale m is larger by 2**k, v by 4**k, and the largest root by 2**k.
        self.rescales = {"b1": 1, "b2": 2} | ({"k": 1} if amsgrad else {})
        self.lookups = 9 + 2 * (decay != "none") + 2 * amsgrad
        options = ["amsgrad=True"] * amsgrad + ["weight_decay=…"] * (decay == "l2")
        self.optimizer = called("AdamW" if decay == "decoupled" else "Adam", *options)
        rates = {"none": (), "l2": (0.0, 1e-2), "decoupled": (0.0, 0.3)}[decay]
        self.samples = decaying(SAMPLES, *rates)

    def check_hyper(self, hyper: Hyper) -> None:
        for name in ("beta1", "beta2"):
            if not 0.0 <= hyper[name] < 1.0:
                raise FormatError(f"{self.name}: expected 0 <= {name} < 1, got {hyper[name]!r}")
        if not 0.0 < hyper["eps"] <= 1.0:
            raise FormatError(f"{self.name}: expected 0 < eps <= 1, got {hyper['eps']!r}")
        if hyper["beta1"] ** 2 >= hyper["beta2"]:
            raise FormatError(
                f"{self.name}: expected beta1^2 < beta2 (else no bound on a step exists), "
                f"got {hyper['beta1']!r}, {hyper['beta2']!r}"
            )
        check_decay(self.name, hyper)

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        scale_g, fixed = self._gradient_scale(hyper, clip, P)
        # |dw| <= reach * lr * 2**scale_w; 1 % covers the rounding of A.
        room = (P // 2 - 1) / (1.01 * self.reach(hyper, P))

        def finest(lr: float) -> float:
            scale = math.log2(room / lr)
            if self._decay == "l2":
                return min(scale, l2_scale(fixed, P))
            if self._decay == "decoupled":
                # |W*w|/P < P/2, W being at most one above its mean.
                return min(scale, math.log2(P * P / (2 * LARGEST_WEIGHT * (lr * hyper["weight_decay"] * P + 1))))
            return scale

        scale_w = weight_scale(self.name, max_lr, finest)
        return Format(scale_w=scale_w, scale_g=scale_g, guard=self.guard, clip=fixed)

    def largest_divisor(self, P: int) -> int:
        """How large ``2*s + E`` may be: room for both bounds on the root and the quotient."""
        return P

    def _gradient_scale(self, hyper: Hyper, clip: float, P: int) -> tuple[int, int]:
        """The finest ``(scale_g, clip)`` whose divisors keep to :meth:`largest_divisor`."""
        room = self.largest_divisor(P)
        scale, _ = scale_for(clip, (room - self.least_E) // self.root_scale >> self.guard // 2)
        for scale_g in range(scale, -1, -1):
            limit = self._limit(hyper, scale_g, P)
            fixed = min(limit, math.floor(clip * 2.0**scale_g))
            if fixed >= 1 and limit >= 0.995 * clip * 2.0**scale_g:
                return scale_g, fixed
        raise FormatError(f"{self.name}: eps {hyper['eps']!r} and clip {clip!r} together do not fit a table of {P}")

    def _limit(self, hyper: Hyper, scale_g: int, P: int) -> int:
        """The largest gradient whose divisors keep to :meth:`largest_divisor`, decay included."""
        room = self.largest_divisor(P) - self._E(hyper, 1 << FRACTION_BITS, scale_g)
        limit = room // self.root_scale >> self.guard // 2
        return limit - l2_room(hyper["weight_decay"], limit, scale_g) if self._decay == "l2" else limit

    def room(self, hyper: Hyper, max_lr: float, fmt: Format, P: int) -> int:
        return self._limit(hyper, fmt.scale_g, P) if fmt.guard == self.guard else 0

    @classmethod
    def reach(cls, hyper: Hyper, P: int) -> float:
        """An upper bound on ``|w - w'| / (lr * 2**scale_w)`` over all gradient sequences.

        Large gradients obey Cauchy-Schwarz: ``|m| <= bound * sqrt(v)``. Gradients so small that ``v`` stays 0 may reach
        further (their ``m`` is then divided by ``E`` alone), so the largest such ``m`` is found by trying: each step
        takes the largest gradient that the step's offset still rounds away in ``v`` and, being negative, not in ``m``.
        The cases between the two were searched exhaustively and lie below (``tests/statement/test_formats.py``).
        """
        b1, b2, c1, c2 = cls._means(hyper, P)
        c2 <<= cls.guard
        m = largest = 0
        for step in range(1, HORIZON):
            r = rounding_offset(step, P)
            m = (b1 * m - c1 * math.isqrt((P - 1 - r) // c2) + r) // P
            largest = max(largest, -m)
        # Above 1 on early steps only if beta2 is low; then the correction multiplies the step.
        correction = max(1.0, math.sqrt(1 - b2 / P) / (1 - b1 / P))
        beta1, beta2 = b1 / P, b2 / P
        cauchy_schwarz = (1 - beta1) / math.sqrt((1 - beta2) * (1 - beta1 * beta1 / beta2))
        alone = cls._unit(cls.guard) / cls.least_E
        return max(alone * largest * correction, 1.2 * cauchy_schwarz * correction)

    @classmethod
    def _unit(cls, guard: int) -> int:
        """The divisor of a root of 1, at the gradients' scale: what A is finer by than the rate."""
        return cls.root_scale << guard // 2

    @classmethod
    def _means(cls, hyper: Hyper, P: int) -> tuple[int, int, int, int]:
        b1, b2 = (decay_fx(f"adam: {name}", hyper[name], P) for name in ("beta1", "beta2"))
        if b1 * b1 >= b2 * P:
            raise FormatError(f"adam: beta1 and beta2 are too close, {hyper['beta1']!r} and {hyper['beta2']!r}")
        return b1, b2, P - b1, P - b2

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        b1, b2, c1, c2 = self._means(hyper, P)
        one = 1 << FRACTION_BITS
        m_sum = one - power_fx(b1, P, step)
        v_root = math.isqrt((one - power_fx(b2, P, step)) << FRACTION_BITS)
        lr_over, lr_under = lr.as_integer_ratio()
        A = rounded(lr_over * v_root * self._unit(fmt.guard) << fmt.scale_w, lr_under * m_sum)
        first = step == 1
        pub = Public(
            b1=0 if first else b1,
            c1=c1,
            b2=0 if first else b2,
            c2=c2 << fmt.guard,
            A=nearest_coprime(A, P),
            E=self._E(hyper, v_root, fmt.scale_g, fmt.guard),
            r=rounding_offset(step, P),
        )
        if self._decay == "l2":
            pub["W"] = dithered(Fraction(hyper["weight_decay"]) * P * Fraction(2) ** (fmt.scale_g - fmt.scale_w), step)
        elif self._decay == "decoupled":
            pub["W"] = dithered(Fraction(lr) * Fraction(hyper["weight_decay"]) * P, step)
        if self._amsgrad:
            pub["k"] = 0 if first else 1
        return pub

    def resolution(self, hyper: Hyper, known: Resolution, step: int, shift: int, P: int) -> Resolution:
        units = max(self._faded(hyper, known, step, P), RESOLUTION_ONE)
        return Resolution(step, units << shift if shift > 0 else units >> -shift)

    def _faded(self, hyper: Hyper, known: Resolution, step: int, P: int) -> int:
        """A unit in which roots were once recorded, at ``step``: as what they hold from then, it fades with beta2."""
        if not known.units:
            return 0
        left = power_fx(self._means(hyper, P)[1], P, step - known.step)
        return known.units * math.isqrt(left << FRACTION_BITS) >> FRACTION_BITS

    def step_integers(
        self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int, shift: int = 0, known: Resolution = UNCHANGED
    ) -> Public:
        pub = super().step_integers(hyper, lr, step, fmt, P, shift)
        if known.units:
            faded = Fraction(self._faded(hyper, known, step, P), RESOLUTION_ONE)
            pub["E"] = max(pub["E"], round_half_up(MEMORY * faded * self.root_scale / 2))
        return pub

    def rate_unit(self, fmt: Format, P: int) -> float:
        return 2.0**-fmt.scale_w / self._unit(fmt.guard)

    def rate_error(self, hyper: Hyper, lr: float, fmt: Format, P: int) -> float:
        # Steps are rounded down, by half a unit of a weight on average.
        return super().rate_error(hyper, lr, fmt, P) + 0.5 / (lr * 2.0**fmt.scale_w)

    @classmethod
    def _E(cls, hyper: Hyper, v_root: int, scale_g: int, guard: int | None = None) -> int:
        scale = cls._unit(cls.guard if guard is None else guard) << scale_g
        over, under = hyper["eps"].as_integer_ratio()
        return max(cls.least_E, rounded(over * v_root * scale, under << FRACTION_BITS))

    def advance(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        hints: dict[str, Array] = {}
        decay = (pre["w"] * pub.W + pub.r) // P if self._decay != "none" else None
        e = g
        if self._decay == "l2":
            hints["e"] = e = g + decay
        m = (pre["m"] * pub.b1 + e * pub.c1 + pub.r) // P
        v = (pre["v"] * pub.b2 + e * e * pub.c2 + pub.r) // P
        hints["s"] = root = ops.isqrt(v)
        post: dict[str, Array] = {"m": m, "v": v}
        if self._amsgrad:
            post["h"] = root = ops.maximum(pre["h"] * pub.k, root)
        post["w"] = pre["w"] - (m * pub.A) // self._divisor(root, root + root, pub.E)
        if self._decay == "decoupled":
            hints["d"] = decay
            post["w"] = post["w"] - decay
        return post, hints

    def _divisor(self, root: Array, twice: Array, E: Array) -> Array:
        return twice + E

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        s = hints["s"]
        e = hints["e"] if self._decay == "l2" else g
        root = post["h"] if self._amsgrad else s
        s2 = s + s
        # Minus dw and D - 1: so that c is one sum of products.
        up = self._moved(pre, post, hints)
        if self._decay == "decoupled":
            up = up + hints["d"]
        last = self._divisor(root, root + root if self._amsgrad else s2, pub.E - 1)
        q = post["v"] - s * s
        c = dot((post["m"], pub.A), (up, last), plus=up)
        found = {
            "m' is the rounded mean": dot((pre["m"], pub.b1), (e, pub.c1), (post["m"], -P), plus=pub.r),
            "v' is the rounded mean": dot((pre["v"], pub.b2), (e, e * pub.c2), (post["v"], -P), plus=pub.r),
            "s*s <= v'": q,
            "v' <= s*s + 2s": s2 - q,
            "dw*D <= A*m'": c,
            "A*m' < (dw+1)*D": last - c,
            "|dw| < P/2": up + (P - 1 - P // 2),
        } | self._integers(g, hints, P)
        if self._decay == "l2":
            found["e is g and the rounded decay"] = dot((pre["w"], pub.W), (e - g, -P), plus=pub.r)
            found["|e| < P/2"] = e + P // 2
        elif self._decay == "decoupled":
            found["d is the rounded decay"] = dot((pre["w"], pub.W), (hints["d"], -P), plus=pub.r)
            found["|d| < P/2"] = hints["d"] + P // 2
        if self._amsgrad:
            grown, above = root - pre["h"] * pub.k, root - s
            found["h' >= h"] = grown
            found["h' >= s"] = above
            # Of an integer, the P-fold is in [0, P) only if it is 0.
            found["h' is h or s"] = grown * above * P
        return found

    def _moved(self, pre: Named, post: Named, hints: Named) -> Array:
        """What step and decay add to a weight."""
        return post["w"] - pre["w"]

    def _integers(self, g: Array, hints: Named, P: int) -> dict[str, Array]:
        """Bounds without which the gradient or the root could be a fraction."""
        found = {"|g| < P/2": g + P // 2}
        # AMSGrad's own bounds make h' an integer, and s with it.
        return found if self._amsgrad else found | {"s is an integer of the table": hints["s"]}

    def ranges(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> list[Range]:
        dw = -self._moved(pre, post, hints)
        found = []
        if self._decay == "decoupled":
            dw = dw - hints["d"]
            found.append(Range(hints["d"], -(P // 2), P - 1 - P // 2))
        elif self._decay == "l2":
            found.append(Range(hints["e"], -(P // 2), P - 1 - P // 2))
        root = post["h"] if self._amsgrad else hints["s"]
        return [
            Range(dw, -(P // 2), P - 1 - P // 2),
            Range(root, 0, (self.largest_divisor(P) - pub.E) // self.root_scale),
            *found,
        ]


FAMILY = (
    Adam("adam"),
    Adam("adam-l2", decay="l2"),
    Adam("adamw", decay="decoupled"),
    Adam("amsgrad", amsgrad=True),
    Adam("amsgrad-l2", decay="l2", amsgrad=True),
    Adam("amsgradw", decay="decoupled", amsgrad=True),
)
