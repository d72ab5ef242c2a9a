"""Small models and optimizers for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from zk_autograd import optim  # noqa: E402
from zk_autograd.optim import FixedPointOptimizer, StatementOptimizer  # noqa: E402
from zk_autograd.statement import STATEMENTS, Statement  # noqa: E402

SHOWN = {"momentum=…": "momentum=0.9", "weight_decay=…": "weight_decay=1e-3"}
RATES = {"Adam": 1e-2, "AdamW": 1e-2, "SGD": 0.1}


def maker(st: Statement) -> Callable[..., FixedPointOptimizer]:
    """What the statement's definition says makes it, with a rate that suits :func:`mlp`."""
    kind, _, rest = st.optimizer.partition("(")
    if not kind:
        return lambda params, **options: StatementOptimizer(params, st.name, **{"lr": 1e-2, **options})
    for shown, used in SHOWN.items():
        rest = rest.replace(shown, used)
    given = {"lr": RATES[kind] / 2 if "momentum" in rest else RATES[kind]} | eval(f"dict({rest or ')'}")
    return lambda params, **options: getattr(optim, kind)(params, **{**given, **options})


MAKERS = {name: maker(st) for name, st in STATEMENTS.items() if not st.carries}
"""One optimizer for each statement whose steps depend on no sums: those have tests of their own."""


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
