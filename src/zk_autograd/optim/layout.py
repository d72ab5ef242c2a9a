"""A model's parameters as one flat vector, in a fixed order, and the way between integers and floats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import Format

LARGEST = 1 << 49
"""No weight integer may start at or above this: leaves every product of a statement inside 64 bits."""


class FlatParameters:
    """The covered parameters. Element ``i`` of every flat vector belongs to the same weight.

    Args:
        named: names (for messages) and parameters, in the order that is committed to.
    Raises:
        UsageError: there is none, one comes twice, or they are not real numbers on one device.
    """

    def __init__(self, named: Sequence[tuple[str, torch.Tensor]]) -> None:
        if not sum(p.numel() for _, p in named):
            raise UsageError("optimizer: no parameter requires a gradient, so there is nothing to train")
        if len({id(p) for _, p in named}) != len(named):
            raise UsageError("optimizer: a parameter was given twice")
        for name, p in named:
            if not p.is_floating_point() or p.layout != torch.strided:
                raise UsageError(f"optimizer: {name} is {p.dtype}, {p.layout}: expected dense real numbers")
        self.device = named[0][1].device
        if any(p.device != self.device for _, p in named):
            raise UsageError("optimizer: the parameters are on several devices; put them on one")
        self.named = list(named)
        self.sizes = [p.numel() for _, p in named]
        self.count = sum(self.sizes)
        self._wide = torch.empty(self.count, dtype=torch.float64, device=self.device)
        self._flat_images = {dtype: self._wide.to(dtype, copy=True) for dtype in {p.dtype for _, p in named}}
        views = {dtype: self.split(image) for dtype, image in self._flat_images.items()}
        self._images = [views[p.dtype][i] for i, (_, p) in enumerate(named)]

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Views of ``flat`` in the parameters' shapes."""
        return [part.view(p.shape) for part, (_, p) in zip(torch.split(flat, self.sizes), self.named, strict=True)]

    def read_weights(self, fmt: Format) -> torch.Tensor:
        """The weights as integers at ``scale_w``, halves rounded up; FormatError names one that does not fit."""
        for part, (_, p) in zip(self.split(self._wide), self.named, strict=True):
            part.copy_(p)
        self._wide.mul_(2.0**fmt.scale_w).add_(0.5).floor_()
        for name, index in self._bad(self._wide, LARGEST):
            raise FormatError(
                f"optimizer: {name} holds a weight that is not finite or not below "
                f"{LARGEST / 2.0**fmt.scale_w:.3g} in size (element {index}): it does not fit the fixed-point format"
            )
        return self._wide.to(torch.int64)

    def write_weights(self, integers: torch.Tensor, fmt: Format) -> None:
        """Sets the parameters to the image of ``integers``: ``integer / 2**scale_w``, rounded to their dtype."""
        self._wide.copy_(integers).mul_(2.0**-fmt.scale_w)
        for image in self._flat_images.values():
            image.copy_(self._wide)
        for image, (_, p) in zip(self._images, self.named, strict=True):
            p.copy_(image)

    def check_weights(self) -> None:
        """UsageError unless every parameter still is what :meth:`write_weights` made it."""
        for image, (name, p) in zip(self._images, self.named, strict=True):
            if p.device != image.device or p.dtype != image.dtype or p.shape != image.shape:
                raise UsageError(
                    f"optimizer: {name} is now {p.dtype} of shape {tuple(p.shape)} on {p.device}, it was {image.dtype} "
                    f"of shape {tuple(image.shape)} on {image.device}: convert the model before making the optimizer"
                )
            if not torch.equal(p, image):
                raise UsageError(
                    f"optimizer: {name} was changed outside the optimizer, so its step would not follow from the "
                    "committed state; undo the change, or call optimizer.requantize() to begin a new run from here"
                )

    def read_gradients(
        self, fmt: Format, missing_as_zero: bool, negated: bool = False
    ) -> tuple[torch.Tensor, int, int, float]:
        """The gradients as integers at ``scale_g``, halves rounded up and clipped to ``fmt.clip``.

        Args:
            missing_as_zero: a parameter without a gradient counts as one with a zero gradient.
            negated: take them with the other sign.

        Returns:
            int64 of shape (count,); how many were clipped; how many were not zero and became zero; the norm of what
            was taken from the gradient over the gradient's norm, 0 to 1.
        Raises:
            UsageError: a gradient is missing or sparse.
            FormatError: a gradient is not finite.
        """
        wide = self._wide
        for part, (name, p) in zip(self.split(wide), self.named, strict=True):
            if p.grad is None:
                if not missing_as_zero:
                    raise UsageError(
                        f"optimizer: {name} has no gradient, but every covered parameter takes part in every step: "
                        "call backward() first, freeze it (requires_grad=False) before making the optimizer, or pass "
                        'missing_grad="zero" to take a missing gradient as zero'
                    )
                part.zero_()
            elif p.grad.layout != torch.strided:
                raise UsageError(
                    f"optimizer: the gradient of {name} is {p.grad.layout}; only dense gradients are proven"
                )
            else:
                part.copy_(p.grad)
        if negated:
            wide.neg_()
        low, high = (float(x) for x in wide.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            name, index = next(self._bad(wide))
            raise FormatError(
                f"optimizer: the gradient of {name} is not finite (element {index}); no step was taken, the state is "
                "as before: skip the batch, or lower the learning rate"
            )
        nonzero = int(torch.count_nonzero(wide))
        scale, saturated = 2.0**fmt.scale_g, 0
        exact = wide.mul_(scale).clone()
        wide.add_(0.5).floor_()
        if high * scale >= fmt.clip + 0.5 or low * scale < -fmt.clip - 0.5:
            saturated = int(torch.count_nonzero(wide.abs() > fmt.clip))
            wide.clamp_(-fmt.clip, fmt.clip)
        norm = float(torch.linalg.vector_norm(exact))
        lost = float(torch.linalg.vector_norm(exact.sub_(wide)))
        integers = wide.to(torch.int64)
        underflow = nonzero - int(torch.count_nonzero(integers))
        return integers, saturated, underflow, min(lost / norm, 1.0) if norm else 0.0

    def _bad(self, flat: torch.Tensor, limit: float = math.inf) -> Iterator[tuple[str, int]]:
        """Name and index of the first element of each parameter that is not a number below ``limit`` in size."""
        if bool((flat.abs() < limit).all()):
            return
        for part, (name, _) in zip(torch.split(flat, self.sizes), self.named, strict=True):
            inside = part.abs() < limit
            if not bool(inside.all()):
                yield name, int((~inside).nonzero()[0])
