"""A task that trains in a moment, and stops or changes when a test says so."""

from __future__ import annotations

import torch

from producer.task import Task

stop_at: int | None = None
"""At this step the loop is interrupted, as by Ctrl-C."""

inputs = 8


def line(seed: int, batch: int) -> Task:
    """Least squares on random points."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(inputs, 1)
    x, y = torch.randn(64, inputs), torch.randn(64, 1)

    def loss(step: int) -> torch.Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        return torch.nn.functional.mse_loss(model(x), y)

    return Task(model, loss)


def fading(seed: int, batch: int) -> Task:
    """:func:`line` with a loss that becomes less steep by the step."""
    task = line(seed, batch)
    return Task(task.model, lambda step: task.loss(step) * 2.0 ** -(5 + 2 * step))


def grouped(seed: int, batch: int) -> Task:
    """:func:`line` with the bias in a group of its own."""
    task = line(seed, batch)
    weight, bias = task.model.parameters()
    return Task(task.model, task.loss, [{"params": [weight]}, {"params": [bias], "lr": 1e-4, "betas": (0.5, 0.999)}])


def nothing(seed: int, batch: int) -> None:
    """Not a task."""
