"""Parameter groups: what each declares, and the one statement of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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


def rules_of(groups: Sequence[Mapping[str, Any]], rule: Rule) -> tuple[Statement, list[GroupRule]]:
    """The statement of all groups, and what each declares.

    A group without weight decay has, beside one with it, a decay of 0.

    Raises:
        UsageError: there are too many, they need different statements, or differ in ``maximize``.
        FormatError: a hyper-parameter is outside what the statement can express.
    """
    if len(groups) > MAX_GROUPS:
        raise UsageError(f"optimizer: expected at most {MAX_GROUPS} parameter groups, got {len(groups)}")
    decaying = next((group["weight_decay"] for group in groups if group["weight_decay"]), None)
    name, found = "", []
    for i, group in enumerate(groups):
        if decaying is None or group["weight_decay"]:
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
