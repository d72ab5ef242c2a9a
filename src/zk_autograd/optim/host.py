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

SHOWN = 1 << 18
"""Elements of weights that are shown at a time: that takes less than handing them out."""


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
        single = work.image.dtype == torch.float32
        return [_tally(single, [next(results) for _ in some]) for some in calls]

    def show(self, work: Work) -> None:
        w, calls = work.post["w"].numpy(), []
        for job in work.jobs:
            unit = 2.0**-job.format.scale_w
            for part in job.parts:
                if part.held is not None:
                    place = part.held.numpy()
                    ranges = range(0, len(place), SHOWN)
                    calls += [(show, (w, part.start + i, unit, place[i : i + SHOWN])) for i in ranges]
        _spread(calls, 16)


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


def _spread(calls: Sequence[Call], least: int = 1) -> list[Any]:
    """The calls' results in order, made by as many threads as torch uses, of which the caller's is one.

    Each takes the next call that nobody has taken. So many calls a thread are the ``least`` to ask others for.
    """
    results: list[Any] = [None] * len(calls)
    waiting = iter(range(len(calls)))  # next() is one step of the interpreter, so no two threads get the same

    def work() -> None:
        for i in waiting:
            function, arguments = calls[i]
            results[i] = function(*arguments)

    helpers = max(1, min(torch.get_num_threads(), len(calls) // least)) - 1
    helping = [_threads(helpers).submit(work) for _ in range(helpers)]
    work()
    for done in helping:
        if not done.cancel():  # who has not begun is not waited for
            done.result()
    return results


def _calls(work: Work, arrays: Sequence[Array], job: Job) -> list[Call]:
    """The kernel and its arguments, for each chunk of the job."""
    variant, pub, fmt = work.variant, job.public, job.format
    single = work.image.dtype == torch.float32
    real, integer = (np.float32, np.int32) if single else (np.float64, np.int64)
    scale_g, clip = 2.0**fmt.scale_g, float(fmt.clip)
    # Halves are rounded up, so the least gradient that is clipped is (clip + 1/2) / scale, which is itself one if it is
    # positive; floats are in the order of their bits.
    above = int(real((clip + 0.5) / scale_g).view(integer))
    masks = (integer(x) for x in (np.iinfo(integer).max, above, above + 1))
    scales = scale_g, clip, 2.0**-fmt.scale_w, _end(pub, "V", "W")
    m_end = 2.0 ** (8 * arrays[1].itemsize - 1)
    if variant.family == "sgd":
        function: Any = sgd
        head: tuple[int, ...] = (variant.kind, single)
        numbers: tuple[float, ...] = tuple(float(pub.get(name, 0)) for name in ("u", "c", "A", "B", "r", "V", "W"))
        m_end = min(_end(pub, "A", "B"), m_end)
    else:
        function, head = adam, (variant.decay, int(variant.amsgrad), single)
        numbers = tuple(float(pub.get(name, 0)) for name in ("b1", "c1", "b2", "c2", "r", "W", "k"))
        numbers = (pub["A"], pub["E"], *numbers)
    ends = (*arrays, *numbers, work.P, *masks, *scales, m_end)
    found: list[Call] = []
    for part in job.parts:
        g, held, first = part.g.numpy(), part.held is not None, part.start
        place = work.image[first : first + len(g)] if part.held is None else part.held
        own = (g, g.view(integer), place.numpy())
        found += [
            (function, (*head, held, first, i, min(i + CHUNK, len(g)), *own, *ends)) for i in range(0, len(g), CHUNK)
        ]
    return found


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


def _tally(single: bool, results: Sequence[tuple[Any, ...]]) -> Tally:
    saturated, underflow, undecided, peak, norm, lost = zip(*results, strict=True)
    largest = float(np.int32(max(peak)).view(np.float32) if single else np.int64(max(peak)).view(np.float64))
    largest = math.inf if math.isnan(largest) else largest
    return Tally(sum(saturated), sum(underflow), sum(undecided), largest, sum(norm), sum(lost))
