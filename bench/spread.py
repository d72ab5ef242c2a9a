"""Tasks whose gradients the usual format rounds to zero: what the clipping bound mends, and what only ``wide`` does.

``python -m bench.spread`` puts its table into docs/accuracy.md; ``tests/optim/test_wide.py`` holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from producer import digits
from zk_autograd.optim import Adam

STEPS, RATE = 200, 1e-2
FAINT = 2.0**-10
SEEDS = range(5)
DOCS = Path(__file__).parent.parent / "docs"

Make = Callable[[Any], torch.optim.Optimizer]


@dataclass(frozen=True)
class Outcome:
    """Final losses of the outputs that weigh 1 and of those that weigh FAINT, and the share of gradients lost."""

    main: float
    faint: float
    underflow: float


def losses(out: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ten outputs tell the digit modulo 7, the last ten the digit."""
    entropy = nn.functional.cross_entropy
    return entropy(out[:, :10], labels % 7), entropy(out[:, 10:], labels)


TASKS = {"loss of weight 2^-10": 0.0, "losses of weight 1 and 2^-10": 1.0}
"""What the first ten outputs' loss weighs; the last ten's weighs FAINT."""

FORMATS: dict[str, dict[str, Any]] = {
    "`adam`, clip 1": {"clip": 1.0},
    "`adam`, clip 2^-10": {"clip": FAINT},
    "`adam-wide`, clip 1": {"clip": 1.0, "wide": True},
}


def train(task: str, make: Make, seed: int, steps: int = STEPS) -> Outcome:
    """Trains one linear layer on all digits at once: large and small gradients stand in the same tensors."""
    images, labels = digits.data()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20))
    optimizer = make(model.parameters())
    lost = 0
    for _ in range(steps):
        optimizer.zero_grad()
        main, faint = losses(model(images), labels)
        (TASKS[task] * main + FAINT * faint).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        lost += getattr(getattr(optimizer, "last_step", None), "underflow", 0)
    with torch.no_grad():
        main, faint = losses(model(images), labels)
    return Outcome(float(main), float(faint), lost / (steps * sum(p.numel() for p in model.parameters())))


def peer(parameters: Any) -> torch.optim.Optimizer:
    """torch's Adam."""
    return torch.optim.Adam(parameters, lr=RATE)


def ours(**options: Any) -> Make:
    """This project's Adam."""
    return lambda parameters: Adam(parameters, lr=RATE, **options)


def table() -> str:
    """The measured table, in Markdown: means over the seeds."""
    lines = [
        "| training | optimizer | loss of weight 1 | against torch | loss of weight 2^-10 | against torch | to zero |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, weight in TASKS.items():
        peers = [train(task, peer, seed) for seed in SEEDS]
        theirs = [fmean(getattr(r, name) for r in peers) for name in ("main", "faint")]
        for name, options in ({"torch": None} | FORMATS).items():
            runs = peers if options is None else [train(task, ours(**options), seed) for seed in SEEDS]
            cells = [task if options is None else "", name]
            for part, loss in zip(("main", "faint"), theirs, strict=True):
                mean = fmean(getattr(r, part) for r in runs)
                shown = part == "faint" or weight
                cells += [f"{mean:.4f}" if shown else "–", f"**{mean / loss - 1:+.2%}**" if shown and options else ""]
            cells.append(f"{fmean(r.underflow for r in runs):.1%}" if options else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


BEGIN, END = "<!-- measured: python -m bench.spread -->", "<!-- end of spread -->"


def main() -> None:
    """Measures, and puts the table into docs/."""
    torch.set_num_threads(1)
    page = DOCS / "accuracy.md"
    text = page.read_text()
    page.write_text(f"{text.split(BEGIN)[0]}{BEGIN}\n{table()}\n{END}{text.split(END)[1]}")


if __name__ == "__main__":
    main()
