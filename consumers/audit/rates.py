"""Learning rates as declared and as taken: what check 4 says of them. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.chain import RunChain
from zk_autograd.rates import taken_rate
from zk_autograd.schedule import Schedule


@dataclass
class _Group:
    """Sums of one parameter group; the rate that was taken last, and as what."""

    schedule: Schedule
    blocks: list[int]
    unit: float = 0.0
    coarsest: float = 0.0
    declared: float = 0.0
    taken: float = 0.0
    furthest: float = 0.0
    least: float = math.inf
    last: float = -1.0
    instead: float = 0.0


class Rates:
    """For each parameter group its schedule, the unit of its rates, and how far the steps' rates were off.

    Rates are those that the steps' integers stand for once bias corrections are over, in the block whose unit is the
    largest at the step.
    """

    def __init__(self, chain: RunChain) -> None:
        self._chain = chain
        self._groups = [
            _Group(group.schedule, [i for i, block in enumerate(chain.start.blocks) if block.group == number])
            for number, group in enumerate(chain.groups)
        ]
        self.rescale()

    def rescale(self) -> None:
        """The units are those after the chain's last step, which changed scales."""
        chain, st = self._chain, self._chain.statement
        formats = chain.formats_after(len(chain.steps))
        for group in self._groups:
            group.unit, group.last = max(st.rate_unit(formats[i], chain.circuit.P) for i in group.blocks), -1.0
            group.coarsest = max(group.coarsest, group.unit)

    def add(self, rates: Sequence[float]) -> None:
        """Takes the next step's rates. More or fewer than there are groups are left out."""
        if len(rates) != len(self._groups):
            return
        for group, lr in zip(self._groups, rates, strict=True):
            if lr != group.last:
                group.last, group.instead = lr, taken_rate(
                    self._chain.statement, lr, group.unit, self._chain.circuit.P
                )  # fmt: skip
                group.furthest = max(group.furthest, abs(group.instead - lr))
                if lr > 0:
                    group.least = min(group.least, lr)
            group.declared += lr
            group.taken += group.instead

    def facts(self) -> list[dict[str, Any]]:
        """By group. ``least`` is the smallest rate that was declared (used, in an open schedule) and is not 0."""
        return [
            {
                "group": number,
                "schedule": group.schedule.kind,
                "largest": group.schedule.largest,
                "least": _least(group),
                "unit": group.coarsest,
                # Rates that no schedule allows may add up to more than there are numbers for in JSON.
                "declared_in_all": min(group.declared, sys.float_info.max),
                "taken_in_all": min(group.taken, sys.float_info.max),
                "off_by_at_most": group.furthest,
            }
            for number, group in enumerate(self._groups)
        ]


def _least(group: _Group) -> float:
    there = [lr for lr in group.schedule.values or (group.least,) if 0 < lr < math.inf]
    return min(there, default=group.schedule.largest)


def rates_in_words(found: list[dict[str, Any]]) -> str:
    """The same for people."""
    return "; ".join(_in_words(group) for group in found)


def _in_words(group: dict[str, Any]) -> str:
    least, largest, unit = group["least"], group["largest"], group["unit"]
    span = f"{largest:g}" if least == largest else f"{least:.2g} to {largest:g}"
    text = f"{group['schedule']} learning rate, {span}, in units of {unit:.2g}"
    if least < unit:
        text += " (SOME ARE SMALLER)"
    declared, taken = group["declared_in_all"], group["taken_in_all"]
    if f"{declared:.4g}" != f"{taken:.4g}":
        text += f", {declared:.4g} in all, taken as {taken:.4g}"
    return text
