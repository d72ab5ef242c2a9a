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
from zk_autograd.host_kernels.arithmetic import LARGEST_TABLE, LEAST_TABLE
from zk_autograd.host_kernels.sgd import sgd
from zk_autograd.optim.buffers import Buffers
from zk_autograd.optim.fused import Job, Kernels, Tally

CHUNK = 1 << 16
"""Elements that a thread takes at a time; their number decides in which order float sums are added, so it is fixed."""


def covers(P: int) -> bool:
    """Whether the kernels' arithmetic is exact for tables of this size."""
    return LEAST_TABLE - 8 <= P < LARGEST_TABLE


class HostKernels(Kernels):
    """Steps of ``count`` parameters, on as many threads as torch uses."""

    def __init__(self, count: int) -> None:
        self._buffers = Buffers(count)

    def empty(self) -> torch.Tensor:
        return self._buffers.empty()

    def run(self, jobs: Sequence[Job]) -> list[Tally]:
        calls = [(number, *call) for number, job in enumerate(jobs) for call in _calls(job)]
        threads = min(torch.get_num_threads(), len(calls))
        results = map(_called, calls) if threads < 2 else _threads(threads).map(_called, calls)
        found: list[list[Any]] = [[] for _ in jobs]
        for (number, *_), result in zip(calls, results, strict=True):
            found[number].append(result)
        return [_tally(job, results) for job, results in zip(jobs, found, strict=True)]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "zk-step")


os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads


def _called(call: tuple[Any, ...]) -> tuple[Any, ...]:
    _, function, arguments = call
    result: tuple[Any, ...] = function(*arguments)
    return result


def _calls(job: Job) -> list[tuple[Any, tuple[Any, ...]]]:
    """The kernel and its arguments, for each chunk of the span."""
    variant, pub, P = job.variant, job.public, job.P
    g = job.g.numpy()
    bits = g.view(np.int32 if g.dtype == np.float32 else np.int64)
    ends = P, _unsigned(g), 2.0**job.format.scale_g, job.format.clip, 2.0**-job.format.scale_w
    pre, post, hints = ({n: x.numpy() for n, x in some.items()} for some in (job.pre, job.post, job.hints))
    integers, image = job.integers.numpy(), job.image.numpy()
    w, m = pre["w"], pre.get("m", pre["w"])
    out_w, out_m = post["w"], post.get("m", integers)
    if variant.family == "sgd":
        head: tuple[int, ...] = (variant.kind,)
        arrays = [g, bits, w, m, integers, out_w, out_m, image]
        numbers = [pub.get(name, 0) for name in ("u", "c", "A", "B", "r", "V", "W")]
        function: Any = sgd
    else:
        head = (variant.decay, int(variant.amsgrad))
        arrays = [
            g, bits, w, m, pre["v"], pre.get("h", w), integers, out_w, out_m, post["v"], post.get("h", integers),
            hints["s"], hints.get("e", hints.get("d", integers)), image,
        ]  # fmt: skip
        numbers = [pub.get(name, 0) for name in ("b1", "c1", "b2", "c2", "A", "E", "r", "W", "k")]
        function = adam
    return [
        (function, (*head, *(x[start : start + CHUNK] for x in arrays), *numbers, *ends))
        for start in range(0, len(w), CHUNK)
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
