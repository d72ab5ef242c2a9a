"""Float optimizers to compare with where torch has none, or has another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

Tensor = torch.Tensor


class FloatLamb(torch.optim.Optimizer):
    """You et al., arXiv:1904.00962, algorithm 2, with a cap on the ratio instead of one on the norm.

    With ``layerwise=False`` the ratio counts for nothing.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: float = 1e-2, max_ratio: float = 10.0, layerwise: bool = True,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_ratio": max_ratio}
        super().__init__(params, defaults)
        self.ratios: list[float] = []
        self._layerwise = layerwise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Every tensor is a layer, and has a gradient."""
        self.ratios = []
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"t": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
                b1, b2 = group["betas"]
                state["t"] += 1
                state["m"] = b1 * state["m"] + (1 - b1) * p.grad
                state["v"] = self._squares(state, p.grad, b2)
                mean = state["m"] / (1 - b1 ** state["t"])
                u = mean / self._divisor(state, group) + group["weight_decay"] * p
                norms = float(p.norm()), float(u.norm())
                ratio = min(norms[0] / norms[1], group["max_ratio"]) if all(norms) else 1.0
                self.ratios.append(ratio)
                p -= group["lr"] * (ratio if self._layerwise else 1.0) * u

    def _squares(self, state: dict[str, Any], grad: Tensor, b2: float) -> Tensor:
        v: Tensor = b2 * state["v"] + (1 - b2) * grad**2
        return v

    def _divisor(self, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        square: Tensor = state["v"] / (1 - group["betas"][1] ** state["t"])
        eps: float = group["eps"]
        return square.sqrt() + eps


class AsMatrices(torch.optim.Adafactor):
    """torch's, on tensors of more than two dimensions as it would be on matrices: their first dimension by the others.

    By itself it factors the last two dimensions, which for a convolution's are the nine elements of a kernel.
    """

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        self._pairs = [(p, torch.nn.Parameter(p.detach().view(len(p), -1) if p.ndim > 2 else p)) for p in params]
        super().__init__([view for _, view in self._pairs], lr=lr)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p, view in self._pairs:
            assert p.grad is not None
            view.grad, p.grad = p.grad.view(view.shape), None  # which zero_grad would not find
        super().step(closure)  # type: ignore[no-untyped-call]
