"""Runs of a statement over numpy integers, for tests: the reference that everything else has to agree with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zk_autograd.fixed_point import Format
from zk_autograd.statement import Ops, Public, Statement

Ints = npt.NDArray[np.int64]

_ADAM = [
    {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    {"beta1": 0.0, "beta2": 0.99, "eps": 1e-3},
    {"beta1": 0.8, "beta2": 0.7, "eps": 1e-6},
]
_MOMENTUM = [
    {"momentum": 0.9, "dampening": 0.0},
    {"momentum": 0.99, "dampening": 0.5},
    {"momentum": 0.5, "dampening": 0.9},
]
_NESTEROV = [{"momentum": 0.9}, {"momentum": 0.99}, {"momentum": 0.01}]


def _decaying(hyper: list[dict[str, float]], *rates: float) -> list[dict[str, float]]:
    return [h | {"weight_decay": rate} for h, rate in zip(hyper, rates, strict=True)]


HYPER: dict[str, list[dict[str, float]]] = {
    "adam": _ADAM,
    "adam-l2": _decaying(_ADAM, 1e-4, 0.0, 1e-2),
    "adamw": _decaying(_ADAM, 1e-2, 0.0, 0.3),
    "adam-wide": _ADAM,
    "adamw-wide": _decaying(_ADAM, 1e-2, 0.0, 0.3),
    "amsgrad": _ADAM,
    "amsgrad-l2": _decaying(_ADAM, 1e-4, 0.0, 1e-2),
    "amsgradw": _decaying(_ADAM, 1e-2, 0.0, 0.3),
    "lamb": [
        _ADAM[0] | {"eps": 1e-6, "weight_decay": 1e-2, "max_ratio": 10.0},
        _ADAM[1] | {"weight_decay": 0.0, "max_ratio": 1.0},
        _ADAM[2] | {"weight_decay": 0.3, "max_ratio": 3.0},
    ],
    "sgd": [{}],
    "sgd-l2": _decaying([{}, {}, {}], 1e-4, 0.0, 0.1),
    "momentum": _MOMENTUM,
    "momentum-l2": _decaying(_MOMENTUM, 1e-4, 0.0, 1e-2),
    "nesterov": _NESTEROV,
    "nesterov-l2": _decaying(_NESTEROV, 1e-4, 0.0, 1e-2),
}
"""Hyper-parameters of every statement; the first are its defaults."""


def isqrt(x: Ints) -> Ints:
    """Integer square roots by Python's own arithmetic."""
    return np.array([math.isqrt(int(v)) for v in x], dtype=np.int64)


OPS = Ops(isqrt, np.maximum)


@dataclass(frozen=True)
class Step:
    """One step of a run: everything that a statement's bounds speak of."""

    public: Public
    pre: dict[str, Ints]
    g: Ints
    post: dict[str, Ints]
    hints: dict[str, Ints]


def run(
    st: Statement, hyper: dict[str, float], lr: float, fmt: Format, P: int, gradients: Iterable[Ints]
) -> Iterator[Step]:
    """The steps of a run from zero moments, one for each gradient."""
    state: dict[str, Ints] | None = None
    for number, g in enumerate(gradients, 1):
        pre = state or {name: np.zeros_like(g) for name in st.state}
        pub = st.public_integers(hyper, lr, number, fmt, P)
        state, hints = st.advance(pre, g, pub, P, OPS)
        yield Step(pub, pre, g, state, hints)


def outside(st: Statement, step: Step, P: int, **changed: Any) -> npt.NDArray[np.bool_]:
    """For each element, whether some bound is outside ``[0, P)``; ``changed`` replaces ``post`` or ``hints``."""
    post, hints = changed.get("post", step.post), changed.get("hints", step.hints)
    values = st.bounds(step.pre, post, step.g, hints, step.public, P).values()
    result: npt.NDArray[np.bool_] = np.any([(v < 0) | (v >= P) for v in values], axis=0)
    return result
