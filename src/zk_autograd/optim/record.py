"""What one step did, for whoever publishes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from zk_autograd.statement import Public

Ints = npt.NDArray[np.int64]


def as_array(tensor: torch.Tensor) -> Ints:
    """A read-only int64 array of a tensor's values: of its own memory if it is int64 on the CPU, else copied."""
    array: Ints = tensor.detach().to("cpu", torch.int64).numpy()
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One step of an optimizer, over all covered parameters in their fixed order.

    The arrays are int64 of shape (parameters,), read-only, and made when first asked for; they stay as they are when
    the optimizer goes on. ``post`` of a step is ``pre`` of the next.

    Attributes:
        step: number of the step, from 1.
        rates: learning rate of each parameter group.
        public: the step's public integers, by block.
        shifts: by how many bits each block's ``scale_g`` grew with the step; empty if none did.
        saturated: gradient elements that were clipped to the format's largest value.
        underflow: gradient elements that were not zero and became zero.
        limited: gradient elements that were replaced by zero, since the step would have left the circuit's table.
        rounding: norm of what rounding and clipping took from the gradient, over the gradient's norm; 0 to 1.
    """

    step: int
    rates: tuple[float, ...]
    public: tuple[Public, ...]
    shifts: tuple[int, ...]
    saturated: int
    underflow: int
    limited: int
    rounding: float
    tensors: Mapping[str, Mapping[str, torch.Tensor]] = field(repr=False)
    """``pre``, ``post``, ``hints`` and ``work`` (with ``g``) by name, on the optimizer's device, in any width."""

    @cached_property
    def pre(self) -> dict[str, Ints]:
        """State before the step, by name."""
        return self._arrays("pre")

    @cached_property
    def post(self) -> dict[str, Ints]:
        """State after the step, by name."""
        return self._arrays("post")

    @cached_property
    def hints(self) -> dict[str, Ints]:
        """The statement's hints, by name."""
        return self._arrays("hints")

    @cached_property
    def g(self) -> Ints:
        """The gradient as it was used."""
        return as_array(self.tensors["work"]["g"])

    def _arrays(self, part: str) -> dict[str, Ints]:
        return {name: as_array(tensor) for name, tensor in self.tensors[part].items()}
