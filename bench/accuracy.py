"""How near fixed-point training stays to torch's own, on scikit-learn's digits: writes docs/accuracy.md and its plots.

``python -m bench.accuracy`` takes a few minutes; ``tests/optim/test_accuracy.py`` holds a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

from zk_autograd.optim import SGD, Adam, AdamW

STEPS = 300
BATCH = 128
DOCS = Path(__file__).parent.parent / "docs"

Make = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Case:
    """One optimizer setting, as torch has it and as this project has it."""

    name: str
    rate: float
    peer: Make
    ours: Make
    activation: str = "tanh"
    batch: int = BATCH
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For tables: optimizer, rate, model, batch."""
        return (
            f"{self.name}, lr {self.rate:g}, {self.activation}, {f'batch {self.batch}' if self.batch else 'full batch'}"
        )


def adam(**options: Any) -> Case:
    """Adam at torch's defaults."""
    rate = options.pop("rate", 1e-3)
    return Case("Adam", rate, lambda p: torch.optim.Adam(p, lr=rate), lambda p, **o: Adam(p, lr=rate, **o), **options)


def sgd(**options: Any) -> Case:
    """Plain SGD."""
    rate = options.pop("rate", 0.5)
    return Case("SGD", rate, lambda p: torch.optim.SGD(p, lr=rate), lambda p, **o: SGD(p, lr=rate, **o), **options)


def momentum(**options: Any) -> Case:
    """SGD with momentum 0.9."""
    rate = options.pop("rate", 0.1)
    return Case(
        "SGD with momentum", rate,
        lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9),
        lambda p, **o: SGD(p, lr=rate, momentum=0.9, **o),
        **options,
    )  # fmt: skip


def variants() -> list[Case]:
    """The other members of the family, with the decay that is usual for them or more."""
    adams: list[tuple[str, str, dict[str, Any]]] = [
        ("Adam, L2 1e-4", "Adam", {"weight_decay": 1e-4}),
        ("AdamW, decay 0.1", "AdamW", {"weight_decay": 0.1}),
        ("AMSGrad", "Adam", {"amsgrad": True}),
    ]
    sgds: list[tuple[str, str, dict[str, Any]]] = [
        ("SGD, L2 5e-4", "SGD", {"weight_decay": 5e-4}),
        ("SGD with momentum, L2 5e-4", "SGD", {"momentum": 0.9, "weight_decay": 5e-4}),
        ("Nesterov", "SGD", {"momentum": 0.9, "nesterov": True}),
    ]
    ours = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD}
    return [
        Case(
            name, rate,
            lambda p, kind=kind, rate=rate, options=options: getattr(torch.optim, kind)(p, lr=rate, **options),
            lambda p, kind=kind, rate=rate, options=options, **o: ours[kind](p, lr=rate, **options, **o),
        )
        for rate, group in ((1e-3, adams), (0.1, sgds))
        for name, kind, options in group
    ]  # fmt: skip


@cache
def data() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 images, float32 of shape (1797, 64) in [0, 1], and labels, int64."""
    digits = load_digits()
    return torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target, dtype=torch.int64)


@dataclass
class Run:
    """What one training run showed.

    Attributes:
        loss: final cross entropy over all images.
        accuracy: final share of images classified right.
        curve: loss over all images after every tenth step.
        underflow, saturated, limited: share of all gradient elements of the run (0 for torch's own).
    """

    loss: float
    accuracy: float
    curve: list[float]
    underflow: float = 0.0
    saturated: float = 0.0
    limited: float = 0.0


def train(case: Case, make: Make, seed: int, steps: int = STEPS, curve: bool = False, **options: Any) -> Run:
    """Trains a 64-64-10 perceptron; equal seeds give equal weights and batches."""
    x, y = data()
    torch.manual_seed(seed)
    between = nn.Tanh() if case.activation == "tanh" else nn.ReLU()
    model = nn.Sequential(nn.Linear(64, 64), between, nn.Linear(64, 10))
    optimizer = make(model.parameters(), **options)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    counts = {"underflow": 0, "saturated": 0, "limited": 0}
    for step in range(1, steps + 1):
        chosen = torch.randint(len(x), (case.batch,), generator=generator) if case.batch else slice(None)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        record = getattr(optimizer, "last_step", None)
        for name in counts:
            counts[name] += getattr(record, name, 0)
        if curve and step % 10 == 0:
            losses.append(evaluate(model)[0])
    loss, accuracy = evaluate(model)
    elements = steps * sum(p.numel() for p in model.parameters())
    return Run(loss, accuracy, losses, **{name: count / elements for name, count in counts.items()})


@torch.no_grad()
def evaluate(model: nn.Module) -> tuple[float, float]:
    """Cross entropy and accuracy over all images."""
    x, y = data()
    out = model(x)
    return float(nn.functional.cross_entropy(out, y)), float((out.argmax(1) == y).float().mean())


def deviation(case: Case, seeds: Iterable[int], **options: Any) -> float:
    """Mean final loss in fixed point over mean final loss of torch's own, less 1."""
    seeds = list(seeds)
    ours = fmean(train(case, case.ours, seed, **options).loss for seed in seeds)
    return ours / fmean(train(case, case.peer, seed).loss for seed in seeds) - 1


# The report.

SEEDS = range(5)
CASES = [
    adam(), adam(activation="relu"), adam(batch=0), adam(activation="relu", batch=0), adam(rate=1e-2, batch=0),
    sgd(), sgd(activation="relu"), momentum(), momentum(activation="relu"), *variants(),
]  # fmt: skip
FORMATS: list[dict[str, Any]] = [
    {"logrows": logrows, "clip": clip} for clip in (1.0, 0.1) for logrows in (16, 15)
]  # fmt: skip


def table() -> str:
    """The measured table, in Markdown."""
    lines = [
        "| training | torch: loss, accuracy | rows | clip | loss against torch | worst seed | accuracy "
        "| to zero | clipped |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        peers = [train(case, case.peer, seed) for seed in SEEDS]
        loss = fmean(r.loss for r in peers)
        for i, options in enumerate(FORMATS):
            runs = [train(case, case.ours, seed, **options) for seed in SEEDS]
            worst = max((a.loss / b.loss - 1 for a, b in zip(runs, peers, strict=True)), key=abs)
            cells = [
                case.title if i == 0 else "",
                f"{loss:.4f}, {fmean(r.accuracy for r in peers):.2%}" if i == 0 else "",
                f"2^{options['logrows']}", f"{options['clip']:g}",
                f"**{fmean(r.loss for r in runs) / loss - 1:+.2%}**", f"{worst:+.2%}",
                f"{fmean(r.accuracy for r in runs):.2%}",
                f"{fmean(r.underflow for r in runs):.1%}", f"{fmean(r.saturated for r in runs):.2%}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
            if any(r.limited for r in runs):
                raise AssertionError(f"{case.title}, {options}: a step was limited; docs/accuracy.md says none is")
    return "\n".join(lines)


def plot(path: Path) -> None:
    """Loss curves of both, and the relative difference between them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 6), sharex=True, height_ratios=[2, 1])
    at = [10 * (i + 1) for i in range(STEPS // 10)]
    for column, case in zip(axes.T, (adam(), sgd(), momentum()), strict=True):
        peers = [train(case, case.peer, seed, curve=True).curve for seed in SEEDS]
        column[0].plot(
            at, [fmean(c) for c in zip(*peers, strict=True)], color="black", lw=3, alpha=0.35, label="torch, float32"
        )
        for logrows, colour in ((16, "tab:blue"), (15, "tab:orange")):
            runs = [train(case, case.ours, seed, curve=True, logrows=logrows).curve for seed in SEEDS]
            label = f"fixed point, 2^{logrows} rows"
            column[0].plot(at, [fmean(c) for c in zip(*runs, strict=True)], color=colour, lw=1, label=label)
            ratios = [
                [100 * (a / b - 1) for a, b in zip(ours, peer, strict=True)]
                for ours, peer in zip(runs, peers, strict=True)
            ]
            column[1].plot(at, [fmean(r) for r in zip(*ratios, strict=True)], color=colour, lw=1.5)
            low, high = ([f(r) for r in zip(*ratios, strict=True)] for f in (min, max))
            column[1].fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
        column[0].set(title=f"{case.name}, lr {case.rate:g}", yscale="log")
        column[0].legend(fontsize=8)
        column[1].axhline(0, color="black", lw=0.5)
        column[1].set(xlabel="step", ylim=(-2, 2))
    axes[0, 0].set_ylabel("loss over all images")
    axes[1, 0].set_ylabel("difference, %\n(mean and range of 5 seeds)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


BEGIN, END = "<!-- measured: python -m bench.accuracy -->", "<!-- end of measured -->"


def main() -> None:
    """Measures, and puts table and plot into docs/."""
    torch.set_num_threads(1)  # the models are small: more threads only wait for each other
    page = DOCS / "accuracy.md"
    text = page.read_text()
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")
    plot(DOCS / "img" / "accuracy.png")


if __name__ == "__main__":
    main()
