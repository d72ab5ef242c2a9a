"""Formats that follow the gradients: calibrated before the first step, and changed where an epoch begins."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import Format, ParameterBlock
from zk_autograd.optim.advice import choose_format
from zk_autograd.optim.blocks import MAX_BLOCKS, MAX_PUBLIC, Piece, as_spans, merged, needed_clip, pieces
from zk_autograd.optim.declared import Declared
from zk_autograd.optim.rescale import Change, wanted_shift


class Scaled(Declared):
    """What of :class:`~zk_autograd.optim.FixedPointOptimizer` chooses and changes formats."""

    _counts: list[int]
    _missing_as_zero: bool
    _shifts: tuple[int, ...]
    """Changes of scale that the next step will make; empty for none."""
    _largest: list[float]
    """Of each block, the largest gradient since scales were last looked at."""

    @abstractmethod
    def requantize(self) -> None: ...

    @abstractmethod
    def _rates(self) -> tuple[float, ...]: ...

    @abstractmethod
    def _check_parameters(self) -> None: ...

    @abstractmethod
    def _check_weights(self) -> None: ...

    def _choose(self, group: int, clip: float) -> Format:
        """The format of a group for gradients up to ``clip``."""
        rule = self._groups[group]
        return choose_format(self._statement, rule.hyper, rule.max_lr, clip, self._P)

    def _pieces(self, size: int | None) -> list[Piece]:
        """The covered parameters in pieces of ``size`` within each group; in tensors, where a step depends on sums."""
        if not self._statement.carries:
            return pieces(self._counts, size)
        covered = (i for i, group in enumerate(self.param_groups) for p in group["params"] if p.requires_grad)
        return [Piece(i, size, 0.0) for i, size in zip(covered, self._flat.sizes, strict=True) if size]

    def _blocks(self, found: Sequence[Piece], choose: Callable[[int, float], Format]) -> list[ParameterBlock]:
        """Pieces with formats, joined to as few blocks as there can be; layers stay apart."""
        integers = len(self._statement.public)
        if not self._statement.carries:
            return merged(found, integers, choose)
        if len(found) > (limit := min(MAX_BLOCKS, MAX_PUBLIC // integers)):
            raise UsageError(f"optimizer: {len(found)} tensors are that many layers, a run has at most {limit}")
        return [ParameterBlock(piece.group, piece.count, choose(piece.group, piece.clip)) for piece in found]

    def _choose_from(self, group: int, clip: float) -> Format:
        """The same, or for a larger bound, up to the declared one, if scales so fine leave the rate too few units."""
        while True:
            try:
                return self._choose(group, clip)
            except FormatError:
                if clip >= self._groups[group].clip:
                    raise
                clip *= 2

    @torch.no_grad()
    def calibrate(
        self, closure: Callable[[int], Any], batches: int, *, headroom: float = 4.0, block: int | None = None
    ) -> None:
        """Chooses formats from the gradients of the first batches, before the first step.

        Each block's clipping bound becomes the power of two at or above ``headroom`` times its largest gradient
        element, whatever ``clip`` was declared; a block without any gradient keeps the declared bound. No step is
        taken; then the weights are rounded to the new formats.

        Args:
            closure: computes the loss of batch ``1``, ``2`` … and calls ``backward()``.
            batches: how many.
            headroom: how much larger gradients may become; each bit of it costs one of resolution.
            block: parameters that are looked at together, within each group and in flat order: the shard size of the
                circuit (:func:`zk_autograd.proofs.shard_size`) or a multiple. None: a group is one block.
                LAMB's blocks are its layers, whatever is given.
        Raises:
            UsageError: a step was taken already, or an argument makes no sense.
            FormatError: a gradient is not finite, or no format fits, or a weight does not fit it.
        In every case formats and weights are as before.
        """
        if self._step:
            raise UsageError(f"optimizer: formats are chosen before the first step; {self._step} were taken")
        if batches < 1 or not 1.0 <= headroom < math.inf or (block is not None and block < 1):
            raise UsageError(
                "optimizer: expected batches and block of at least 1 and a headroom of at least 1, "
                f"got {batches}, {block}, {headroom}"
            )
        found = self._pieces(block)
        spans = as_spans([ParameterBlock(p.group, p.count, self._spans[0].format) for p in found])
        largest = [0.0] * len(found)
        for batch in range(1, batches + 1):
            self.zero_grad()
            with torch.enable_grad():
                closure(batch)
            self._check_parameters()
            self._check_weights()
            measured = self._flat.largest_gradients(spans, self._missing_as_zero)
            largest = [max(pair) for pair in zip(largest, measured, strict=True)]
        self.zero_grad()
        clips = [
            needed_clip(most, headroom, self._groups[piece.group].clip, self._P)
            for most, piece in zip(largest, found, strict=True)
        ]
        found = [replace(piece, clip=clip) for piece, clip in zip(found, clips, strict=True)]
        before, self._spans = self._spans, as_spans(self._blocks(found, self._choose_from))
        try:
            self.requantize()
        except FormatError:  # a weight does not fit
            self._spans = before
            raise

    @torch.no_grad()
    def rescale(self, shifts: Sequence[int] | None = None, *, headroom: float = 4.0) -> tuple[int, ...]:
        """Changes the blocks' scales of gradients with the next step; for where an epoch begins.

        Args:
            shifts: by how many bits each block's scale becomes finer. None: by as much as leaves ``headroom`` over the
                largest gradient since the last call, and the moments in the table; coarser only where gradients were
                clipped.
        Returns:
            The changes that the next step will make, 0 for none. If a step does not fit the table with them, it is
            taken without: its record says what was done.
        Raises:
            UsageError: before the first step, another number of changes than blocks, or a headroom below 1.
            FormatError: a change that was asked for is not allowed, or takes the state out of the table.
        """
        if not self._step:
            raise UsageError("optimizer: scales change between steps, and none was taken; see calibrate()")
        if shifts is not None and len(shifts) != len(self._spans):
            raise UsageError(f"optimizer: expected changes for {len(self._spans)} blocks, got {len(shifts)}")
        if not 1.0 <= headroom < math.inf:
            raise UsageError(f"optimizer: expected a headroom of at least 1, got {headroom}")
        rates, found = self._rates(), []
        for i, span in enumerate(self._spans):
            change = self._change(i, rates)
            if shifts is None:
                found.append(change.best(wanted_shift(self._largest[i], span.format, headroom)))
            else:
                if shifts[i]:
                    change.check(shifts[i])
                found.append(shifts[i])
        self._shifts = tuple(found) if any(found) else ()
        self._largest = [0.0] * len(self._spans)
        return tuple(found)

    def _change(self, block: int, rates: tuple[float, ...]) -> Change:
        """A block before the next step."""
        span = self._spans[block]
        rule, lr = self._groups[span.group], rates[span.group]
        state = {name: x[span.part].to(torch.int64) for name, x in self._integers.items()}
        return Change(self._statement, rule.hyper, rule.max_lr, self._P, lr, self._step + 1, span, state)
