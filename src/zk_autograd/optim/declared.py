"""What a run declares of its optimizer, and where the optimizer stands."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zk_autograd.errors import UsageError
from zk_autograd.fixed_point import Format, ParameterBlock
from zk_autograd.optim.blocks import Span, as_blocks
from zk_autograd.optim.groups import GroupRule
from zk_autograd.optim.layout import FlatParameters
from zk_autograd.optim.paths import Path
from zk_autograd.optim.record import Ints, StepRecord, as_array
from zk_autograd.statement import Statement


class Declared(torch.optim.Optimizer):
    """The readable part of :class:`~zk_autograd.optim.FixedPointOptimizer`, which sets these attributes."""

    _statement: Statement
    _groups: list[GroupRule]
    _spans: list[Span]
    _flat: FlatParameters
    _integers: dict[str, torch.Tensor]
    _last: StepRecord | None
    _step: int
    _P: int
    _path: Path

    @property
    def statement(self) -> Statement:
        """The rule that every step obeys."""
        return self._statement

    @property
    def groups(self) -> list[dict[str, float]]:
        """The statement's hyper-parameters by its own names, for each parameter group of the run."""
        return [dict(rule.hyper) for rule in self._groups]

    @property
    def max_lrs(self) -> list[float]:
        """The largest learning rate that :meth:`step` takes, of each group."""
        return [rule.max_lr for rule in self._groups]

    @property
    def blocks(self) -> list[ParameterBlock]:
        """The covered parameters in committed order, as blocks of one format each, as they are now."""
        return as_blocks(self._spans)

    @property
    def format(self) -> Format:
        """The fixed-point format of a run with one block; UsageError if there are several: see :attr:`blocks`."""
        self._only(self._spans, "blocks")
        return self._spans[0].format

    @property
    def hyper(self) -> dict[str, float]:
        """The hyper-parameters of a run with one group; UsageError if there are several: see :attr:`groups`."""
        self._only(self._groups, "groups")
        return self.groups[0]

    @property
    def max_lr(self) -> float:
        """The largest learning rate of a run with one group; UsageError if there are several: see :attr:`max_lrs`."""
        self._only(self._groups, "groups")
        return self._groups[0].max_lr

    @staticmethod
    def _only(found: Sequence[object], what: str) -> None:
        if len(found) > 1:
            raise UsageError(f"optimizer: it has {len(found)} {what}, not one")

    @property
    def P(self) -> int:
        """Size of the circuit's look-up table."""
        return int(self._P)

    @property
    def parameter_count(self) -> int:
        """Covered parameters (elements)."""
        return sum(p.numel() for _, p in self._flat.named)

    @property
    def step_count(self) -> int:
        """Steps taken so far."""
        return int(self._step)

    @property
    def path(self) -> Path:
        """What takes the steps, for instance ``numba``; the integers do not depend on it."""
        return self._path

    @property
    def last_step(self) -> StepRecord | None:
        """The last step; None before the first, and after :meth:`load_state_dict`."""
        return self._last

    def state_arrays(self) -> dict[str, Ints]:
        """The current state by name, int64 of shape (parameters,), read-only."""
        return {name: as_array(self._integers[name]) for name in self._statement.state}
