"""Adam and SGD with torch's names and defaults."""

from __future__ import annotations

from typing import Any

from torch.optim.optimizer import ParamsT

from zk_autograd.errors import UsageError
from zk_autograd.optim.base import FixedPointOptimizer


class Adam(FixedPointOptimizer):
    """``torch.optim.Adam`` in exact fixed-point arithmetic (statement ``adam``).

    Args and errors: see :class:`FixedPointOptimizer`. ``weight_decay``, ``amsgrad`` and ``maximize`` are not offered.
    """

    _hyper_keys = ("betas", "eps")

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, *,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error",
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps}
        super().__init__(params, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        beta1, beta2 = group["betas"]
        return "adam", {"beta1": float(beta1), "beta2": float(beta2), "eps": float(group["eps"])}


class SGD(FixedPointOptimizer):
    """``torch.optim.SGD`` in exact fixed-point arithmetic (statement ``sgd``, or ``momentum`` if there is any).

    Args and errors: see :class:`FixedPointOptimizer`. ``nesterov``, ``weight_decay`` and ``maximize`` are not offered.
    """

    _hyper_keys = ("momentum", "dampening")

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0, *,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error",
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(params, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        momentum, dampening = float(group["momentum"]), float(group["dampening"])
        if momentum == 0.0 and dampening != 0.0:
            raise UsageError(f"optimizer: dampening {dampening!r} has no effect without momentum; leave it at 0")
        return ("momentum", {"momentum": momentum, "dampening": dampening}) if momentum else ("sgd", {})
