"""A model's parameters as one flat vector, in a fixed order, and the way between integers and floats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import torch

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.optim.advance import CHUNK
from zk_autograd.optim.blocks import Part, Span
from zk_autograd.optim.images import Images, main_device
from zk_autograd.statement import Region

LARGEST = 1 << 49
"""No weight integer may start at or above this: leaves every product of a statement inside 64 bits."""


DIRECT = 1 << 15
"""Gradients of so many elements are not copied for kernels: each is work of its own then, which smaller ones share."""


@dataclass(frozen=True, eq=False)
class Gradients:
    """One step's gradients as integers, and what that took from them.

    Attributes:
        integers: int64 of shape (parameters,).
        saturated: elements that were clipped.
        underflow: elements that were not zero and became zero.
        rounding: norm of what rounding and clipping took from the gradient, over the gradient's norm; 0 to 1.
        largest: of each span, the largest element in size, as a real.
    """

    integers: torch.Tensor
    saturated: int
    underflow: int
    rounding: float
    largest: tuple[float, ...]


class FlatParameters:
    """The covered parameters. Element ``i`` of every flat vector belongs to the same weight.

    Flat vectors are on one device, the one that holds most parameters; others' are copied there and back.

    Args:
        named: names (for messages) and parameters, in the order that is committed to.
        regions: by parameter where its elements lie in its part of a flat vector; the rest of the part is padding.
            None: as they are.
    Raises:
        UsageError: there is none, one comes twice, or they are not real numbers with memory of their own.
    """

    def __init__(
        self, named: Sequence[tuple[str, torch.Tensor]], regions: Sequence[Region | None] | None = None
    ) -> None:
        if not sum(p.numel() for _, p in named):
            raise UsageError("optimizer: no parameter requires a gradient, so there is nothing to train")
        if len({id(p) for _, p in named}) != len(named):
            raise UsageError("optimizer: a parameter was given twice")
        for name, p in named:
            if not p.is_floating_point() or p.layout != torch.strided:
                raise UsageError(f"optimizer: {name} is {p.dtype}, {p.layout}: expected dense real numbers")
            if any(stride == 0 and size > 1 for stride, size in zip(p.stride(), p.shape, strict=True)):
                raise UsageError(f"optimizer: {name} is expanded: its elements share memory; give it memory of its own")
        self.device = main_device(named)
        self.named = list(named)
        self._regions = regions or [None] * len(named)
        self.sizes = [r.size if r else p.numel() for r, (_, p) in zip(self._regions, named, strict=True)]
        self.count = sum(self.sizes)
        self._wide = torch.zeros(self.count, dtype=torch.float64, device=self.device)
        self._images = Images(self.named, self.sizes, self.device, self._view)
        self._spare: Images | None = None
        self._missing: Set[int] = frozenset()  # parameters of which there is no image: it is made when asked for
        self._gathered: torch.Tensor | None = None

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Views of ``flat`` in the parameters' shapes."""
        return [self._view(part, i) for i, part in enumerate(torch.split(flat, self.sizes))]

    def _view(self, part: torch.Tensor, number: int) -> torch.Tensor:
        shape, region = self.named[number][1].shape, self._regions[number]
        if region is None:
            return part.view(shape)
        matrix = part.view(-1, region.length)[: region.rows, : region.width]
        return (matrix.T if region.turned else matrix).view(shape)

    def whole(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Views of ``flat`` by parameter, padding included: in its shape, where there is none, else flat."""
        parts = zip(torch.split(flat, self.sizes), self._regions, self.named, strict=True)
        return [part if region else part.view(p.shape) for part, region, (_, p) in parts]

    def read_weights(self, spans: Sequence[Span]) -> torch.Tensor:
        """The weights as integers at ``scale_w``, halves rounded up; FormatError names one that does not fit."""
        for part, (_, p) in zip(self.split(self._wide), self.named, strict=True):
            part.copy_(p)
        for span in spans:
            self._wide[span.part].mul_(2.0**span.format.scale_w)
        self._wide.add_(0.5).floor_()
        for name, index, place in self._bad(self._wide, LARGEST):
            scale = next(span.format.scale_w for span in spans if place < span.stop)
            raise FormatError(
                f"optimizer: {name} holds a weight that is not finite or not below "
                f"{LARGEST / 2.0**scale:.3g} in size (element {index}): it does not fit the fixed-point format"
            )
        return self._wide.to(torch.int64)

    def write_weights(self, integers: torch.Tensor, spans: Sequence[Span]) -> None:
        """Sets the parameters to the image of ``integers``: ``integer / 2**scale_w``, rounded to their dtype."""
        self._images.put(self._image(integers, spans))
        self._missing = frozenset()

    def _image(self, integers: torch.Tensor, spans: Sequence[Span]) -> torch.Tensor:
        self._wide.copy_(integers)
        for span in spans:
            self._wide[span.part].mul_(2.0**-span.format.scale_w)
        return self._wide

    @property
    def spare(self) -> torch.Tensor:
        """Memory for an image of the weights beside that of now, float64 if a parameter is, else float32."""
        if self._spare is None:
            self._spare = Images(self.named, self.sizes, self.device, self._view)
        return self._spare.real

    def put_spare(self, shown: Set[int]) -> None:
        """Sets the parameters to the image in :attr:`spare`, but for those ``shown``, which hold theirs already."""
        assert self._spare is not None
        self._images, self._spare = self._spare, self._images
        self._images.put(omitted=shown)
        self._missing = shown

    def check_parameters(self) -> None:
        """UsageError unless every parameter still has its precision, shape and device."""
        for image, (name, p) in zip(self._images.parts, self.named, strict=True):
            if p.device != image.device or p.dtype != image.dtype or p.shape != image.shape:
                raise UsageError(
                    f"optimizer: {name} is now {p.dtype} of shape {tuple(p.shape)} on {p.device}, it was {image.dtype} "
                    f"of shape {tuple(image.shape)} on {image.device}: convert the model before making the optimizer"
                )

    def check_weights(self, integers: torch.Tensor, spans: Sequence[Span], omitted: Set[int] = frozenset()) -> None:
        """UsageError unless every parameter that is not ``omitted`` holds the image of ``integers``, those of now."""
        if not self._missing <= omitted:
            self._images.fill(self._image(integers, spans))
            self._missing = frozenset()
        changed = self._images.first_changed(omitted)
        if changed is not None:
            raise UsageError(
                f"optimizer: {changed} was changed outside the optimizer, so its step would not follow from the "
                "committed state; undo the change, or call optimizer.requantize() to begin a new run from here"
            )

    def read_gradients(self, spans: Sequence[Span], missing_as_zero: bool, negated: bool = False) -> Gradients:
        """The gradients as integers at ``scale_g``, halves rounded up and clipped to the format's ``clip``.

        Args:
            spans: cover all parameters, in order.
            missing_as_zero: a parameter without a gradient counts as one with a zero gradient.
            negated: take them with the other sign.
        Raises:
            UsageError: a gradient is missing or sparse.
            FormatError: a gradient is not finite.
        """
        self._gather(missing_as_zero, negated)
        integers = torch.empty(self.count, dtype=torch.int64, device=self.device)
        saturated = underflow = 0
        largest, norm, lost = [], 0.0, 0.0
        for span in spans:
            scale, clip, most = 2.0**span.format.scale_g, span.format.clip, 0.0
            for part in self._chunks(span):
                exact, peak = self._wide[part], self._peak(part)
                nonzero = int(torch.count_nonzero(exact))
                rounded = exact.mul_(scale).add(0.5).floor_()
                if peak * scale >= clip + 0.5:
                    saturated += int(torch.count_nonzero(rounded.abs() > clip))
                    rounded.clamp_(-clip, clip)
                underflow += nonzero - int(torch.count_nonzero(rounded))
                integers[part] = rounded
                norm += float(torch.dot(exact, exact)) / scale**2
                exact.sub_(rounded)
                lost += float(torch.dot(exact, exact)) / scale**2
                most = max(most, peak)
            largest.append(most)
        return Gradients(integers, saturated, underflow, lost_share(lost, norm, underflow), tuple(largest))

    def largest_gradients(self, spans: Sequence[Span], missing_as_zero: bool) -> list[float]:
        """The largest gradient element of each span in size; errors as :meth:`read_gradients`."""
        self._gather(missing_as_zero, negated=False)
        return [max(self._peak(part) for part in self._chunks(span)) for span in spans]

    def finer_gradients(self) -> bool:
        """Whether a gradient has numbers that :attr:`spare`'s precision has not: ``grad_dtype`` allows that."""
        bits = torch.finfo(self._images.real.dtype).bits
        dtypes = {p.grad.dtype for _, p in self.named if p.grad is not None}
        return not all(dtype.is_floating_point and torch.finfo(dtype).bits <= bits for dtype in dtypes)

    def pieces(self, missing_as_zero: bool, negated: bool, watched: bool) -> list[Part]:
        """The gradients as they are, in :attr:`spare`'s precision, in order.

        Large ones are the parameters' own, to be read only; the others are copied, and hold until the next call.

        Args:
            watched: whether pieces can have parameters' own memory.
        Raises:
            UsageError: a gradient is missing or sparse.
        """
        if self._gathered is None:
            self._gathered = torch.empty_like(self._images.real)
        found: list[Part] = []
        start = copied = 0  # elements from ``copied`` to ``start`` are copied ones
        for number, (size, (name, p)) in enumerate(zip(self.sizes, self.named, strict=True)):
            grad = self._dense(name, p, missing_as_zero)
            if grad is not None and not negated and self._readable(grad):
                if copied < start:
                    found.append(Part(copied, self._gathered[copied:start]))
                held = p.view(-1) if watched and self._readable(p) else None
                found.append(Part(start, grad.view(-1), held, number))
                copied = start + size
            else:
                _copy(self._view(self._gathered[start : start + size], number), grad, negated)
            start += size
        return found if copied == start else [*found, Part(copied, self._gathered[copied:start])]

    def _readable(self, x: torch.Tensor) -> bool:
        """Whether a gradient or a parameter is large, and can be read where it is."""
        own = x.is_contiguous() and not x.is_neg()  # not a view that has yet to be negated
        return own and x.numel() >= DIRECT and x.dtype == self._images.real.dtype and x.device == self.device

    def _gather(self, missing_as_zero: bool, negated: bool) -> None:
        for part, (name, p) in zip(self.split(self._wide), self.named, strict=True):
            _copy(part, self._dense(name, p, missing_as_zero), negated)

    @staticmethod
    def _dense(name: str, p: torch.Tensor, missing_as_zero: bool) -> torch.Tensor | None:
        """A parameter's gradient; None for one that counts as zero."""
        if p.grad is None and not missing_as_zero:
            raise UsageError(
                f"optimizer: {name} has no gradient, but every covered parameter takes part in every step: "
                "call backward() first, freeze it (requires_grad=False) before making the optimizer, or pass "
                'missing_grad="zero" to take a missing gradient as zero'
            )
        if p.grad is not None and p.grad.layout != torch.strided:
            raise UsageError(f"optimizer: the gradient of {name} is {p.grad.layout}; only dense gradients are proven")
        return p.grad

    def _chunks(self, span: Span) -> Iterator[slice]:
        """The span in pieces that stay in a CPU's caches; whole on other devices."""
        size = CHUNK if self.device.type == "cpu" else span.stop - span.start
        return (slice(start, min(start + size, span.stop)) for start in range(span.start, span.stop, size))

    def _peak(self, part: slice) -> float:
        """The largest element in size of gathered gradients; FormatError names one that is not finite."""
        low, high = (float(x) for x in self._wide[part].aminmax())
        if math.isfinite(low) and math.isfinite(high):
            return max(high, -low)
        name, index, _ = next(self._bad(self._wide))
        raise FormatError(
            f"optimizer: the gradient of {name} is not finite (element {index}); no step was taken, the state is "
            "as before: skip the batch, or lower the learning rate"
        )

    def _bad(self, flat: torch.Tensor, limit: float = math.inf) -> Iterator[tuple[str, int, int]]:
        """Of each parameter the first element that is not a number below ``limit`` in size: its name, and where it is
        in the parameter and in ``flat``."""
        if bool((flat.abs() < limit).all()):
            return
        start = 0
        for part, (name, _) in zip(torch.split(flat, self.sizes), self.named, strict=True):
            inside = part.abs() < limit
            if not bool(inside.all()):
                index = int((~inside).nonzero()[0])
                yield name, index, start + index
            start += len(part)


def _copy(part: torch.Tensor, grad: torch.Tensor | None, negated: bool) -> None:
    if grad is None:
        part.zero_()
    elif negated:
        part.copy_(grad).neg_()
    else:
        part.copy_(grad)


def lost_share(lost: float, norm: float, underflow: int) -> float:
    """The norm of what was lost over that of all, from their squares; 1 if it is lost to floats that some are not 0."""
    share = math.sqrt(lost / norm) if 0 < norm < math.inf else float(norm > 0 or underflow > 0)
    return min(share, 1.0)
