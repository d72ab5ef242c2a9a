"""Adafactor beside ``torch.optim.Adafactor`` on the three models of producer.digits: ``python -m bench.adafactor``.

Prints the table in docs/accuracy.md. Same initial weights and batches for both; a quarter of an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from bench.curves import MODELS, SEEDS, STEPS, evaluate
from zk_autograd.optim import Adafactor

MOVED = 1e-5
"""Deviation of what is added to the initial weights, to see how far such a run follows from them at all."""


class AsMatrices(torch.optim.Adafactor):
    """torch's, on tensors of more than two dimensions as it would be on matrices: their first dimension by the others.

    By itself it factors the last two dimensions, which for a convolution's are the nine elements of a kernel.
    """

    def __init__(self, params: Any, lr: float) -> None:
        self._pairs = [(p, torch.nn.Parameter(p.detach().view(len(p), -1) if p.ndim > 2 else p)) for _, p in params]
        super().__init__([view for _, view in self._pairs], lr=lr)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p, view in self._pairs:
            assert p.grad is not None
            view.grad, p.grad = p.grad.view(view.shape), None  # which zero_grad would not find
        super().step(closure)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Case:
    """A model of :mod:`bench.curves`, a rate, and a clipping bound above all gradients."""

    model: str
    rate: float
    clip: float
    peer: type[torch.optim.Adafactor] = torch.optim.Adafactor


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
    optimizer = make(task.model.named_parameters())
    counts = {"limited": 0, "saturated": 0, "underflow": 0}
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        task.loss(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done = getattr(optimizer, "last_step", None)
        for name in counts:
            counts[name] += getattr(done, name, 0)
    return evaluate(task.model), counts


def _against(found: list[float], theirs: list[float]) -> str:
    each = [a / b - 1 for a, b in zip(found, theirs, strict=True)]
    return f"{fmean(found) / fmean(theirs) - 1:+.2%} | {min(each):+.2%} to {max(each):+.2%}"


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
        title = MODELS[case.model].title + ", torch's kernels as matrices" * (case.peer is AsMatrices)
        print(
            f"| {title} | {lr:g} | {fmean(theirs):.4f} | {_against(ours, theirs)} "
            f"| {_against(others, theirs)} | {limited}, {clipped} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
