"""Memory for the results of steps on a CPU, used again once nobody holds it.

A large new tensor is fresh memory, which the system hands out page by page: that took longer than the step itself.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch

LEAST = 1 << 16
"""Tensors of fewer elements are left to the allocator."""


class Buffers:
    """Lends int64 tensors of one length. A tensor's memory comes back when its last view, of torch or numpy, is gone.

    That is exact: the lent array is owned by the tensor's storage and by nothing else, and every view owns the storage.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []

    def empty(self) -> torch.Tensor:
        """A tensor of unspecified values."""
        if self._count < LEAST:
            return torch.empty(self._count, dtype=torch.int64)
        memory = self._free.pop() if self._free else np.empty(self._count, np.int64)
        lent = memory.view()
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)
