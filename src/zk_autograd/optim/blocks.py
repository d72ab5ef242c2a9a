"""Spans of the flat parameters that share a format, and how a run's blocks follow from the gradients' sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple

import torch

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import Format, ParameterBlock
from zk_autograd.statement import UNCHANGED, Resolution

MAX_BLOCKS = 1024
"""Most blocks that a run's start can declare."""

LARGEST_BITS = 64
"""No clipping bound is looked for beyond ``2**LARGEST_BITS``."""

MAX_PUBLIC = 8192
"""Most public integers that a step's event can hold, over all blocks."""


@dataclass(frozen=True)
class Span:
    """Elements ``start`` to ``stop`` of the flat parameters: those of group ``group`` in one format.

    ``known`` is how coarsely their state was recorded, if their scale has changed.
    """

    group: int
    start: int
    stop: int
    format: Format
    known: Resolution = UNCHANGED

    @property
    def part(self) -> slice:
        """The span's elements of a flat tensor."""
        return slice(self.start, self.stop)


class Part(NamedTuple):
    """Gradients from element ``start`` on, flat; the number of a parameter and its own memory, if that is watched."""

    start: int
    g: torch.Tensor
    held: torch.Tensor | None = None
    number: int = -1

    def within(self, span: Span) -> Part | None:
        """What of it lies in the span."""
        start, stop = max(span.start, self.start), min(span.stop, self.start + self.g.numel())
        if stop - start == self.g.numel():
            return self
        if start >= stop:
            return None
        own = slice(start - self.start, stop - self.start)
        return self._replace(start=start, g=self.g[own], held=None if self.held is None else self.held[own])


def as_blocks(spans: Sequence[Span]) -> list[ParameterBlock]:
    """What is declared of the spans."""
    return [ParameterBlock(span.group, span.stop - span.start, span.format) for span in spans]


def as_spans(blocks: Sequence[ParameterBlock]) -> list[Span]:
    """Inverse of :func:`as_blocks`."""
    found, start = [], 0
    for block in blocks:
        found.append(Span(block.group, start, start + block.count, block.format))
        start += block.count
    return found


@dataclass(frozen=True)
class Piece:
    """Consecutive parameters of a group whose gradients were looked at together; ``clip`` is the bound they need."""

    group: int
    count: int
    clip: float


def pieces(counts: Sequence[int], size: int | None) -> list[Piece]:
    """Each group's parameters in pieces of ``size``, its last one shorter; a group a piece without a size."""
    found = []
    for group, count in enumerate(counts):
        step = size or count
        found += [Piece(group, min(step, count - start), 0.0) for start in range(0, count, step)]
    return found


def needed_clip(largest: float, headroom: float, declared: float, P: int) -> float:
    """The bound for gradients of which the largest seen is ``largest``: a power of two, so that neighbours agree.

    A piece without any gradient keeps the declared bound: nothing is known of it. No bound is so small that the finest
    scale there is leaves the table unused.

    Raises:
        FormatError: no format takes gradients so large.
    """
    if not largest:
        return declared
    bits = math.ceil(math.log2(headroom) + math.log2(largest))
    if bits > LARGEST_BITS:
        raise FormatError(
            f"optimizer: gradients of up to {largest:.3g} with a headroom of {headroom:g}: expected at most "
            f"2^{LARGEST_BITS}; scale the loss down"
        )
    return max(2.0**bits, P * 2.0**-32)


def merged(found: Sequence[Piece], integers: int, choose: Callable[[int, float], Format]) -> list[ParameterBlock]:
    """Neighbours of equal format as one block; more than that where a run could not declare so many blocks.

    Then neighbours whose bounds differ by up to one bit, two bits and so on become one, with the coarser format.

    Args:
        integers: public integers of a block.
        choose: the format of a group for a bound.
    Raises:
        UsageError: even one block a group is too many.
    """
    limit = min(MAX_BLOCKS, MAX_PUBLIC // integers)
    for tolerance in range(64):
        runs: list[Piece] = []
        for _, same_group in groupby(found, lambda piece: piece.group):
            runs += _joined(list(same_group), 2.0**tolerance)
        if len(runs) <= limit:
            blocks = [ParameterBlock(run.group, run.count, choose(run.group, run.clip)) for run in runs]
            return _equal_joined(blocks)
    raise UsageError(f"optimizer: {len(runs)} parameter groups need more blocks than the {limit} of a run")


def _joined(found: Sequence[Piece], ratio: float) -> list[Piece]:
    """Runs whose largest bound is at most ``ratio`` times the smallest."""
    runs, low = [found[0]], found[0].clip
    for piece in found[1:]:
        last = runs[-1]
        low, high = min(low, piece.clip), max(last.clip, piece.clip)
        if high <= low * ratio:
            runs[-1] = Piece(last.group, last.count + piece.count, high)
        else:
            runs.append(piece)
            low = piece.clip
    return runs


def _equal_joined(blocks: Sequence[ParameterBlock]) -> list[ParameterBlock]:
    """Two bounds may give one format."""
    found = [blocks[0]]
    for before, block in pairwise(blocks):
        if (before.group, before.format) == (block.group, block.format):
            found[-1] = replace(found[-1], count=found[-1].count + block.count)
        else:
            found.append(block)
    return found
