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


def final_loss(make: Any, seed: int) -> tuple[float, dict[str, int]]:
    """Cross entropy over all images after training, and what was clipped, limited and became zero."""
    task = mlp(seed, BATCH)
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


def main() -> None:
    torch.set_num_threads(1)  # small tensors: more only wait for each other
    print("| rate | torch | ours, against torch | each seed | limited | clipped |")
    print("|---|---|---|---|---|---|")
    for lr in RATES:
        theirs = [final_loss(lambda p, lr=lr: torch.optim.Adafactor(p, lr=lr), seed)[0] for seed in range(SEEDS)]
        found = [final_loss(lambda p, lr=lr: Adafactor(p, lr=lr, clip=CLIP), seed) for seed in range(SEEDS)]
        ours = [loss for loss, _ in found]
        each = [a / b - 1 for a, b in zip(ours, theirs, strict=True)]
        limited, clipped = (sum(counts[name] for _, counts in found) for name in ("limited", "saturated"))
        print(
            f"| {lr:g} | {fmean(theirs):.4f} | **{fmean(ours) / fmean(theirs) - 1:+.2%}** | "
            f"{min(each):+.2%} to {max(each):+.2%} | {limited} | {clipped} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
