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
from zk_autograd.host_kernels.gradient import show
from zk_autograd.host_kernels.sgd import sgd
from zk_autograd.optim.buffers import Buffers
from zk_autograd.optim.fused import NARROW, Job, Kernels, Tally, Variant, Work, stored
from zk_autograd.statement import Public

Call = tuple[Any, Sequence[Any]]
"""A function and its arguments."""

Array = np.ndarray[Any, Any]

CHUNK = 1 << 16
"""Elements that a thread takes at a time; their number decides in which order float sums are added, so it is fixed."""


def covers(P: int) -> bool:
    """Whether the kernels' arithmetic is exact for tables of this size."""
    return P <= LARGEST_TABLE


class HostKernels(Kernels):
    """Steps of ``count`` parameters, on as many threads as torch uses.

    Weights are kept in 32 bits, and in 64 from when they once do not fit.

    Args:
        means: whether ``m`` is a mean of what fits 16 bits, and is kept in 16 as long as it fits.
    """

    watches = True

    def __init__(self, count: int, means: bool = False) -> None:
        self._buffers = Buffers(count)
        self._narrow = {"w": torch.int32} | ({"m": torch.int16} if means else {})

    def empty(self, dtype: torch.dtype) -> torch.Tensor:
        return self._buffers.empty(dtype)

    def stored(self, name: str, P: int) -> torch.dtype:
        return self._narrow.get(name) or stored(name, P)

    def widen(self, name: str) -> bool:
        return self._narrow.pop(name, None) is not None

    def run(self, work: Work) -> list[Tally] | None:
        if not all(_exact(work.variant, job.public) for job in work.jobs):
            return None
        arrays = _arrays(work)
        calls = [_calls(work, arrays, job) for job in work.jobs]
        results = iter(_spread([call for some in calls for call in some]))
        return [_tally(job, [next(results) for _ in some]) for job, some in zip(work.jobs, calls, strict=True)]

    def show(self, work: Work) -> None:
        w, calls = work.post["w"].numpy(), []
        for job in work.jobs:
            if job.held is not None:
                place, unit = job.held.numpy(), 2.0**-job.format.scale_w
                calls += [
                    (show, (w, job.part.start + i, unit, place[i : i + CHUNK])) for i in range(0, len(place), CHUNK)
                ]
        if calls:
            _spread(calls)


_REACH = {dtype: 1 << (torch.iinfo(dtype).bits - 1) for dtype in (torch.int16, torch.int32)}
"""No integer kept in such an array is larger."""

_FACTORS = {
    "adam": {"b1": "m", "c1": "g", "A": "g", "k": "h"},
    "sgd": {"u": "m", "c": "g", "A": "g", "B": "g"},
}
"""Which kept integers each public one meets in a product. ``A`` and ``B`` also meet ``m'``: see :func:`_end`."""


def _exact(variant: Variant, pub: Public) -> bool:
    """Whether the public integers leave every product below TERM, so that the kernels are exact."""
    products = [pub.get(name, 0) * _REACH[NARROW[other]] for name, other in _FACTORS[variant.family].items()]
    squares = [pub.get(name, 0) << 30 for name in ("b2", "c2")]
    return max(products + squares) < TERM and pub.get("E", 0) < 1 << 30


def _end(pub: Public, *names: str) -> float:
    """In size below this, an integer's products with these public ones are below TERM."""
    return float(TERM // max(1, *(pub.get(name, 0) for name in names)))


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


def _calls(work: Work, arrays: Sequence[Array], job: Job) -> list[Call]:
    """The kernel and its arguments, for each chunk of the job."""
    variant, pub, P = work.variant, job.public, work.P
    g, start = job.g.numpy(), job.part.start
    bits = g.view(np.int32 if g.dtype == np.float32 else np.int64)
    place = (work.image[job.part] if job.held is None else job.held).numpy()
    flags = g.dtype == np.float32, job.held is not None
    scale_g, clip = 2.0**job.format.scale_g, float(job.format.clip)
    # Halves are rounded up, so the least gradient that is clipped is (clip + 1/2) / scale, which is itself one if it is
    # positive; floats are in the order of their bits.
    above = int(g.dtype.type((clip + 0.5) / scale_g).view(bits.dtype))
    masks = (bits.dtype.type(x) for x in (_unsigned(g), above, above + 1))
    scales = scale_g, clip, 2.0**-job.format.scale_w, _end(pub, "V", "W")
    m_end = 2.0 ** (8 * arrays[1].itemsize - 1)
    if variant.family == "sgd":
        head: tuple[int, ...] = (variant.kind,)
        numbers: tuple[float, ...] = tuple(float(pub.get(name, 0)) for name in ("u", "c", "A", "B", "r", "V", "W"))
        function: Any = sgd
        m_end = min(_end(pub, "A", "B"), m_end)
    else:
        head = (variant.decay, int(variant.amsgrad))
        numbers = tuple(float(pub.get(name, 0)) for name in ("b1", "c1", "b2", "c2", "r", "W", "k"))
        numbers = (pub["A"], pub["E"], *numbers)
        function = adam
    ends = (*arrays, *numbers, P, *masks, *scales, m_end)
    return [
        (function, (*head, *flags, start + i, g[i : i + CHUNK], bits[i : i + CHUNK], place[i : i + CHUNK], *ends))
        for i in range(0, len(g), CHUNK)
    ]


def _arrays(work: Work) -> list[Array]:
    """The flat arrays, as the kernel takes them."""
    pre, post, hints = ({n: x.numpy() for n, x in some.items()} for some in (work.pre, work.post, work.hints))
    integers, w, out_w = work.integers.numpy(), pre["w"], post["w"]
    if work.variant.family == "sgd":
        return [w, pre.get("m", w), integers, out_w, post.get("m", integers)]
    return [
        w, pre["m"], pre["v"], pre.get("h", w), integers, out_w, post["m"], post["v"], post.get("h", integers),
        hints["s"], hints.get("e", hints.get("d", integers)),
    ]  # fmt: skip


def _unsigned(g: Array) -> int:
    return (1 << (8 * g.itemsize - 1)) - 1


def _tally(job: Job, results: Sequence[tuple[Any, ...]]) -> Tally:
    saturated, underflow, undecided, peak, norm, lost = zip(*results, strict=True)
    kind = (np.int32, np.float32) if job.g.dtype == torch.float32 else (np.int64, np.float64)
    largest = float(np.array([max(peak)], kind[0]).view(kind[1])[0])
    largest = math.inf if math.isnan(largest) else largest
    return Tally(sum(saturated), sum(underflow), sum(undecided), largest, sum(norm), sum(lost))
