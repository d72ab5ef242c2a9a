"""Learning-rate schedules of torch, written down before the run so that an auditor can hold it to them."""

from __future__ import annotations

from typing import Any

import torch

from zk_autograd.errors import UsageError
from zk_autograd.schedule import Schedule

MAX_TABLE = 4096


def _scheduler(kind: str, optimizer: Any, steps: int) -> Any:
    if kind == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, _one)
    if kind == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=max(1, steps // 3), gamma=0.3)


def _one(_step: int) -> float:
    return 1.0


def declare(kind: str, optimizer: Any, steps: int) -> tuple[list[Schedule], Any]:
    """The declared schedules of a run, one for each parameter group, and the torch scheduler that follows them.

    Tables come from running the same scheduler on a stand-in with the same groups and rates, so every value is the very
    float that the run will use.
    """
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    scheduler = _scheduler(kind, optimizer, steps)
    if kind == "constant":
        return [Schedule("constant", (lr,), lr) for lr in rates], scheduler
    if steps > MAX_TABLE:
        raise UsageError(f"--lr-schedule {kind}: expected at most {MAX_TABLE} steps for a declared table, got {steps}")
    stand_in = torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in rates])
    twin = _scheduler(kind, stand_in, steps)
    tables: list[list[float]] = [[] for _ in rates]
    for _ in range(steps):
        for table, group in zip(tables, stand_in.param_groups, strict=True):
            table.append(float(group["lr"]))
        stand_in.step()
        twin.step()
    return [Schedule("table", tuple(table), max(table)) for table in tables], scheduler
