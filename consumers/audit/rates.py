"""Learning rates as declared and as taken: what check 4 says of them. Pure."""

from __future__ import annotations

from typing import Any

from ledger.chain import RunChain
from zk_autograd.rates import taken_rate


def rates(chain: RunChain) -> list[dict[str, Any]]:
    """For each parameter group its schedule, the unit of its rates, and how far the steps' rates were off.

    Rates are those that the steps' integers stand for once bias corrections are over, in the block whose unit is the
    largest at the step. ``least`` is the smallest rate that was declared (used, in an open schedule) and is not 0.
    """
    st, P, start = chain.statement, chain.circuit.P, chain.start
    found = []
    for number, group in enumerate(chain.groups):
        blocks = [i for i, block in enumerate(start.blocks) if block.group == number]
        declared = taken = furthest = coarsest = 0.0
        used = []
        for step, opened in enumerate(chain.steps, 1):
            formats, lr = chain.formats_after(step), opened.event.rates[number]
            unit = max(st.rate_unit(formats[i], P) for i in blocks)
            instead = taken_rate(st, lr, unit, P)
            declared, taken = declared + lr, taken + instead
            furthest, coarsest = max(furthest, abs(instead - lr)), max(coarsest, unit)
            used.append(lr)
        schedule = group.schedule
        first = max(st.rate_unit(chain.formats[i], P) for i in blocks)
        there = [lr for lr in schedule.values or used if lr > 0]
        found.append(
            {
                "group": number,
                "schedule": schedule.kind,
                "largest": schedule.largest,
                "least": min(there, default=schedule.largest),
                "unit": max(coarsest, first),
                "declared_in_all": declared,
                "taken_in_all": taken,
                "off_by_at_most": furthest,
            }
        )
    return found


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
