"""SGD and its variants over integers, in PyTorch's form (Sutskever et al., ICML 2013, for both kinds of momentum)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import (
    DECAY_SHARE,
    LARGEST_WEIGHT,
    Format,
    decay_fx,
    dithered,
    l2_room,
    l2_scale,
    nearest_coprime,
    round_half_up,
    rounding_offset,
    scale_for,
    weight_scale,
)
from zk_autograd.statement.base import (
    FAR,
    Array,
    Hyper,
    Named,
    Ops,
    Pair,
    Public,
    Range,
    Statement,
    called,
    check_decay,
    decaying,
    dot,
)

SAMPLES: dict[str, list[Hyper]] = {
    "plain": [{}, {}],
    "momentum": [{"momentum": 0.99, "dampening": 0.5}, {"momentum": 0.5, "dampening": 0.9}],
    "nesterov": [{"momentum": 0.99}, {"momentum": 0.01}],
}


class SGD(Statement):
    """::

        plain       w' = w - floor((A*g + W*w + r) / P)

        momentum    m' = floor((u*m + c*g + V*w + r) / P)
                    w' = w - floor((A*m' + r) / P)

        nesterov    m' = floor((u*m + P*g + V*w + r) / P)
                    w' = w - floor((A*g + W*w + B*m' + r) / P)

    ``A = lr * 2**(scale_w - scale_g) * P`` and ``B = A*u``; ``u`` is the momentum and ``c`` is 1 - dampening, in units
    of P. Weight decay (L2, as PyTorch's) is ``W`` and ``V``, absent without it, both
    :func:`~zk_autograd.fixed_point.dithered`. On the first step ``u = 0`` and ``c = P``: PyTorch starts the buffer at
    the first gradient. ``r`` is the step's :func:`~zk_autograd.fixed_point.rounding_offset`: steps below half a unit of
    ``w`` add up.

    Args:
        kind: none, heavy-ball or Nesterov momentum.
        decay: whether there is weight decay.
    """

    def __init__(self, name: str, kind: Literal["plain", "momentum", "nesterov"], decay: bool = False) -> None:
        self.name, self._kind, self._decay = name, kind, decay
        moment, nesterov = kind != "plain", kind == "nesterov"
        self.state = ("w", *("m",) * moment)
        self.hints = ()
        names = [("u", moment), ("c", kind == "momentum"), ("A", True), ("B", nesterov), ("r", True)]
        names += [("V", decay and moment), ("W", decay and kind != "momentum")]
        self.public = tuple(name for name, there in names if there)
        hyper = [("momentum", 0.9, moment), ("dampening", 0.0, kind == "momentum"), ("weight_decay", 1e-4, decay)]
        self.defaults = {name: value for name, value, there in hyper if there}
        self.rescales = {"u": 1} if moment else {}
        self.lookups = 4 if moment else 3
        options = ["momentum=…"] * moment + ["nesterov=True"] * nesterov + ["weight_decay=…"] * decay
        self.optimizer = called("SGD", *options)
        self.samples = decaying(SAMPLES[kind], *(0.0, 1e-2 if moment else 0.1) * decay) if self.defaults else ()
        self.coprime_rate = moment

    def check_hyper(self, hyper: Hyper) -> None:
        for name in ("momentum", "dampening"):
            if not 0.0 <= hyper.get(name, 0.0) < 1.0:
                raise FormatError(f"{self.name}: expected 0 <= {name} < 1, got {hyper[name]!r}")
        check_decay(self.name, hyper)

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        limit = self._limit(hyper, P)
        scale_g, fixed = scale_for(clip, limit)
        # A is moved by at most 16 to be coprime to P, B by as much.
        room = (limit * P / self._reach(hyper, fixed, scale_g, P) - 16) / P * 2.0**scale_g

        def finest(lr: float) -> float:
            scale = math.log2(room / lr) if room > 0 else -math.inf
            if not hyper.get("weight_decay"):
                return scale
            # |W*w|/P stays within its share, W being at most one above its mean.
            share = DECAY_SHARE * P * P / (2 * LARGEST_WEIGHT * (lr * hyper["weight_decay"] * P + 1))
            return min(scale, math.log2(share), *() if self._kind == "plain" else (l2_scale(fixed, P),))

        scale_w = weight_scale(self.name, max_lr, finest)
        return Format(scale_w=scale_w, scale_g=scale_g, guard=0, clip=fixed)

    @staticmethod
    def _limit(hyper: Hyper, P: int) -> int:
        """``|dw| < P/2``, less what the weights' own decay takes of it."""
        return math.floor((P // 2 - 1) * (1 - DECAY_SHARE * bool(hyper.get("weight_decay"))))

    def room(self, hyper: Hyper, max_lr: float, fmt: Format, P: int) -> int:
        # As in choose_format, over fractions: A grows where the scale of gradients falls.
        rate = Fraction(max_lr) * P * Fraction(2) ** (fmt.scale_w - fmt.scale_g)
        fits = (rate + 16) * self._reach(hyper, fmt.clip, fmt.scale_g, P) <= self._limit(hyper, P) * P
        return fmt.clip if fits else 0

    def _reach(self, hyper: Hyper, fixed: int, scale_g: int, P: int) -> int:
        """The largest ``|x|`` over all gradient sequences, the step being ``A*x`` up to rounding."""
        if self._kind == "plain":
            return fixed
        u, c = self._means(hyper, P)
        if self._decay:
            fixed += l2_room(hyper["weight_decay"], fixed, scale_g)
        # Where u*m + c*fixed, rounded away from 0, gives m again; the first step takes the gradient as it is.
        buffer = max(fixed, -(-(c * fixed + P) // (P - u)))
        return fixed + -(-u * buffer // P) if self._kind == "nesterov" else buffer

    def _means(self, hyper: Hyper, P: int) -> tuple[int, int]:
        u, lost = (
            decay_fx(f"{self.name}: {name}", hyper.get(name, 0.0), P) for name in ("momentum", "dampening")
        )  # fmt: skip
        return u, P - lost

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        rate = Fraction(lr) * P * Fraction(2) ** (fmt.scale_w - fmt.scale_g)
        pub = Public(A=round_half_up(rate), r=rounding_offset(step, P))
        if self._kind != "plain":
            u, c = self._means(hyper, P)
            first = step == 1
            pub |= {"u": 0 if first else u}
            if self._kind == "momentum":
                # Coprime to P, so that no fraction of m' can hide in the second remainder.
                pub |= {"c": P if first else c, "A": nearest_coprime(pub.A, P)}
            else:
                pub |= {"B": nearest_coprime(round_half_up(rate * u / P), P)}
        if self._decay:
            decay = Fraction(hyper["weight_decay"])
            if "V" in self.public:
                share = Fraction(1) if step == 1 or self._kind == "nesterov" else Fraction(pub.c, P)
                pub["V"] = dithered(share * decay * P * Fraction(2) ** (fmt.scale_g - fmt.scale_w), step)
            if "W" in self.public:
                pub["W"] = dithered(Fraction(lr) * decay * P, step)
        return Public({name: pub[name] for name in self.public})

    def rate_unit(self, fmt: Format, P: int) -> float:
        return 2.0 ** (fmt.scale_g - fmt.scale_w) / P

    def rate_error(self, hyper: Hyper, lr: float, fmt: Format, P: int) -> float:
        if self._kind != "nesterov":
            return super().rate_error(hyper, lr, fmt, P)
        pub = self.public_integers(hyper, lr, FAR, fmt, P)
        units = pub.A * (1 - pub.u / P) + pub.B
        return abs(float(units * self.rate_unit(fmt, P) / lr - 1))

    def advance(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        if self._kind == "plain":
            return {"w": pre["w"] - dot(*self._step(pre, None, g, pub), plus=pub.r) // P}, {}
        m = dot(*self._moment(pre, g, pub, P), plus=pub.r) // P
        return {"w": pre["w"] - dot(*self._step(pre, m, g, pub), plus=pub.r) // P, "m": m}, {}

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        dw = pre["w"] - post["w"]
        found = {
            "dw is the rounded step": dot(*self._step(pre, post.get("m"), g, pub), (dw, -P), plus=pub.r),
            "|dw| < P/2": dw + P // 2,
            "|g| < P/2": g + P // 2,
        }
        if self._kind == "plain":
            return found
        moment = dot(*self._moment(pre, g, pub, P), (post["m"], -P), plus=pub.r)
        return {"m' is the rounded mean": moment} | found

    def _moment(self, pre: Named, g: Array, pub: Any, P: int) -> list[Pair]:
        """The next moment as a sum of products, in units of 1/P."""
        mean = [(pre["m"], pub.u), (g, pub.c if self._kind == "momentum" else P)]
        return [*mean, (pre["w"], pub.V)] if self._decay else mean

    def _step(self, pre: Named, m: Array, g: Array, pub: Any) -> list[Pair]:
        """The step as a sum of products, in units of 1/P."""
        if self._kind == "momentum":
            return [(m, pub.A)]
        step = [(g, pub.A), *([(pre["w"], pub.W)] if self._decay else [])]
        return [*step, (m, pub.B)] if self._kind == "nesterov" else step

    def ranges(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> list[Range]:
        return [Range(pre["w"] - post["w"], -(P // 2), P - 1 - P // 2)]


FAMILY = (
    SGD("sgd", "plain"),
    SGD("sgd-l2", "plain", decay=True),
    SGD("momentum", "momentum"),
    SGD("momentum-l2", "momentum", decay=True),
    SGD("nesterov", "nesterov"),
    SGD("nesterov-l2", "nesterov", decay=True),
)
