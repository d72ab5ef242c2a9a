"""The optimizers' common part: exact integer state under torch's optimizer interface."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import Format
from zk_autograd.optim.blocks import Span, as_spans
from zk_autograd.optim.fused import Task, take
from zk_autograd.optim.groups import rules_of
from zk_autograd.optim.layout import FlatParameters
from zk_autograd.optim.paths import choose_path
from zk_autograd.optim.record import StepRecord
from zk_autograd.optim.saved import saved_spans, saving
from zk_autograd.optim.scaled import Scaled
from zk_autograd.statement import UNCHANGED, Public, Resolution

MISSING = ("error", "zero")


@dataclass(frozen=True)
class _Taken:
    """A step that was computed and not yet kept."""

    record: StepRecord
    post: dict[str, torch.Tensor]
    spans: list[Span]
    largest: tuple[float, ...]
    put: Callable[[], None]


class FixedPointOptimizer(Scaled):
    """A torch optimizer whose steps are those of a :class:`~zk_autograd.statement.Statement`, to the last bit.

    The state is integers, one flat vector per name of the statement's state, over the parameters that require a
    gradient when the optimizer is made, in the order of the parameter groups. After every step the model's weights are
    the image of the integers: ``w / 2**scale_w``, rounded to each parameter's dtype. Kernels take the steps where they
    can (:attr:`path`).

    Parameter groups may have learning rates, hyper-parameters, ``max_lr`` and ``clip`` of their own. Where it differs
    from torch's optimizers, since a proof covers the whole state at every step:

    * all groups obey one statement: those without weight decay take it with a decay of 0 if others have one, and
      ``maximize`` is the same in all;
    * only learning rates change, up to ``max_lr``;
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
            the finer they are resolved; :meth:`calibrate` measures it.
        logrows: size of the circuit, 2**logrows rows.
        missing_grad: ``error`` or ``zero``.
    Raises:
        UsageError: parameters, groups or options that cannot be covered.
        FormatError: no format fits, or an initial weight does not fit it.
    """

    _hyper_keys: tuple[str, ...]
    """Keys of a parameter group that make up the hyper-parameters."""

    def __init__(
        self, params: ParamsT, defaults: dict[str, Any], *, max_lr: float | None, clip: float, logrows: int,
        missing_grad: str,
    ) -> None:  # fmt: skip
        if missing_grad not in MISSING:
            raise UsageError(
                f"optimizer: expected missing_grad to be one of {', '.join(MISSING)}, got {missing_grad!r}"
            )
        if not 8 <= logrows <= 20:
            raise UsageError(f"optimizer: expected logrows from 8 to 20, got {logrows}")
        self._sealed, self._step = False, 0
        self._integers: dict[str, torch.Tensor] = {}
        self._last: StepRecord | None = None
        self._shifts: tuple[int, ...] = ()
        self._largest: list[float] = []
        super().__init__(params, defaults | {"max_lr": max_lr, "clip": clip})
        self._sealed = True
        self._missing_as_zero = missing_grad == "zero"
        self._logrows, self._P = logrows, 2**logrows - 8
        self._declared = [{key: group[key] for key in self._hyper_keys} for group in self.param_groups]
        self._statement, self._groups = rules_of(self.param_groups, self._rule)
        named = self._names()
        self._frozen = [(n, p) for n, p in named if not p.requires_grad]
        covered = [(n, p) for n, p in named if p.requires_grad]
        self._flat = FlatParameters(covered, [self._statement.region(tuple(p.shape), self._P) for _, p in covered])
        self._path = choose_path(self._statement.name, self._P, self._flat.device, self._flat.count)
        sizes = iter(self._flat.sizes)
        self._counts = [sum(next(sizes) for p in g["params"] if p.requires_grad) for g in self.param_groups]
        for number, count in enumerate(self._counts):
            if not count:
                raise UsageError(
                    f"optimizer: parameter group {number} has no parameter that requires a gradient: leave it out"
                )
        declared = [replace(piece, clip=self._groups[piece.group].clip) for piece in self._pieces(None)]
        self._spans = as_spans(self._blocks(declared, self._choose))
        self._rates()
        self.requantize()

    @staticmethod
    @abstractmethod
    def _rule(group: dict[str, Any]) -> tuple[str, dict[str, float]]:
        """The statement's name and hyper-parameters, from a parameter group."""

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
        rates = self._rates()
        self._check_parameters()
        try:
            taken = self._take(rates, self._shifts)
        except FormatError:
            if not self._shifts:
                raise
            # Nobody is owed a change of scale: the step is taken without.
            taken = self._take(rates, ())
        taken.put()
        self._integers, self._spans, self._last = taken.post, taken.spans, taken.record
        self._step, self._shifts = taken.record.step, ()
        self._largest = [max(pair) for pair in zip(self._largest, taken.largest, strict=True)]
        return loss

    def _check_parameters(self) -> None:
        for name, p in self._frozen:
            if p.grad is not None:
                raise UsageError(
                    f"optimizer: {name} was frozen when the optimizer was made and has a gradient now; it is no part "
                    "of the state: make a new optimizer after unfreezing"
                )
        self._flat.check_parameters()

    def _check_weights(self) -> None:
        self._flat.check_weights(self._integers["w"], self._spans)

    def _take(self, rates: tuple[float, ...], shifts: tuple[int, ...]) -> _Taken:
        """The next step, with these changes of scale."""
        number, st = self._step + 1, self._statement
        spans = self._spans
        if shifts:
            spans = [self._change(i, rates).shifted(k) if k else spans[i] for i, k in enumerate(shifts)]
        known: dict[tuple[int, Format, Resolution, int], Public] = {}
        public = []
        for i, span in enumerate(spans):
            key = span.group, span.format, span.known, shifts[i] if shifts else 0
            if key not in known:
                hyper, lr = self._groups[span.group].hyper, rates[span.group]
                known[key] = st.step_integers(hyper, lr, number, span.format, self._P, key[3], span.known)
            public.append(known[key])
        task = Task(st, self._P, spans, public, self._missing_as_zero, bool(self._declared[0]["maximize"]))
        read, done, _, put = take(self._path.kernels, task, self._flat, self._integers)
        tensors = {"pre": self._integers, "post": done.post, "hints": done.hints, "work": {"g": done.g}}
        record = StepRecord(
            number, rates, tuple(public), shifts, read.saturated, read.underflow, done.limited, read.rounding, tensors
        )  # fmt: skip
        return _Taken(record, done.post, spans, read.largest, put)

    @torch.no_grad()
    def requantize(self) -> None:
        """Begins anew from the model's present weights: rounds them to the format, clears moments and step count.

        A proven run cannot go on across this, since its next state would not follow from its last; begin a new one.
        """
        self._spans = [replace(span, known=UNCHANGED) for span in self._spans]
        w = self._flat.read_weights(self._spans)
        self._integers = {name: w if name == "w" else torch.zeros_like(w) for name in self._statement.state}
        self._flat.write_weights(w, self._spans)
        self._step = 0
        self._last = None
        self._shifts, self._largest = (), [0.0] * len(self._spans)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's while the optimizer is being made; UsageError afterwards."""
        if self._sealed:
            raise UsageError("optimizer: the set of parameters is fixed when it is made; make a new one")
        super().add_param_group(param_group)

    # State in and out.

    def state_dict(self) -> dict[str, Any]:
        """As torch's; ``state`` holds the exact integers per parameter, ``fixed_point`` what they mean."""
        out = super().state_dict()
        parts = {name: self._flat.whole(tensor.to(torch.int64, copy=True)) for name, tensor in self._integers.items()}
        covered = {id(p): i for i, (_, p) in enumerate(self._flat.named)}
        order = [p for group in self.param_groups for p in group["params"]]
        out["state"] = {
            index: {name: views[covered[id(p)]] for name, views in parts.items()}
            for index, p in enumerate(order)
            if id(p) in covered
        }
        now = {
            "step": self._step,
            "blocks": saving(self._spans),
            "shifts": list(self._shifts),
            "largest": list(self._largest),
        }
        out["fixed_point"] = self._identity() | now
        return out

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores integers, formats, step count and groups exactly; sets the model's weights to the integers' image.

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
        mine = self._flat.whole(self._integers["w"])
        for (name, _), entry, own in zip(self._flat.named, entries, mine, strict=True):
            for key in self._statement.state:
                found = entry.get(key)
                if found is None or found.shape != own.shape or found.dtype != torch.int64:
                    raise UsageError(f"optimizer: the saved state has no {key} of shape {tuple(own.shape)} for {name}")
        if set(state) != {index[id(p)] for _, p in self._flat.named}:
            raise UsageError("optimizer: the saved state covers other parameters than this optimizer")
        spans = saved_spans(saved, self._statement, self._groups, self._counts, self._P)
        if self._statement.carries and [s.part for s in spans] != [s.part for s in self._spans]:
            raise UsageError("optimizer: the saved state has other layers than this optimizer")
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self._integers = {
            key: torch.cat([entry[key].reshape(-1).to(self._flat.device) for entry in entries])
            for key in self._statement.state
        }
        self._spans, self._shifts = spans, tuple(saved["shifts"])
        self._largest = list(saved["largest"])
        self._flat.write_weights(self._integers["w"], self._spans)
        self._step, self._last = int(saved["step"]), None

    def _identity(self) -> dict[str, Any]:
        return {
            "statement": self._statement.name,
            "logrows": self._logrows,
            "hyper": [rule.hyper for rule in self._groups],
            "max_lr": [rule.max_lr for rule in self._groups],
            "clip": [rule.clip for rule in self._groups],
        }

    # Checks.

    def _names(self) -> list[tuple[str, torch.Tensor]]:
        named: list[tuple[str, torch.Tensor]] = []
        for group in self.param_groups:
            names = group.get("param_names")
            for i, p in enumerate(group["params"]):
                named.append((names[i] if names else f"parameter {len(named)} of shape {tuple(p.shape)}", p))
        return named

    def _rates(self) -> tuple[float, ...]:
        """The learning rates of the next step, by group, once everything that was declared still holds."""
        rates = []
        for number, (group, declared) in enumerate(zip(self.param_groups, self._declared, strict=True)):
            where = f" of parameter group {number}" if len(self._declared) > 1 else ""
            for key, value in declared.items():
                if group[key] != value:
                    raise UsageError(
                        f"optimizer: {key}{where} is {group[key]!r} now, but the run declared {value!r}: only learning "
                        "rates may change (a OneCycleLR scheduler needs cycle_momentum=False)"
                    )
            lr, most = float(group["lr"]), self._groups[number].max_lr
            if not (math.isfinite(lr) and 0.0 <= lr <= most):
                raise FormatError(
                    f"optimizer: learning rate {lr!r}{where} is not from 0 to max_lr {most!r}, for which the format "
                    "was chosen: pass the schedule's largest rate as max_lr"
                )
            rates.append(lr)
        return tuple(rates)
