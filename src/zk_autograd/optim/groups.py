"""Parameter groups: what each declares, and the one statement of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.optim.optimizer import ParamsT

from zk_autograd.errors import UsageError
from zk_autograd.statement import Statement, statement

MAX_GROUPS = 16
"""Most groups that a run's start can declare."""

Rule: TypeAlias = Callable[[dict[str, Any]], tuple[str, dict[str, float]]]
"""From a parameter group, the name of its statement and its hyper-parameters."""


@dataclass(frozen=True)
class GroupRule:
    """What a parameter group declares: the statement's hyper-parameters by its own names, and what decides formats."""

    hyper: dict[str, float]
    max_lr: float
    clip: float


def tensors_of(group: Mapping[str, Any]) -> list[torch.Tensor]:
    """A parameter group's tensors, named or not."""
    return [p[1] if isinstance(p, tuple) else p for p in group["params"]]


def by_size(params: ParamsT) -> list[dict[str, Any]]:
    """Parameter groups, each split into one for each number of elements, vectors apart, as they come.

    A group's ``size`` is that number. Tensors that need no gradient stay with its first part.

    Raises:
        UsageError: no group is left that has one that does.
    """
    given: list[Any] = list(params)
    groups = given if given and isinstance(given[0], dict) else [{"params": given}]
    found: list[dict[str, Any]] = []
    for group in groups:
        params_of = group["params"]
        members = [params_of] if isinstance(params_of, torch.Tensor) else list(params_of)
        parts: dict[tuple[int, bool], list[Any]] = {}
        frozen = []
        for entry in members:
            p = entry[1] if isinstance(entry, tuple) else entry
            if p.requires_grad and p.numel():
                parts.setdefault((p.numel(), p.ndim < 2), []).append(entry)
            else:
                frozen.append(entry)
        if not parts:
            raise UsageError("optimizer: a parameter group has no parameter that requires a gradient: leave it out")
        split = [{**group, "params": entries, "size": size} for (size, _), entries in parts.items()]
        split[0]["params"] += frozen
        found += split
    if not found:
        raise UsageError("optimizer: no parameter requires a gradient, so there is nothing to train")
    return found


def rules_of(groups: Sequence[Mapping[str, Any]], rule: Rule) -> tuple[Statement, list[GroupRule]]:
    """The statement of all groups, and what each declares.

    A group without weight decay has, beside one with it, a decay of 0.

    Raises:
        UsageError: there are too many, they need different statements, or differ in ``maximize``.
        FormatError: a hyper-parameter is outside what the statement can express.
    """
    if len(groups) > MAX_GROUPS:
        raise UsageError(f"optimizer: expected at most {MAX_GROUPS} parameter groups, got {len(groups)}")
    decaying = next((group["weight_decay"] for group in groups if group.get("weight_decay")), None)
    name, found = "", []
    for i, group in enumerate(groups):
        if decaying is None or group.get("weight_decay"):
            own, hyper = rule(dict(group))
        else:
            own, hyper = rule({**group, "weight_decay": decaying})
            hyper = hyper | {"weight_decay": 0.0}
        name = name or own
        if own != name:
            raise UsageError(
                f"optimizer: parameter group {i} needs the statement {own!r}, group 0 {name!r}: all groups of a run "
                "are proven by one circuit; give them the same amsgrad, wide and nesterov, and either all a momentum "
                "above 0 or none"
            )
        if group["maximize"] != groups[0]["maximize"]:
            raise UsageError(f"optimizer: parameter group {i} has another maximize than group 0: give all the same")
        statement(name).check_hyper(hyper)
        max_lr = group["lr"] if group["max_lr"] is None else group["max_lr"]
        found.append(GroupRule(hyper, float(max_lr), float(group["clip"])))
    return statement(name), found
