"""Holds kernels against the statements' own arithmetic, on states and gradients at every edge that they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format
from zk_autograd.optim import fused
from zk_autograd.optim.blocks import Span
from zk_autograd.optim.fused import Kernels, Stepped, Task
from zk_autograd.optim.layout import FlatParameters
from zk_autograd.statement import STATEMENTS, Public, Statement

NAMES = sorted(fused.VARIANTS)


@dataclass(frozen=True)
class Case:
    """A step: of which statement, from which state, with which gradients and public integers."""

    statement: Statement
    P: int
    format: Format
    public: Public
    pre: dict[str, torch.Tensor]
    gradients: torch.Tensor

    @torch.no_grad()
    def task(self) -> tuple[Task, FlatParameters]:
        """As the optimizer would ask for it."""
        p = torch.nn.Parameter(torch.zeros_like(self.gradients))
        p.grad = self.gradients.clone()
        spans = [Span(0, 0, len(p), self.format)]
        flat = FlatParameters([("w", p)])
        flat.write_weights(self.pre["w"], spans)
        return Task(self.statement, self.P, spans, [self.public], False, False), flat

    @torch.no_grad()
    def by(self, kernels: Kernels | None) -> tuple[Stepped, torch.Tensor]:
        """The step by these kernels or by the reference; and the weights' image."""
        task, flat = self.task()
        taken = fused.take(kernels, task, flat, self.pre)
        taken.put()
        return taken, flat.named[0][1].detach()

    @torch.no_grad()
    def decided(self, kernels: Kernels) -> bool:
        """Whether the kernels decide it."""
        task, flat = self.task()
        return fused._by_kernels(kernels, task, flat, self.pre) is not None


def hold(case: Case, kernels: Kernels) -> Stepped:
    """Fails unless the kernels' step is the reference's, bit for bit, and they decide every step within the table."""
    expected, image = case.by(None)
    found, own_image = case.by(kernels)
    assert found.by_kernels == (expected.done.limited == 0)
    same(found, expected)
    assert torch.equal(own_image, image)
    return found


def same(found: Stepped, expected: Stepped) -> None:
    """Fails unless both steps have the same integers and counts."""
    for got, reference in ((found.done.post, expected.done.post), (found.done.hints, expected.done.hints)):
        assert set(got) == set(reference)
        for name, x in reference.items():
            assert torch.equal(got[name].to(torch.int64), x), name
    assert torch.equal(found.done.g.to(torch.int64), expected.done.g)
    a, b = found.read, expected.read
    assert (a.saturated, a.underflow, a.largest) == (b.saturated, b.underflow, b.largest)
    assert found.done.limited == expected.done.limited
    assert abs(a.rounding - b.rounding) <= 1e-9


def refused(case: Case, kernels: Kernels) -> bool:
    """Whether the reference refuses the step; then the kernels must not have decided it."""
    try:
        case.by(None)
    except FormatError:
        assert not case.decided(kernels)
        return True
    return False


def honest(name: str, logrows: int, step: int, dtype: torch.dtype, rng: np.random.Generator, n: int) -> Case:
    """A step of a run's own format, from a state such as a run may have, with gradients that hit every edge."""
    st, P = STATEMENTS[name], 2**logrows - 8
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, P)
    public = st.public_integers(st.defaults, float(rng.uniform(0, 1e-3)), step, fmt, P)
    largest = (P // 2 - public.get("E", 0)) // 2
    s = rng.integers(0, max(largest, 1), n)
    pre = {"w": rng.integers(-(2**26), 2**26, n), "m": rng.integers(-fmt.clip, fmt.clip + 1, n) // 8}
    if "v" in st.state:
        pre["v"] = np.maximum(s * s + rng.integers(-1, 2, n), 0)
        pre["m"] = pre["m"] * s // max(largest, 1)  # a run's means are bounded by its roots
        pre["h"] = np.maximum(s, rng.integers(0, max(largest, 1), n))
    return Case(st, P, fmt, public, _tensors(st, pre), gradients(fmt, dtype, rng, n))


def gradients(fmt: Format, dtype: torch.dtype, rng: np.random.Generator, n: int) -> torch.Tensor:
    """Halves, neighbours of the clipping bound, zeros of both signs, the least and the largest numbers, and others."""
    info = torch.finfo(dtype)
    whole = rng.integers(-fmt.clip - 3, fmt.clip + 4, n)
    near = (whole + rng.choice([-0.5, -0.25, 0.0, 0.25, 0.5], n)) / 2.0**fmt.scale_g
    ends = np.array([fmt.clip, fmt.clip + 0.5, -fmt.clip - 0.5, -fmt.clip - 0.75, 0.5, -0.5, 0.25]) / 2.0**fmt.scale_g
    special = np.array([0.0, -0.0, info.tiny, -info.tiny, info.max, -info.max, *ends])
    small = rng.normal(0, 1, n) * 10.0 ** rng.uniform(-8, 1, n)
    chosen = np.choose(rng.integers(0, 3, n), [near, small, rng.choice(special, n)])
    return torch.tensor(np.clip(chosen, -info.max, info.max)).to(dtype)


def _tensors(st: Statement, pre: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(pre[name], dtype=torch.int64) for name in st.state}


def adam_at_edges(name: str, P: int, A: int, E: int, rng: np.random.Generator, beyond: bool = False) -> Case:
    """Steps whose quotients and roots lie on, just below and just above integers, of both signs, to the table's ends.

    With ``b1 = b2 = P`` and gradients of 0 ``m'`` and ``v'`` are ``m`` and ``v``, so both can be chosen.
    """
    st = STATEMENTS[name]
    root = rng.integers(0, (P - E) // 2 + 1, 4096)
    root[:8] = [0, 1, 2, 3, (P - E) // 2, (P - E) // 2 - 1, (P - E) // 4, 4]
    v = root * root + rng.choice([0, 0, 1, -1], len(root))
    v = np.clip(v, 0, ((P - E) // 2 + 1) ** 2 - 1)
    root = np.array([int(x) for x in np.floor(np.sqrt(v.astype(np.float64)))])
    D = 2 * root + E
    q = rng.integers(-(P // 2), P - P // 2, len(root))
    q[8:16] = [-(P // 2), P - P // 2 - 1, 0, -1, 1, -(P // 2), P - P // 2 - 1, 0]
    if beyond:
        q[16:20] = [-(P // 2) - 1, P - P // 2, -P, P]
    # m with A*m in [q*D, q*D + D): the least, the largest, or one between.
    low, high = -((-q * D) // A), (q * D + D - 1) // A
    fits = low <= high
    m = np.where(rng.integers(0, 2, len(q)) == 0, low, high)
    m = np.where(fits, m, 0)
    pre = {"w": rng.integers(-(2**30), 2**30, len(m)), "m": m, "v": v, "h": root}
    public = Public(b1=P, c1=1, b2=P, c2=4, A=A, E=E, r=int(rng.integers(0, P)), W=int(rng.integers(0, 3)), k=1)
    public = Public({n: public[n] for n in st.public})
    fmt = Format(scale_w=20, scale_g=10, guard=2, clip=P // 4)
    return Case(st, P, fmt, public, _tensors(st, pre), torch.zeros(len(m)))
