"""What ``zk-train`` can do about precision: parameter groups, and formats from the first batches.

A task's loss depends on the step's number and the model only, so formats that were calibrated on the first batches are
the same each time; a run that goes on takes those of its checkpoint all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from producer.task import Task
from zk_autograd.errors import UsageError

HEADROOM = 4.0
"""How much larger than on the first batches a gradient may become: two bits."""


def parameter_groups(task: Task, no_decay_on_bias: bool) -> list[Any]:
    """What the optimizer is made with: the task's own groups, or the model's parameters by name.

    Args:
        no_decay_on_bias: parameters of at most one dimension (biases, the scales of norms) make a group of their own,
            without weight decay.
    Raises:
        UsageError: the task's groups are not over the model's parameters, each once; or both were asked for.
    """
    named = [(n, p) for n, p in task.model.named_parameters() if p.requires_grad]
    if task.groups is not None:
        if no_decay_on_bias:
            raise UsageError("--no-decay-on-bias: the task makes parameter groups of its own")
        return _checked(task.groups, [p for _, p in named])
    if not no_decay_on_bias:
        return list(task.model.named_parameters())
    flat = {n: p for n, p in named if p.ndim <= 1}
    rest = [(n, p) for n, p in named if n not in flat]
    if not flat or not rest:
        raise UsageError("--no-decay-on-bias: all parameters have one dimension, or none has")
    return [{"params": rest}, {"params": list(flat.items()), "weight_decay": 0.0}]


def _checked(groups: Sequence[Mapping[str, Any]], expected: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
    found = [{**group, "params": list(group["params"])} for group in groups]
    tensors = [p[1] if isinstance(p, tuple) else p for group in found for p in group["params"]]
    ids = [id(p) for p in tensors if p.requires_grad]
    if sorted(ids) != sorted(id(p) for p in expected):
        raise UsageError(
            f"--task: its groups hold {len(ids)} parameters that require a gradient, the model has {len(expected)}: "
            "expected each of them once"
        )
    return found


def calibrate(optimizer: Any, task: Task, batches: int, block: int) -> None:
    """Chooses formats, one per ``block`` parameters, from the losses of the task's first ``batches`` steps."""

    def closure(batch: int) -> None:
        task.loss(batch).backward()  # type: ignore[no-untyped-call]

    optimizer.calibrate(closure, batches, headroom=HEADROOM, block=block)
