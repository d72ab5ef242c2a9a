"""Adafactor beside ``torch.optim.Adafactor`` on the perceptron of producer.digits: ``python -m bench.adafactor``.

Prints the table in docs/accuracy.md. Same initial weights and batches for both; a few minutes.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import torch

from producer.digits import data, mlp
from zk_autograd.optim import Adafactor

STEPS, BATCH, SEEDS, RATES = 200, 128, 5, (1e-2, 5e-2)
CLIP = 0.5
MOVED = 1e-5
"""Deviation of what is added to the initial weights, to see how far such a run follows from them at all."""


def final_loss(make: Any, seed: int, moved: float = 0.0) -> tuple[float, dict[str, int]]:
    """Cross entropy over all images after training, and what was clipped, limited and became zero."""
    task = mlp(seed, BATCH)
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
    images, labels = data()
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(task.model(images), labels)), counts


def _against(found: list[float], theirs: list[float]) -> str:
    each = [a / b - 1 for a, b in zip(found, theirs, strict=True)]
    return f"{fmean(found) / fmean(theirs) - 1:+.2%} | {min(each):+.2%} to {max(each):+.2%}"


def main() -> None:
    torch.set_num_threads(1)  # small tensors: more only wait for each other
    print(
        "| rate | torch | ours, against torch | each seed | torch from other weights | each seed | limited, clipped |"
    )
    print("|---|---|---|---|---|---|---|")
    for lr in RATES:
        theirs, others = (
            [final_loss(lambda p, lr=lr: torch.optim.Adafactor(p, lr=lr), seed, moved)[0] for seed in range(SEEDS)]
            for moved in (0.0, MOVED)
        )
        found = [final_loss(lambda p, lr=lr: Adafactor(p, lr=lr, clip=CLIP), seed) for seed in range(SEEDS)]
        ours = [loss for loss, _ in found]
        limited, clipped = (sum(counts[name] for _, counts in found) for name in ("limited", "saturated"))
        print(
            f"| {lr:g} | {fmean(theirs):.4f} | {_against(ours, theirs)} | {_against(others, theirs)} | "
            f"{limited}, {clipped} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
