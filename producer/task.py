"""What ``zk-train`` trains: a model and the loss of each step's batch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zk_autograd.errors import UsageError


@dataclass(frozen=True)
class Task:
    """Attributes:

    model: the module to train; all its parameters that require gradients are proven.
    loss: the scalar loss of step ``t`` (1-based); must depend on ``t`` and the model only, so that a restarted run
        takes the same batches.
    groups: parameter groups as torch's optimizers take them, each with options of its own (``lr``, ``weight_decay``,
        ``clip`` …), over the model's parameters; None: one group of all.
    """

    model: torch.nn.Module
    loss: Callable[[int], torch.Tensor]
    groups: Sequence[Mapping[str, Any]] | None = None


def load_task(path: str, seed: int, batch: int) -> Task:
    """Calls ``package.module:function`` with ``seed`` and ``batch``; it must return a :class:`Task`."""
    module_name, _, function_name = path.partition(":")
    if not function_name:
        raise UsageError(f"--task {path!r}: expected MODULE:FUNCTION, for example producer.digits:mlp")
    # An installed command looks in its own folder, not where it was called. Last, so that no file there can stand in
    # for a library.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"--task {path!r}: {error}; run from the folder that holds the module, or install it"
        ) from None
    try:
        task = function(seed=seed, batch=batch)
    except TypeError as error:
        raise UsageError(f"--task {path!r}: expected a function of seed and batch ({error})") from None
    if not isinstance(task, Task):
        raise UsageError(f"--task {path!r}: expected it to return a producer.task.Task, got {type(task).__name__}")
    if not any(p.requires_grad for p in task.model.parameters()):
        raise UsageError(f"--task {path!r}: its model has no parameter that requires a gradient")
    return task
