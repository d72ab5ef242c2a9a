"""LAMB beside a float one on the three models of producer.digits, and what parts them: ``python -m bench.lamb``.

Prints the table in docs/accuracy.md; ``(!)`` marks means that are 2 % or more off. Same initial weights and batches for
all; a quarter of an hour of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from bench.curves import LIMIT, MODELS, SEEDS, STEPS, train
from bench.float_peers import FloatLamb
from zk_autograd.fixed_point import rounding_offset
from zk_autograd.optim import Lamb
from zk_autograd.statement import STATEMENTS

MOVED = 1e-5
"""Deviation of what is added to the initial weights, to see how far such a run follows from them at all."""
LOGROWS = 16
P = 2**LOGROWS - 8


class SameEps(FloatLamb):
    """The float one, dividing by what the statement divides by but for rounding: ``2*root + E - 1`` units.

    ``E`` counts one of its units for the half by which the integer root is too small on average.
    """

    def __init__(self, params: Iterable[Any], lr: float, clip: float) -> None:
        super().__init__(params, lr)
        self._statement, self._lr = STATEMENTS["lamb"], lr
        self._format = self._statement.choose_format(self._statement.defaults, lr, clip, P)
        self._unit: float = 2.0 ** -(self._format.scale_g + self._format.guard / 2)  # of a root

    def _E(self, step: int) -> int:
        public = self._statement.public_integers(self._statement.defaults, self._lr, step, self._format, P)
        return int(public.E)

    def _twice(self, root: torch.Tensor, E: int) -> torch.Tensor:
        return 2 * root + (E - 1)

    def _divisor(self, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        root: torch.Tensor = state["v"].sqrt() / self._unit
        step: int = state["t"]
        correction: float = (1 - group["betas"][1] ** step) ** 0.5
        return (self._twice(root, self._E(step)) * (self._unit / 2 / correction)).to(torch.float32)


class RoundedSquares(SameEps):
    """The same, with its mean squares and their roots rounded as the statement's; all else is float."""

    def _squares(self, state: dict[str, Any], grad: torch.Tensor, b2: float) -> torch.Tensor:
        unit = self._unit**2
        mean = super()._squares(state, grad.double(), b2) / unit
        rounded: torch.Tensor = (mean + rounding_offset(state["t"], P) / P).floor() * unit
        return rounded

    def _twice(self, root: torch.Tensor, E: int) -> torch.Tensor:
        return 2 * root.floor() + E


def moved(params: Iterable[torch.Tensor], lr: float) -> FloatLamb:
    """The float one, from other initial weights."""
    params, generator = list(params), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in params:
            p.add_(MOVED * torch.randn(p.shape, generator=generator))
    return FloatLamb(params, lr)


@dataclass(frozen=True)
class Case:
    """A model of :mod:`bench.curves`, a rate, a number of steps, and the clipping bound if it is not Adam's there."""

    model: str
    rate: float
    steps: int = STEPS
    bound: float | None = None

    @property
    def clip(self) -> float:
        """The clipping bound."""
        return self.bound or MODELS[self.model].adam


CASES = [
    Case("mlp", 2e-3), Case("mlp", 2e-3, 600), Case("mlp", 2e-3, 600, 1.0), Case("mlp", 5e-3), Case("mlp", 1e-2),
    Case("convnet", 2e-3), Case("convnet", 2e-3, 600), Case("convnet", 2e-3, 600, 1.0), Case("convnet", 5e-3),
    Case("convnet", 1e-2),
    Case("transformer", 2e-3), Case("transformer", 2e-3, bound=1.0), Case("transformer", 5e-3),
]  # fmt: skip


def makers(rate: float, clip: float) -> dict[str, Callable[[Any], Any]]:
    """What trains, by its column; the peer first."""
    return {
        "float": lambda p: FloatLamb(p, rate),
        "ours": lambda p: Lamb(p, lr=rate, clip=clip, logrows=LOGROWS),
        "ours, 2^17 rows": lambda p: Lamb(p, lr=rate, clip=clip, logrows=17),
        "float from other weights": lambda p: moved(p, rate),
        "float, our eps": lambda p: SameEps(p, rate, clip),
        "float, our eps and rounded squares": lambda p: RoundedSquares(p, rate, clip),
    }


def row(case: Case) -> str:
    """One line of the table."""
    model, found = MODELS[case.model], []
    peers: list[float] = []
    for name, make in makers(case.rate, case.clip).items():
        runs = [train(model, make, seed, case.steps) for seed in SEEDS]
        if any(run["limited"] for run in runs):
            raise AssertionError(f"{case}, {name}: a step was limited; docs/accuracy.md says none is")
        losses = [run["loss"] for run in runs]
        if not peers:
            peers = losses
            found.append(f"{fmean(peers):.4f}")
            continue
        off = fmean(losses) / fmean(peers) - 1
        found.append(f"{off:+.2%}" + " (!)" * (name.startswith("ours") and abs(off) >= LIMIT))
        if name == "ours":
            each = [a / b - 1 for a, b in zip(losses, peers, strict=True)]
            found.append(f"{min(each):+.2%} to {max(each):+.2%}")
    return f"| {model.title} | {case.rate:g} | {case.steps} | {case.clip:g} | " + " | ".join(found) + " |"


def main() -> None:
    torch.set_num_threads(1)  # small tensors: more only wait for each other
    heads = list(makers(1e-3, 1.0))
    heads.insert(2, "each seed")
    print("| model | rate | steps | clip | " + " | ".join(heads) + " |")
    print("|---" * (4 + len(heads)) + "|")
    for case in CASES:
        print(row(case), flush=True)


if __name__ == "__main__":
    main()
