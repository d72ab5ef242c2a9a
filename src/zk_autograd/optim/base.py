"""The optimizers' common part: exact integer state under torch's optimizer interface."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch.optim.optimizer import ParamsT

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import Format, ParameterBlock
from zk_autograd.optim.advance import advance
from zk_autograd.optim.advice import choose_format
from zk_autograd.optim.layout import FlatParameters
from zk_autograd.optim.record import Ints, StepRecord, as_array
from zk_autograd.statement import Statement, statement

MISSING = ("error", "zero")


class FixedPointOptimizer(torch.optim.Optimizer):
    """A torch optimizer whose steps are those of a :class:`~zk_autograd.statement.Statement`, to the last bit.

    The state is int64, one flat vector per name of the statement's state, over the parameters that require a gradient
    when the optimizer is made, in the order of the parameter groups. After every step the model's weights are the
    image of the integers: ``w / 2**scale_w``, rounded to each parameter's dtype.

    Where it differs from torch's optimizers, since a proof covers the whole state at every step:

    * all groups have the same hyper-parameters, and only the learning rate changes, up to ``max_lr``;
    * a parameter without a gradient is an error; with ``missing_grad="zero"`` it is updated with a zero gradient (its
      moments decay), where torch leaves it alone;
    * weights that were changed by others between steps are an error, see :meth:`requantize`;
    * with ``maximize``, the gradient of a run, committed and proven, is that of minus the objective;
    * gradients are clipped to the format's range, element by element; :attr:`last_step` counts how many.

    Args:
        params: as for any torch optimizer; names (``model.named_parameters()``) make messages clearer.
        defaults: learning rate and hyper-parameters.
        max_lr: the largest learning rate that will be used; decides the format. ``lr`` if not given.
        clip: the largest absolute gradient element kept; decides the format. The nearer to the gradients' true range,
            the finer they are resolved.
        logrows: size of the circuit, 2**logrows rows.
        missing_grad: ``error`` or ``zero``.
    Raises:
        UsageError: parameters, groups or options that cannot be covered.
        FormatError: no format fits, or an initial weight does not fit it.
    """

    _hyper_keys: ClassVar[tuple[str, ...]]
    """Keys of a parameter group that make up the hyper-parameters."""

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], *, max_lr: float | None, clip: float, logrows: int,
        missing_grad: str,
    ) -> None:  # fmt: skip
        if missing_grad not in MISSING:
            raise UsageError(
                f"optimizer: expected missing_grad to be one of {', '.join(MISSING)}, got {missing_grad!r}"
            )
        if not 8 <= logrows <= 24:
            raise UsageError(f"optimizer: expected logrows from 8 to 24, got {logrows}")
        self._sealed, self._step = False, 0
        self._integers: dict[str, torch.Tensor] = {}
        self._last: StepRecord | None = None
        super().__init__(params, defaults)
        self._sealed = True
        self._missing_as_zero = missing_grad == "zero"
        self._logrows, self._P = logrows, 2**logrows - 8
        self._declared = self._group_hyper()
        name, self._hyper = self._rule(self.param_groups[0])
        self._statement = statement(name)
        self._statement.check_hyper(self._hyper)
        self._max_lr = float(self.param_groups[0]["lr"] if max_lr is None else max_lr)
        self._format = choose_format(self._statement, self._hyper, self._max_lr, clip, self._P)
        named = self._names()
        self._frozen = [(n, p) for n, p in named if not p.requires_grad]
        self._flat = FlatParameters([(n, p) for n, p in named if p.requires_grad])
        self._rate()
        self.requantize()

    @staticmethod
    @abstractmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        """The statement's name and hyper-parameters, from a parameter group."""

    # What is declared of a run.

    @property
    def statement(self) -> Statement:
        """The rule that every step obeys."""
        return self._statement

    @property
    def format(self) -> Format:
        """The fixed-point format."""
        return self._format

    @property
    def groups(self) -> list[dict[str, float]]:
        """The statement's hyper-parameters by its own names, for each parameter group of the run."""
        return [dict(self._hyper)]

    @property
    def blocks(self) -> list[ParameterBlock]:
        """The covered parameters in committed order, as blocks of one format each."""
        return [ParameterBlock(0, self.parameter_count, self._format)]

    @property
    def hyper(self) -> dict[str, float]:
        """The statement's hyper-parameters by its own names."""
        return dict(self._hyper)

    @property
    def max_lr(self) -> float:
        """The largest learning rate that :meth:`step` takes."""
        return self._max_lr

    @property
    def P(self) -> int:
        """Size of the circuit's look-up table."""
        return int(self._P)

    @property
    def parameter_count(self) -> int:
        """Covered parameters (elements)."""
        return self._flat.count

    @property
    def step_count(self) -> int:
        """Steps taken so far."""
        return int(self._step)

    @property
    def last_step(self) -> StepRecord | None:
        """The last step; None before the first, and after :meth:`load_state_dict`."""
        return self._last

    def state_arrays(self) -> dict[str, Ints]:
        """The current state by name, int64 of shape (parameters,), read-only."""
        return {name: as_array(self._integers[name]) for name in self._statement.state}

    # What a training loop does.

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; as torch's, returns what ``closure`` returned.

        Raises:
            FormatError: a gradient is not finite, or the learning rate is above ``max_lr``.
            UsageError: weights, hyper-parameters or covered parameters were changed, or a gradient is missing.
        In every case the state and the weights are as before.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        lr = self._rate()
        for name, p in self._frozen:
            if p.grad is not None:
                raise UsageError(
                    f"optimizer: {name} was frozen when the optimizer was made and has a gradient now; it is no part "
                    "of the state: make a new optimizer after unfreezing"
                )
        self._flat.check_weights()
        maximize = bool(self._declared["maximize"])
        g, saturated, underflow, rounding = self._flat.read_gradients(self._format, self._missing_as_zero, maximize)
        number = self._step + 1
        public = self._statement.public_integers(self._hyper, lr, number, self._format, self._P)
        taken = advance(self._statement, self._integers, g, public, self._P)
        tensors = {"pre": self._integers, "post": taken.post, "hints": taken.hints, "work": {"g": taken.g}}
        self._flat.write_weights(taken.post["w"], self._format)
        self._integers, self._step = taken.post, number
        self._last = StepRecord(number, (lr,), (public,), (), saturated, underflow, taken.limited, rounding, tensors)
        return loss

    @torch.no_grad()
    def requantize(self) -> None:
        """Begins anew from the model's present weights: rounds them to the format, clears moments and step count.

        A proven run cannot go on across this, since its next state would not follow from its last; begin a new one.
        """
        w = self._flat.read_weights(self._format)
        self._integers = {name: w if name == "w" else torch.zeros_like(w) for name in self._statement.state}
        self._flat.write_weights(w, self._format)
        self._step = 0
        self._last = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's while the optimizer is being made; UsageError afterwards."""
        if self._sealed:
            raise UsageError("optimizer: the set of parameters is fixed when it is made; make a new one")
        super().add_param_group(param_group)

    # State in and out.

    def state_dict(self) -> dict[str, Any]:
        """As torch's; ``state`` holds the exact integers per parameter, ``fixed_point`` what they mean."""
        out = super().state_dict()
        parts = {name: self._flat.split(tensor.clone()) for name, tensor in self._integers.items()}
        covered = {id(p): i for i, (_, p) in enumerate(self._flat.named)}
        order = [p for group in self.param_groups for p in group["params"]]
        out["state"] = {
            index: {name: views[covered[id(p)]] for name, views in parts.items()}
            for index, p in enumerate(order)
            if id(p) in covered
        }
        out["fixed_point"] = {**self._identity(), "step": self._step}
        return out

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores integers, step count and groups exactly, and sets the model's weights to the integers' image.

        Raises:
            UsageError: it is not the state of such an optimizer over such parameters; names the first difference.
        """
        saved = state_dict.get("fixed_point")
        if not isinstance(saved, dict):
            raise UsageError("optimizer: this is no fixed-point optimizer's state: expected the entry 'fixed_point'")
        for key, mine in self._identity().items():
            if saved.get(key) != mine:
                raise UsageError(
                    f"optimizer: the saved state has {key} {saved.get(key)!r}, this optimizer has {mine!r}"
                )
        index = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        state = state_dict.get("state", {})
        entries = [state.get(index[id(p)], {}) for _, p in self._flat.named]
        for (name, p), entry in zip(self._flat.named, entries, strict=True):
            for key in self._statement.state:
                found = entry.get(key)
                if found is None or found.shape != p.shape or found.dtype != torch.int64:
                    raise UsageError(f"optimizer: the saved state has no {key} of shape {tuple(p.shape)} for {name}")
        if set(state) != {index[id(p)] for _, p in self._flat.named}:
            raise UsageError("optimizer: the saved state covers other parameters than this optimizer")
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self._integers = {
            key: torch.cat([entry[key].reshape(-1).to(self._flat.device) for entry in entries])
            for key in self._statement.state
        }
        self._flat.write_weights(self._integers["w"], self._format)
        self._step, self._last = int(saved["step"]), None

    def _identity(self) -> dict[str, Any]:
        return {
            "statement": self._statement.name,
            "logrows": self._logrows,
            "hyper": dict(self._hyper),
            "max_lr": self._max_lr,
            "format": asdict(self._format),
        }

    # Checks.

    def _names(self) -> list[tuple[str, torch.Tensor]]:
        named: list[tuple[str, torch.Tensor]] = []
        for group in self.param_groups:
            names = group.get("param_names")
            for i, p in enumerate(group["params"]):
                named.append((names[i] if names else f"parameter {len(named)} of shape {tuple(p.shape)}", p))
        return named

    def _group_hyper(self) -> dict[str, Any]:
        """The groups' hyper-parameters, learning rate included; UsageError if the groups differ."""
        first = self.param_groups[0]
        for i, group in enumerate(self.param_groups[1:], 1):
            for key in ("lr", *self._hyper_keys):
                if group[key] != first[key]:
                    raise UsageError(
                        f"optimizer: parameter group {i} has {key} {group[key]!r}, group 0 has {first[key]!r}: a run "
                        "has one set of hyper-parameters; use one optimizer (and run) per set"
                    )
        return {key: first[key] for key in self._hyper_keys}

    def _rate(self) -> float:
        """The learning rate of the next step, once everything that was declared still holds."""
        now = self._group_hyper()
        for key, declared in self._declared.items():
            if now[key] != declared:
                raise UsageError(
                    f"optimizer: {key} is {now[key]!r} now, but the run declared {declared!r}: only the learning rate "
                    "may change (a OneCycleLR scheduler needs cycle_momentum=False)"
                )
        lr = float(self.param_groups[0]["lr"])
        if not (math.isfinite(lr) and 0.0 <= lr <= self._max_lr):
            raise FormatError(
                f"optimizer: learning rate {lr!r} is not from 0 to max_lr {self._max_lr!r}, for which the format was "
                "chosen: pass the schedule's largest rate as max_lr"
            )
        return lr
