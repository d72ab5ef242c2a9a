"""Where ``zk-train`` trains."""

from __future__ import annotations

import os

import torch

from producer.task import Task


def place(task: Task) -> None:
    """Moves the task's model to the GPU, if ``USE_TRITON=1`` asks for its kernels and there is one.

    Otherwise the model stays where the task made it. The task's loss has to follow its model.
    """
    if os.environ.get("USE_TRITON") == "1" and os.environ.get("TRITON_INTERPRET") != "1" and torch.cuda.is_available():
        task.model.to("cuda")
