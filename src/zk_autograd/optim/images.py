"""The float images of the weights: what the parameters hold, kept to see whether anybody else changed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import torch

Named = Sequence[tuple[str, torch.Tensor]]

View = Callable[[torch.Tensor, int], torch.Tensor]
"""From a tensor's part of a flat one, and the tensor's number, a view in its shape."""


class Images:
    """An image of all weights: flat on one device for each dtype in use, and as each parameter holds it.

    Attributes:
        real: the flat image of the highest precision in use, float32 or float64; the others are made from it.
        parts: of each parameter its image, on the parameter's device.
    """

    def __init__(self, named: Named, sizes: Sequence[int], device: torch.device, view: View) -> None:
        self._named = named
        dtypes = {p.dtype for _, p in named}
        real = torch.float64 if torch.float64 in dtypes else torch.float32
        count = sum(sizes)
        self._flat = {dtype: torch.zeros(count, dtype=dtype, device=device) for dtype in dtypes | {real}}
        self.real = self._flat[real]
        views = {dtype: torch.split(flat, list(sizes)) for dtype, flat in self._flat.items()}
        self._views = [view(views[p.dtype][i], i) for i, (_, p) in enumerate(named)]
        self.parts = [
            view if p.device == device else torch.empty_like(view, device=p.device)
            for view, (_, p) in zip(self._views, named, strict=True)
        ]

    def fill(self, source: torch.Tensor) -> None:
        """Becomes the image that ``source`` rounds to."""
        for flat in self._flat.values():
            if flat is not source:
                flat.copy_(source)
        for view, part in zip(self._views, self.parts, strict=True):
            if part is not view:
                part.copy_(view)

    def put(self, source: torch.Tensor | None = None, omitted: Set[int] = frozenset()) -> None:
        """Sets the parameters to the image that ``source``, or :attr:`real` itself, rounds to; some may be omitted."""
        if len(omitted) == len(self.parts):
            return
        self.fill(self.real if source is None else source)
        for number, (part, (_, p)) in enumerate(zip(self.parts, self._named, strict=True)):
            if number not in omitted:
                p.copy_(part)

    def first_changed(self, omitted: Set[int] = frozenset()) -> str | None:
        """Name of the first parameter that does not hold its image; None if all do. Some may be omitted."""
        pairs = [
            (name, part, p)
            for number, (part, (name, p)) in enumerate(zip(self.parts, self._named, strict=True))
            if number not in omitted
        ]
        if pairs and self.real.device.type != "cpu":
            # One look, not one a parameter: each waits for the device.
            wrong = [(p != part).any().to(self.real.device) for _, part, p in pairs]
            if not bool(torch.stack(wrong).any()):
                return None
        return next((name for name, part, p in pairs if not torch.equal(p, part)), None)


def main_device(named: Named) -> torch.device:
    """The device that holds most parameters."""
    counts: dict[torch.device, int] = {}
    for _, p in named:
        counts[p.device] = counts.get(p.device, 0) + p.numel()
    return max(counts, key=lambda device: counts[device])
