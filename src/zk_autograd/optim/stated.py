"""Any statement as a torch optimizer, by its name."""

from __future__ import annotations

from typing import Any

from torch.optim.optimizer import ParamsT

from zk_autograd.errors import UsageError
from zk_autograd.optim.base import FixedPointOptimizer
from zk_autograd.statement import statement as named


class StatementOptimizer(FixedPointOptimizer):
    """The optimizer of a statement that has no class with torch's names and arguments.

    Args:
        statement: its name.
        hyper: hyper-parameters, by the statement's own names; its defaults for the others.
    Other args and errors: see :class:`FixedPointOptimizer`.
    """

    def __init__(
        self, params: ParamsT, statement: str, lr: float = 1e-3, *, maximize: bool = False,
        max_lr: float | None = None, clip: float = 1.0, logrows: int = 16, missing_grad: str = "error", **hyper: float,
    ) -> None:  # fmt: skip
        known = named(statement).defaults
        for name in hyper:
            if name not in known:
                raise UsageError(
                    f"optimizer: {statement} has no {name}; it has {', '.join(known) or 'none of its own'}"
                )
        self._hyper_keys = ("statement", *known, "maximize")
        defaults = {"lr": lr, "statement": statement, "maximize": maximize, **known, **hyper}
        super().__init__(params, defaults, max_lr=max_lr, clip=clip, logrows=logrows, missing_grad=missing_grad)

    @staticmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        st = named(group["statement"])
        return st.name, {name: float(group.get(name, usual)) for name, usual in st.defaults.items()}
