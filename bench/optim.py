"""Time of one optimizer step on the CPU, against torch's own Adam in the same process."""

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
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
}


def _model(size: int) -> list[torch.nn.Parameter]:
    """``size`` parameters with gradients of training's usual size."""
    generator = torch.Generator().manual_seed(1)
    params = [torch.nn.Parameter(torch.randn(size // LAYERS, generator=generator) / 10) for _ in range(LAYERS)]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator) / 100
    return params


def _pair(name: str, size: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of a step, ours and torch's, taken in turns so that both meet the same machine."""
    pair = [make(_model(size)) for make in (OURS[name], PEERS[name])]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for optimizer, taken in zip(pair, times, strict=True):
            began = time.perf_counter()
            optimizer.step()
            taken.append(1e3 * (time.perf_counter() - began))
    return median(times[0][2:]), median(times[1][2:])


def run() -> dict[str, Any]:
    """Milliseconds a step of fixed-point Adam with 10^6 parameters; details for the others and for 10^4."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        details: dict[str, float] = {}
        for name in OURS:
            for size in SIZES:
                ours, peer = _pair(name, size, 60 if size < 100_000 else 25)
                details |= {f"{name}_{size}_ms": round(ours, 3), f"torch_{name}_{size}_ms": round(peer, 3)}
    finally:
        torch.set_num_threads(before)
    ours, peer = details["adam_1000000_ms"], details["torch_adam_1000000_ms"]
    return {
        "name": "optim", "value": ours, "unit": "ms/step at 1e6 parameters", "peer": "torch.optim.Adam",
        "peer_value": peer, "ratio": ours / peer, "details": details,
    }  # fmt: skip
