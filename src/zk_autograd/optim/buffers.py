"""Memory for the results of steps on a CPU, used again once nobody holds it.

A large new tensor is fresh memory, which the system hands out page by page: that took longer than the step itself.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch

LEAST = 1 << 16
"""Tensors of fewer elements are left to the allocator."""


_NUMPY = {torch.int16: np.int16, torch.int32: np.int32, torch.int64: np.int64}


class Buffers:
    """Lends tensors of one length. A tensor's memory comes back when its last view, of torch or numpy, is gone.

    That is exact: the lent array is owned by the tensor's storage and by nothing else, and every view owns the storage.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: dict[torch.dtype, list[np.ndarray[Any, Any]]] = {}

    def empty(self, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of unspecified values."""
        if self._count < LEAST:
            return torch.empty(self._count, dtype=dtype)
        free = self._free.setdefault(dtype, [])
        memory = free.pop() if free else np.empty(self._count, _NUMPY[dtype])
        lent = memory.view()
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent)
