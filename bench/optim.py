"""Time of one optimizer step on the CPU, against torch's own Adam (its foreach path) in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from zk_autograd.optim import SGD, Adam

SIZES = (10_000, 1_000_000)
THREADS = 2
LAYERS = 10
"""Tensors that the parameters are spread over."""

Make = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]

OURS: dict[str, Make] = {
    "adam": lambda p: Adam(p, lr=1e-3),
    "sgd": lambda p: SGD(p, lr=1e-3),
    "momentum": lambda p: SGD(p, lr=1e-3, momentum=0.9),
}
PEERS: dict[str, Make] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, foreach=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, foreach=True),
}
FUSED: dict[str, Make] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True),
}
"""Torch's own kernels, one for the whole step: for the details."""


def _model(size: int) -> list[torch.nn.Parameter]:
    """``size`` parameters with gradients of training's usual size."""
    generator = torch.Generator().manual_seed(1)
    params = [torch.nn.Parameter(torch.randn(size // LAYERS, generator=generator) / 10) for _ in range(LAYERS)]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator) / 100
    return params


def _medians(name: str, size: int, rounds: int) -> list[float]:
    """Median milliseconds of a step, ours and torch's two, taken in turns so that all meet the same machine."""
    optimizers = [make(_model(size)) for make in (OURS[name], PEERS[name], FUSED[name])]
    times: list[list[float]] = [[] for _ in optimizers]
    for _ in range(rounds):
        for optimizer, taken in zip(optimizers, times, strict=True):
            began = time.perf_counter()
            optimizer.step()
            taken.append(1e3 * (time.perf_counter() - began))
    return [median(taken[2:]) for taken in times]


def run() -> dict[str, Any]:
    """Milliseconds a step of fixed-point Adam with 10^6 parameters; details for the others and for 10^4."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        details: dict[str, float] = {}
        for name in OURS:
            for size in SIZES:
                found = _medians(name, size, 60 if size < 100_000 else 25)
                labels = (f"{name}_{size}_ms", f"torch_{name}_{size}_ms", f"torch_fused_{name}_{size}_ms")
                details |= {label: round(ms, 3) for label, ms in zip(labels, found, strict=True)}
    finally:
        torch.set_num_threads(before)
    ours, peer = details["adam_1000000_ms"], details["torch_adam_1000000_ms"]
    return {
        "name": "optim", "value": ours, "unit": "ms/step at 1e6 parameters", "peer": "torch.optim.Adam",
        "peer_value": peer, "ratio": ours / peer, "details": details,
    }  # fmt: skip
