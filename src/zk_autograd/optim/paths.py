"""Which code takes the steps: kernels for the device that the parameters are on, or the statements' own arithmetic.

The integers are the same whichever it is; only time differs.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

import torch

from zk_autograd.errors import UsageError
from zk_autograd.optim.fused import VARIANTS, Kernels

LEAST_PARAMETERS = 1 << 15
"""Compiling the CPU's kernels takes seconds; models of fewer parameters would rarely earn that back."""


@dataclass(frozen=True)
class Path:
    """What takes an optimizer's steps.

    Attributes:
        name: ``triton``, ``triton-interpreter``, ``numba`` or ``torch``.
        why: why it is not what one might expect; empty if it is.
        kernels: None for ``torch``, the statement's own arithmetic.
    """

    name: str
    why: str
    kernels: Kernels | None

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


def choose_path(statement: str, P: int, device: torch.device, count: int) -> Path:
    """The path for a run's steps.

    Environment: with ``USE_TRITON=1`` Triton's kernels are wanted, with ``USE_TRITON=0`` they are not; otherwise they
    are used where the parameters are on a GPU. If they are wanted, ``TRITON_INTERPRET=1`` runs them on a CPU, slowly.
    """
    wanted = os.environ.get("USE_TRITON", "")
    if wanted not in ("", "0", "1"):
        raise UsageError(f"USE_TRITON: expected 0 or 1, got {wanted!r}")
    if statement not in VARIANTS:
        return Path("torch", f"{statement} has no kernel", None)
    reasons = []
    if wanted == "1" or (wanted != "0" and device.type == "cuda"):
        reasons.append(_no_triton(P, device))
        if not reasons[0]:
            from zk_autograd.optim.gpu import TritonKernels

            interpreted = device.type == "cpu"
            return Path("triton-interpreter" if interpreted else "triton", "", TritonKernels(count, device))
    reasons.append(_no_numba(P, device, count))
    if reasons[-1]:
        return Path("torch", "; ".join(reasons), None)
    from zk_autograd.optim.host import HostKernels

    kernels = HostKernels(count, means=VARIANTS[statement].family == "adam")
    return Path("numba", "; ".join(reason for reason in reasons if reason), kernels)


def _no_triton(P: int, device: torch.device) -> str:
    """Why Triton's kernels cannot run there; empty if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install 'zk-autograd[gpu]')"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        found = "the parameters are on the CPU" if torch.cuda.is_available() else "there is none"
        return f"Triton's kernels need a GPU, and {found}"
    if device.type not in ("cpu", "cuda"):
        return f"there are no kernels for {device.type}"
    from zk_autograd.triton_kernels import LARGEST_TABLE

    return "" if P < LARGEST_TABLE else f"a table of {P} is too large for Triton's kernels"


def _no_numba(P: int, device: torch.device, count: int) -> str:
    """Why the CPU's kernels do not run there; empty if they do."""
    if device.type != "cpu":
        return f"numba's kernels are for the CPU, not for {device.type}"
    if count < LEAST_PARAMETERS:
        return f"numba's kernels are for models of {LEAST_PARAMETERS} parameters or more, not {count}"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed (pip install 'zk-autograd[train]')"
    from zk_autograd.optim.host import covers

    return "" if covers(P) else f"a table of {P} is too large for numba's kernels"
