"""Small models and optimizers for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from zk_autograd.optim import SGD, Adam, AdamW, FixedPointOptimizer  # noqa: E402

MAKERS: dict[str, Callable[..., FixedPointOptimizer]] = {
    "adam": lambda params, **options: Adam(params, **{"lr": 1e-2, **options}),
    "sgd": lambda params, **options: SGD(params, **{"lr": 0.1, **options}),
    "momentum": lambda params, **options: SGD(params, **{"lr": 0.05, "momentum": 0.9, **options}),
    "adam-l2": lambda params, **options: Adam(params, **{"lr": 1e-2, "weight_decay": 1e-3, **options}),
    "adamw": lambda params, **options: AdamW(params, **{"lr": 1e-2, **options}),
    "adam-wide": lambda params, **options: Adam(params, **{"lr": 1e-2, "wide": True, **options}),
    "adamw-wide": lambda params, **options: AdamW(params, **{"lr": 1e-2, "wide": True, **options}),
    "amsgrad": lambda params, **options: Adam(params, **{"lr": 1e-2, "amsgrad": True, **options}),
    "amsgrad-l2": lambda params, **options: Adam(
        params, **{"lr": 1e-2, "amsgrad": True, "weight_decay": 1e-3, **options}
    ),
    "amsgradw": lambda params, **options: AdamW(params, **{"lr": 1e-2, "amsgrad": True, **options}),
    "sgd-l2": lambda params, **options: SGD(params, **{"lr": 0.1, "weight_decay": 1e-3, **options}),
    "momentum-l2": lambda params, **options: SGD(
        params, **{"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, **options}
    ),
    "nesterov": lambda params, **options: SGD(params, **{"lr": 0.05, "momentum": 0.9, "nesterov": True, **options}),
    "nesterov-l2": lambda params, **options: SGD(
        params, **{"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, **options}
    ),
}
"""One optimizer for each statement, with a rate that suits :func:`mlp`."""


def mlp(seed: int = 0) -> Any:
    """4-8-3 perceptron: 67 parameters in four tensors."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def loss(model: Any, step: int) -> Any:
    """Cross entropy on eight examples that depend on ``step`` only."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 4, generator=generator)
    y = torch.randint(0, 3, (8,), generator=generator)
    return torch.nn.functional.cross_entropy(model(x), y)


def train(model: Any, optimizer: Any, steps: range, scheduler: Any = None) -> None:
    """Ordinary training steps."""
    for step in steps:
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def weights(model: Any) -> Any:
    """All parameters as one flat tensor, a copy."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).clone()


def parameter(*values: float, dtype: Any = None) -> Any:
    """A parameter with these values."""
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype or torch.float32))
