"""What calibrated blocks and changes of scale do for accuracy: ``python -m bench.blocks`` writes docs/accuracy.md."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import nn

from bench.accuracy import DOCS, data, evaluate
from zk_autograd.optim import Adam

STEPS, SEEDS, BATCHES, BLOCK, EPOCH = 300, 3, 5, 1000, 50
START, END = "<!-- measured: python -m bench.blocks -->\n", "<!-- end of blocks -->"


@dataclass(frozen=True)
class Way:
    """How formats are chosen: one bound, or calibrated by block, and whether scales change with epochs."""

    name: str
    calibrated: bool = False
    block: int | None = None
    epoch: int = 0


WAYS = (
    Way("a bound of 1"),
    Way(f"scales changed every {EPOCH} steps", epoch=EPOCH),
    Way(f"one block, calibrated on {BATCHES} batches", calibrated=True),
    Way(f"blocks of {BLOCK:,}, calibrated", calibrated=True, block=BLOCK),
    Way(f"blocks of {BLOCK:,}, calibrated, changed every {EPOCH} steps", calibrated=True, block=BLOCK, epoch=EPOCH),
)


def train(rate: float, seed: int, way: Way | None) -> tuple[float, torch.Tensor, float, float]:
    """Full batches, tanh. Final loss, weights, share of elements that became zero, largest rounding error of a step.

    Args:
        way: None trains with torch's Adam.
    """
    x, y = data()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer: Any = torch.optim.Adam(model.parameters(), lr=rate) if way is None else Adam(model.parameters(), lr=rate)

    def backward(_: int) -> None:
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]

    if way is not None and way.calibrated:
        optimizer.calibrate(backward, BATCHES, block=way.block)
    zeros, worst = 0, 0.0
    for step in range(STEPS):
        optimizer.zero_grad()
        backward(step)
        if way is not None and way.epoch and step and step % way.epoch == 0:
            optimizer.rescale()
        optimizer.step()
        if way is not None:
            zeros, worst = zeros + optimizer.last_step.underflow, max(worst, optimizer.last_step.rounding)
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return evaluate(model)[0], weights, zeros / (STEPS * len(weights)), worst


def table() -> str:
    """The measured table, in Markdown."""
    lines = [
        "| Adam, full batch, lr | formats | loss against torch | weights: distance from torch's | to zero | largest "
        "rounding error of a step |",
        "|---|---|---|---|---|---|",
    ]
    for rate in (1e-2, 1e-3):
        peers = [train(rate, seed, None) for seed in range(SEEDS)]
        for way in WAYS:
            runs = [train(rate, seed, way) for seed in range(SEEDS)]
            loss = fmean(run[0] for run in runs) / fmean(peer[0] for peer in peers) - 1
            pairs = zip(runs, peers, strict=True)
            apart = fmean(float((run[1] - peer[1]).norm() / peer[1].norm()) for run, peer in pairs)
            zeros, worst = fmean(run[2] for run in runs), max(run[3] for run in runs)
            lines.append(f"| {rate:g} | {way.name} | **{loss:+.2%}** | {apart:.3f} | {zeros:.1%} | {worst:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Writes the table into its page."""
    torch.set_num_threads(1)
    page = DOCS / "accuracy.md"
    text = page.read_text("utf-8")
    start = text.index(START) + len(START)
    page.write_text(text[:start] + table() + "\n" + text[text.index(END) :], "utf-8")


if __name__ == "__main__":
    main()
