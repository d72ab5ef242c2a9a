"""The kernels for GPUs, and for a CPU under Triton's interpreter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from zk_autograd.optim.blocks import Part
from zk_autograd.optim.fused import Job, Kernels, Tally, Variant, Work
from zk_autograd.triton_kernels import BLOCK, COUNTS, SUMS
from zk_autograd.triton_kernels.adam import NUMBERS as ADAM_NUMBERS
from zk_autograd.triton_kernels.adam import adam_step
from zk_autograd.triton_kernels.sgd import NUMBERS as SGD_NUMBERS
from zk_autograd.triton_kernels.sgd import sgd_step

_OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}
"""Fused multiply-adds would change nothing (products before sums are exact here): so they need not be argued."""

_NAMES = {"adam": ADAM_NUMBERS, "sgd": SGD_NUMBERS}


class TritonKernels(Kernels):
    """Steps of ``count`` parameters on one device."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._count, self._device = count, device

    def empty(self, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(self._count, dtype=dtype, device=self._device)

    def run(self, work: Work) -> list[Tally]:
        programs = [[-(-len(part.g) // BLOCK) for part in job.parts] for job in work.jobs]
        total = sum(sum(some) for some in programs)
        counts = torch.empty((total, COUNTS), dtype=torch.int64, device=self._device)
        sums = torch.empty((total, SUMS), dtype=torch.float64, device=self._device)
        # One copy to the device for all spans, and one wait for what they counted.
        numbers = torch.tensor([_numbers(work.variant, job) for job in work.jobs], dtype=torch.int64).to(self._device)
        found, begin = [], 0
        for job, own, some in zip(work.jobs, numbers, programs, strict=True):
            first = begin
            for part, grid in zip(job.parts, some, strict=True):
                _launch(work, part, own, counts[begin : begin + grid], sums[begin : begin + grid])
                begin += grid
            count = counts[first:begin]
            found.append((torch.cat([count[:, :3].sum(0), count[:, 3:].max(0).values]), sums[first:begin].sum(0)))
        counted = torch.stack([x for x, _ in found]).tolist()
        summed = torch.stack([x for _, x in found]).tolist()
        return [_tally(job, c, s) for job, c, s in zip(work.jobs, counted, summed, strict=True)]


def _numbers(variant: Variant, job: Job) -> list[int]:
    fmt = job.format
    return [job.public.get(name, 0) for name in _NAMES[variant.family]] + [fmt.scale_g, fmt.clip, fmt.scale_w]


def _launch(work: Work, part: Part, numbers: torch.Tensor, counts: torch.Tensor, sums: torch.Tensor) -> None:
    variant, P, g, n, grid = work.variant, work.P, part.g, len(part.g), (len(counts),)
    at = slice(part.start, part.start + n)
    pre, post, hints = ({name: x[at] for name, x in some.items()} for some in (work.pre, work.post, work.hints))
    integers, image = work.integers[at], work.image[at]
    if variant.family == "sgd":
        sgd_step[grid](
            numbers, g, pre["w"], pre.get("m", pre["w"]), integers, post["w"], post.get("m", integers), image,
            counts, sums, n, P=P, KIND=variant.kind, BLOCK=BLOCK, **_OPTIONS,
        )  # fmt: skip
        return
    adam_step[grid](
        numbers, g, pre["w"], pre["m"], pre["v"], pre.get("h", pre["w"]), integers, post["w"], post["m"],
        post["v"], post.get("h", integers), hints["s"], hints.get("e", hints.get("d", integers)), image, counts, sums,
        n, P=P, BITS=P.bit_length(), DECAY=variant.decay, AMSGRAD=variant.amsgrad, BLOCK=BLOCK,
        **_OPTIONS,
    )  # fmt: skip


def _tally(job: Job, counts: Sequence[int], sums: Sequence[float]) -> Tally:
    kind = (torch.int32, torch.float32) if job.parts[0].g.dtype == torch.float32 else (torch.int64, torch.float64)
    largest = float(torch.tensor(counts[3], dtype=kind[0]).view(kind[1]))
    largest = math.inf if math.isnan(largest) else largest
    return Tally(counts[0], counts[1], counts[2], largest, sums[0], sums[1])
