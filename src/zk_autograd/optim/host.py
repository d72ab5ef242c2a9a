"""The kernels for the CPU: chunks of the parameters, shared out among threads."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from zk_autograd.host_kernels.adam import adam
from zk_autograd.host_kernels.arithmetic import LARGEST_TABLE, TERM
from zk_autograd.host_kernels.gradient import copy, same
from zk_autograd.host_kernels.sgd import sgd
from zk_autograd.optim.buffers import Buffers
from zk_autograd.optim.fused import NARROW, Job, Kernels, Tally

Call = tuple[Any, Sequence[Any]]
"""A function and its arguments."""

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]

CHUNK = 1 << 16
"""Elements that a thread takes at a time; their number decides in which order float sums are added, so it is fixed."""


def covers(P: int) -> bool:
    """Whether the kernels' arithmetic is exact for tables of this size."""
    return P <= LARGEST_TABLE


class HostKernels(Kernels):
    """Steps of ``count`` parameters, on as many threads as torch uses."""

    def __init__(self, count: int) -> None:
        self._buffers = Buffers(count)

    def empty(self, dtype: torch.dtype) -> torch.Tensor:
        return self._buffers.empty(dtype)

    def run(self, jobs: Sequence[Job]) -> list[Tally] | None:
        if not all(_exact(job) for job in jobs):
            return None
        calls = [_calls(job) for job in jobs]
        results = iter(_spread([call for some in calls for call in some]))
        found = [[next(results) for _ in some] for some in calls]
        return [_tally(job, results) for job, results in zip(jobs, found, strict=True)]

    def same(self, pairs: Pairs) -> bool:
        calls = _bitwise(same, pairs)
        return calls is not None and all(_spread(calls))

    def copy(self, pairs: Pairs) -> bool:
        calls = _bitwise(copy, pairs)
        if calls is not None:
            _spread(calls)
        return calls is not None


def _bitwise(function: Any, pairs: Pairs) -> list[Call] | None:
    """Calls for chunks of float32 tensors' memory; None if some are no such."""
    calls: list[Call] = []
    for x, y in pairs:
        if x.dtype != torch.float32 or y.dtype != torch.float32 or not (x.is_contiguous() and y.is_contiguous()):
            return None
        bits = [z.detach().reshape(-1).numpy().view(np.int32) for z in (x, y)]
        calls += [(function, [z[i : i + CHUNK] for z in bits]) for i in range(0, x.numel(), CHUNK)]
    return calls


_REACH = {dtype: 1 << (torch.iinfo(dtype).bits - 1) for dtype in (torch.int16, torch.int32)}
"""No integer kept in such an array is larger."""

_FACTORS = {
    "adam": {"b1": "m", "c1": "g", "A": "g", "k": "h"},
    "sgd": {"u": "m", "c": "g", "A": "g", "B": "g"},
}
"""Which kept integers each public one meets in a product. ``A`` and ``B`` also meet ``m'``: see :func:`_end`."""


def _exact(job: Job) -> bool:
    """Whether the public integers leave every product below TERM, so that the kernels are exact."""
    pub = job.public
    products = [pub.get(name, 0) * _REACH[NARROW[other]] for name, other in _FACTORS[job.variant.family].items()]
    squares = [pub.get(name, 0) << 30 for name in ("b2", "c2")]
    return max(products + squares) < TERM and pub.get("E", 0) < 1 << 30


def _end(job: Job, *names: str) -> float:
    """In size below this, an integer's products with these public ones are below TERM."""
    return float(TERM // max(1, *(job.public.get(name, 0) for name in names)))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "zk-step")


os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads


def _spread(calls: Sequence[Call]) -> list[Any]:
    """The calls' results in order, made by as many threads as torch uses, of which the caller's is one.

    Each takes the next call that nobody has taken.
    """
    results: list[Any] = [None] * len(calls)
    waiting = iter(range(len(calls)))  # next() is one step of the interpreter, so no two threads get the same

    def work() -> None:
        for i in waiting:
            function, arguments = calls[i]
            results[i] = function(*arguments)

    helpers = min(torch.get_num_threads(), len(calls)) - 1
    helping = [_threads(helpers).submit(work) for _ in range(helpers)]
    work()
    for done in helping:
        done.result()
    return results


def _calls(job: Job) -> list[Call]:
    """The kernel and its arguments, for each chunk of the span."""
    variant, pub, P = job.variant, job.public, job.P
    g = job.g.numpy()
    bits = g.view(np.int32 if g.dtype == np.float32 else np.int64)
    single, scale_g, clip = g.dtype == np.float32, 2.0**job.format.scale_g, float(job.format.clip)
    # Halves are rounded up, so the least gradient that is clipped is (clip + 1/2) / scale, which is itself one if it is
    # positive; floats are in the order of their bits.
    above = int(g.dtype.type((clip + 0.5) / scale_g).view(bits.dtype))
    masks = (bits.dtype.type(x) for x in (_unsigned(g), above, above + 1))
    scales = scale_g, clip, 2.0**-job.format.scale_w, _end(job, "V", "W")
    pre, post, hints = ({n: x.numpy() for n, x in some.items()} for some in (job.pre, job.post, job.hints))
    integers, image = job.integers.numpy(), job.image.numpy()
    w, m = pre["w"], pre.get("m", pre["w"])
    out_w, out_m = post["w"], post.get("m", integers)
    if variant.family == "sgd":
        head: tuple[int, ...] = (variant.kind, single)
        arrays = [g, bits, w, m, integers, out_w, out_m, image]
        numbers: tuple[float, ...] = tuple(float(pub.get(name, 0)) for name in ("u", "c", "A", "B", "r", "V", "W"))
        function: Any = sgd
        m_end = min(_end(job, "A", "B"), float(_REACH[torch.int32]))
    else:
        head = (variant.decay, int(variant.amsgrad), single)
        arrays = [
            g, bits, w, m, pre["v"], pre.get("h", w), integers, out_w, out_m, post["v"], post.get("h", integers),
            hints["s"], hints.get("e", hints.get("d", integers)), image,
        ]  # fmt: skip
        numbers = tuple(float(pub.get(name, 0)) for name in ("b1", "c1", "b2", "c2", "r", "W", "k"))
        numbers = (pub["A"], pub["E"], *numbers)
        function, m_end = adam, float(_REACH[torch.int32])
    ends = (*numbers, P, *masks, *scales, m_end)
    return [
        (function, (*head, *(x[start : start + CHUNK] for x in arrays), *ends)) for start in range(0, len(w), CHUNK)
    ]


def _unsigned(g: np.ndarray[Any, Any]) -> int:
    return (1 << (8 * g.itemsize - 1)) - 1


def _tally(job: Job, results: Sequence[tuple[Any, ...]]) -> Tally:
    saturated, underflow, outside = (sum(int(r[i]) for r in results) for i in range(3))
    kind = (np.int32, np.float32) if job.g.dtype == torch.float32 else (np.int64, np.float64)
    largest = float(np.array([max(int(r[3]) for r in results)], kind[0]).view(kind[1])[0])
    return Tally(
        saturated, underflow, outside, math.inf if math.isnan(largest) else largest,
        sum(float(r[4]) for r in results), sum(float(r[5]) for r in results),
    )  # fmt: skip
