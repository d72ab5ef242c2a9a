"""Adafactor beside ``torch.optim.Adafactor`` on the three models of producer.digits: ``python -m bench.adafactor``.

Prints the table in docs/accuracy.md; ``(!)`` marks what is 2 % or more off. Same initial weights and batches for both;
a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from bench.curves import LIMIT, MODELS, SEEDS, STEPS, evaluate
from bench.float_peers import AsMatrices
from zk_autograd.optim import Adafactor

MOVED = 1e-5
"""Deviation of what is added to the initial weights, to see how far such a run follows from them at all."""


@dataclass(frozen=True)
class Case:
    """A model of :mod:`bench.curves`, a rate, and a clipping bound above all gradients."""

    model: str
    rate: float
    clip: float
    peer: Callable[..., Any] = torch.optim.Adafactor


CASES = [
    Case("mlp", 1e-2, 0.5), Case("convnet", 1e-2, 1.0), Case("convnet", 1e-2, 1.0, AsMatrices),
    Case("transformer", 1e-2, 1.0), Case("mlp", 5e-2, 0.5),
]  # fmt: skip


def final_loss(case: Case, make: Any, seed: int, moved: float = 0.0) -> tuple[float, dict[str, int]]:
    """Cross entropy over all images after training, and what was clipped, limited and became zero."""
    model = MODELS[case.model]
    task = model.task(seed, model.batch)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in task.model.parameters():
            p.add_(moved * torch.randn(p.shape, generator=generator))
    optimizer = make(task.model.parameters())
    counts = {"limited": 0, "saturated": 0, "underflow": 0}
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        task.loss(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done = getattr(optimizer, "last_step", None)
        for name in counts:
            counts[name] += getattr(done, name, 0)
    return evaluate(task.model), counts


def _against(found: list[float], theirs: list[float], mark: str = "") -> str:
    each = [a / b - 1 for a, b in zip(found, theirs, strict=True)]
    return f"{fmean(found) / fmean(theirs) - 1:+.2%}{mark} | {min(each):+.2%} to {max(each):+.2%}"


def main() -> None:
    torch.set_num_threads(1)  # small tensors: more only wait for each other
    print(
        "| model | rate | torch | ours, against torch | each seed | torch from other weights | each seed "
        "| limited, clipped |"
    )
    print("|---" * 8 + "|")
    for case in CASES:
        lr, clip = case.rate, case.clip
        theirs, others = (
            [final_loss(case, lambda p, lr=lr, peer=case.peer: peer(p, lr=lr), seed, moved)[0] for seed in SEEDS]
            for moved in (0.0, MOVED)
        )
        found = [final_loss(case, lambda p, lr=lr, clip=clip: Adafactor(p, lr=lr, clip=clip), seed) for seed in SEEDS]
        ours = [loss for loss, _ in found]
        limited, clipped = (sum(counts[name] for _, counts in found) for name in ("limited", "saturated"))
        mark = " (!)" * (abs(fmean(ours) / fmean(theirs) - 1) >= LIMIT)
        title = MODELS[case.model].title + ", torch's kernels as matrices" * (case.peer is AsMatrices)
        print(
            f"| {title} | {lr:g} | {fmean(theirs):.4f} | {_against(ours, theirs, mark)} "
            f"| {_against(others, theirs)} | {limited}, {clipped} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
