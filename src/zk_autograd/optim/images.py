"""The float images of the weights: what the parameters hold, kept to see whether anybody else changed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Named = Sequence[tuple[str, torch.Tensor]]

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]

View = Callable[[torch.Tensor, int], torch.Tensor]
"""From a tensor's part of a flat one, and the tensor's number, a view in its shape."""

Same = Callable[[Pairs], bool]

Copy = Callable[[Pairs], bool]


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

    def put(self, source: torch.Tensor | None = None, copy: Copy | None = None) -> None:
        """Sets the parameters to the image that ``source``, or :attr:`real` itself, rounds to.

        Args:
            copy: copies faster; if it cannot, it says so.
        """
        source = self.real if source is None else source
        for flat in self._flat.values():
            if flat is not source:
                flat.copy_(source)
        for view, part in zip(self._views, self.parts, strict=True):
            if part is not view:
                part.copy_(view)
        pairs = [(part, p) for part, (_, p) in zip(self.parts, self._named, strict=True)]
        if copy is None or not copy(pairs):
            for part, p in pairs:
                p.copy_(part)

    def first_changed(self, same: Same | None = None) -> str | None:
        """Name of the first parameter that does not hold its image; None if all do.

        Args:
            same: looks at all of them faster; if it says that they are the same, they are.
        """
        pairs = [(part, p) for part, (_, p) in zip(self.parts, self._named, strict=True)]
        if same is not None and same(pairs):
            return None
        if self.real.device.type != "cpu":
            # One look, not one a parameter: each waits for the device.
            wrong = [(p != part).any().to(self.real.device) for part, p in pairs]
            if not bool(torch.stack(wrong).any()):
                return None
        found = (i for i, (part, p) in enumerate(pairs) if not torch.equal(p, part))
        return next((self._named[i][0] for i in found), None)


def main_device(named: Named) -> torch.device:
    """The device that holds most parameters."""
    counts: dict[torch.device, int] = {}
    for _, p in named:
        counts[p.device] = counts.get(p.device, 0) + p.numel()
    return max(counts, key=lambda device: counts[device])
