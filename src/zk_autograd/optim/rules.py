"""Adam, AdamW and SGD with torch's names and defaults, and LAMB with its paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from zk_autograd.errors import UsageError
from zk_autograd.optim.base import FixedPointOptimizer
from zk_autograd.optim.groups import by_size, tensors_of
from zk_autograd.statement import adafactor


class Adam(FixedPointOptimizer):
    """``torch.optim.Adam`` in exact fixed-point arithmetic.

    Statement ``adam``; ``adam-l2`` with weight decay; ``amsgrad`` and ``amsgrad-l2`` with ``amsgrad=True``.
    With ``wide=True``, ``adam-wide``: gradients and weights keep more bits, a proof holds a fifth fewer parameters.
    Other args and errors: see :class:`FixedPointOptimizer`.
    """

    _hyper_keys = ("betas", "eps", "weight_decay", "amsgrad", "maximize", "wide")

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, amsgrad: bool = False, *, maximize: bool = False, wide: bool = False,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error",
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "wide": wide,
        }  # fmt: skip
        super().__init__(params, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        if group["wide"]:
            if group["amsgrad"] or group["weight_decay"]:
                raise UsageError(
                    "optimizer: wide=True has neither amsgrad nor L2 decay; use AdamW(wide=True) for decoupled decay"
                )
            return "adam-wide", _means(group)
        decay = {"weight_decay": float(group["weight_decay"])} if group["weight_decay"] else {}
        name = ("amsgrad" if group["amsgrad"] else "adam") + ("-l2" if decay else "")
        return name, _means(group) | decay


class AdamW(Adam):
    """``torch.optim.AdamW`` in exact fixed-point arithmetic: the weights decay, not the gradient.

    Statement ``adamw``, ``amsgradw`` with ``amsgrad=True``, or ``adamw-wide`` with ``wide=True``: see :class:`Adam`.
    Other args and errors: see :class:`FixedPointOptimizer`.
    """

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, wide: bool = False,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error",
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, wide=wide, max_lr=max_lr, clip=clip,
            logrows=logrows, missing_grad=missing_grad,
        )  # fmt: skip

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        if group["wide"] and group["amsgrad"]:
            raise UsageError("optimizer: wide=True has no amsgrad")
        name = "amsgradw" if group["amsgrad"] else "adamw-wide" if group["wide"] else "adamw"
        return name, _means(group) | {"weight_decay": float(group["weight_decay"])}


class Lamb(FixedPointOptimizer):
    """LAMB (You et al., arXiv:1904.00962, algorithm 2) in exact fixed-point arithmetic; torch has none.

    Statement ``lamb``. A layer is one parameter tensor: its step is Adam's direction with bias correction and decoupled
    decay, scaled to ``lr`` times the norm of the layer's weights. A layer takes whole proofs, so models of many small
    tensors cost more than their number of parameters says. Scales do not change during a run.

    Args:
        max_ratio: the trust ratio (norm of the weights over norm of the direction) is at most this, and it is 1 if
            either is 0. Weights keep ``log2(max_ratio)`` bits less than they would without.
    Other args and errors: see :class:`FixedPointOptimizer`.
    """

    _hyper_keys = ("betas", "eps", "weight_decay", "max_ratio", "maximize")

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: float = 1e-2, max_ratio: float = 10.0, *, maximize: bool = False,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error",
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_ratio": max_ratio,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        own = {name: float(group[name]) for name in ("weight_decay", "max_ratio")}
        return "lamb", _means(group) | own


class Adafactor(FixedPointOptimizer):
    """``torch.optim.Adafactor`` in exact fixed-point arithmetic, without weight decay.

    Statement ``adafactor-16``, ``-64`` or ``-256``: the number is the length of a row, the shortest in which every
    tensor has a place: as a matrix, its first dimension by the others, or that matrix's transpose; a vector as a row,
    or, longer than that, as a column. torch factors the last two dimensions of a tensor that has more than two. Rows
    are padded and a tensor takes whole proofs, so the row length decides what a run costs.

    Tensors of each size make a parameter group of their own, in the order in which sizes come, since a size is declared
    by group; a run has at most 16 groups. Elements whose steps leave the table (directions beyond 128, above all) get a
    gradient of zero and are counted. Scales do not change during a run.

    Args:
        eps: torch's ``eps1`` and ``eps2``; None is the resolution of 32-bit floats, as in torch.
    Other args and errors: see :class:`FixedPointOptimizer`.
    """

    _hyper_keys = ("beta2_decay", "eps", "d", "weight_decay", "maximize", "size", "row_length")

    def __init__(
        self, params: ParamsT, lr: float = 1e-2, beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
        maximize: bool = False, max_lr: float | None = None, clip: float = 1.0, logrows: int = 16,
        missing_grad: str = "error",
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "maximize": maximize,
        }  # fmt: skip
        groups = by_size(params)
        defaults |= {"size": 0, "row_length": _row_length([p for g in groups for p in tensors_of(g)])}
        super().__init__(groups, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        if group["weight_decay"]:
            raise UsageError("optimizer: Adafactor has no weight decay here")
        eps1, eps2 = group["eps"]
        vector = all(p.ndim < 2 for p in group["params"])  # torch clamps the mean of a matrix only
        hyper = {
            "beta2_decay": float(group["beta2_decay"]), "eps2": float(eps2), "d": float(group["d"]),
            "eps1": 0.0 if vector else 2.0**-23 if eps1 is None else float(eps1), "size": float(group["size"]),
        }  # fmt: skip
        return f"adafactor-{group['row_length']}", hyper


def _row_length(tensors: Sequence[torch.Tensor]) -> int:
    """The shortest row length in which every tensor has a place."""
    sides = [min(p.shape[0], p.numel() // p.shape[0]) if p.ndim > 1 and p.numel() else 1 for p in tensors]
    lengths = [st.length for st in adafactor.FAMILY]
    fits = [x for x in lengths if x >= max(sides, default=1)]
    if not fits:
        raise UsageError(f"optimizer: Adafactor takes matrices with a side of up to {lengths[-1]}, got {max(sides)}")
    return fits[0]


def _means(group: dict[str, Any]) -> dict[str, float]:
    beta1, beta2 = group["betas"]
    return {"beta1": float(beta1), "beta2": float(beta2), "eps": float(group["eps"])}


class SGD(FixedPointOptimizer):
    """``torch.optim.SGD`` in exact fixed-point arithmetic.

    Statement ``sgd``, ``momentum`` or ``nesterov``, each with ``-l2`` if there is weight decay.
    Args and errors: see :class:`FixedPointOptimizer`.
    """

    _hyper_keys = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error",
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        momentum, dampening = float(group["momentum"]), float(group["dampening"])
        if momentum == 0.0 and dampening != 0.0:
            raise UsageError(f"optimizer: dampening {dampening!r} has no effect without momentum; leave it at 0")
        if group["nesterov"] and (momentum == 0.0 or dampening != 0.0):
            raise UsageError(
                "optimizer: expected a momentum above 0 and no dampening with nesterov, "
                f"got momentum {momentum!r}, dampening {dampening!r}"
            )
        hyper = {"momentum": momentum} if momentum else {}
        if momentum and not group["nesterov"]:
            hyper["dampening"] = dampening
        if group["weight_decay"]:
            hyper["weight_decay"] = float(group["weight_decay"])
        kind = "nesterov" if group["nesterov"] else "momentum" if momentum else "sgd"
        return kind + ("-l2" if group["weight_decay"] else ""), hyper
