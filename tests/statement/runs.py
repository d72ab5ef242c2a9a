"""Runs of a statement over numpy integers, for tests: the reference that everything else has to agree with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zk_autograd.fixed_point import Format
from zk_autograd.statement import STATEMENTS, Ops, Public, Statement

Ints = npt.NDArray[np.int64]


HYPER: dict[str, list[dict[str, float]]] = {
    name: [dict(hyper) for hyper in (st.defaults, *st.samples)] for name, st in STATEMENTS.items()
}
"""Hyper-parameters of every statement: its defaults, and its samples."""


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
