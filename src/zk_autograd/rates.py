"""How far the rates that are taken may be from those that a run declares (``docs/adr/0041``).

A learning rate becomes an integer, so it has a smallest unit, and where the integer has to be coprime to the table's
size, neighbours may be several units apart: of ``P = 32760`` the first are 1, 11, 17, 19. Rates that are small beside
the schedule's largest are often meant so: the first of a warm-up, the last of a cosine. What must not be is that they
add up to another training than the one that was declared: at no step may the run have gone further by its rates, or
less far, than declared, by more than a part of it and one step at the largest rate.

All floats here come from sums and products alone, in one order: the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format, nearest_coprime
from zk_autograd.schedule import Schedule
from zk_autograd.statement import Statement

SHARE = 8
"""Summed up from the first step, rates taken are off by at most one over it of those declared, and a largest rate."""


@dataclass(frozen=True)
class Drift:
    """Sums over the first steps of a run: of the declared rates, and of what the taken ones have more than these."""

    declared: float = 0.0
    more: float = 0.0

    def after(self, declared: float, taken: float, times: int = 1) -> Drift:
        """With ``times`` steps more at this rate."""
        return Drift(self.declared + declared * times, self.more + (taken - declared) * times)

    def within(self, largest: float) -> bool:
        """Whether it is no more than a run of this largest rate may have."""
        return abs(self.more) * SHARE <= self.declared + largest * SHARE


def taken_rate(st: Statement, lr: float, unit: float, P: int) -> float:
    """What the integer for the rate ``lr`` stands for, once bias corrections are over."""
    if not lr / unit < 1 << 53:  # finer than a float
        return lr
    units = math.floor(lr / unit + 0.5)
    return (nearest_coprime(units, P) if st.coprime_rate else units) * unit


def check_schedule(st: Statement, schedule: Schedule, fmt: Format, P: int) -> None:
    """Raises FormatError unless a format resolves a schedule: see :data:`SHARE`; names the unit that would do.

    1. weights and the largest rate are fine enough (:meth:`Statement.check_rate`);
    2. a constant rate is off by at most its share, since it is taken for ever;
    3. up to each step of a table, the rates taken are within the bound. What an open schedule will use is not known:
       an audit prints how far its rates were off.
    """
    # 1. fine enough
    st.check_rate(schedule.largest, fmt, P)
    unit = st.rate_unit(fmt, P)

    def resolved(unit: float) -> bool:
        if schedule.kind == "constant":  # 2
            (lr,) = schedule.values
            return abs(taken_rate(st, lr, unit, P) - lr) * SHARE <= lr
        return _table(st, schedule.values, schedule.largest, unit, P)[1] is None  # 3

    if schedule.kind != "open" and not resolved(unit):
        raise FormatError(_refusal(st, unit, "its rates", resolved))


def check_step(st: Statement, schedule: Schedule, step: int, fmt: Format, P: int) -> None:
    """Raises FormatError if step ``step`` is beyond a table whose last rate, held so long, leaves the bound."""
    if schedule.kind != "table" or step <= len(schedule.values):
        return
    lr = schedule.values[-1]

    def resolved(unit: float) -> bool:
        so_far, _ = _table(st, schedule.values, schedule.largest, unit, P)
        beyond = step - len(schedule.values)
        return so_far.after(lr, taken_rate(st, lr, unit, P), beyond).within(schedule.largest)

    unit = st.rate_unit(fmt, P)
    if not resolved(unit):
        text = f"the table's last rate {lr!r}, held for {step - len(schedule.values)} step(s) after its end,"
        raise FormatError(_refusal(st, unit, text, resolved))


@lru_cache(maxsize=256)
def _table(st: Statement, values: tuple[float, ...], largest: float, unit: float, P: int) -> tuple[Drift, int | None]:
    """The sums over a whole table, and the first step after which they are out of bounds."""
    drift, first = Drift(), None
    for step, lr in enumerate(values, 1):
        drift = drift.after(lr, taken_rate(st, lr, unit, P))
        if first is None and not drift.within(largest):
            first = step
    return drift, first


def _refusal(st: Statement, unit: float, what: str, resolved: Callable[[float], bool]) -> str:
    bits = next((k for k in range(1, 41) if resolved(unit / 2**k)), None)
    wanted = "no finer one would do" if bits is None else f"expected at most {unit / 2**bits:.2g}"
    return (
        f"{st.name}: in this format learning rates are multiples of {unit:.2g}, so that {what} would, summed up, be "
        f"off by more than 1/{SHARE} of what is declared and one step at the largest rate: {wanted}. Finer are a "
        "profile of more rows (default, where this is small), adam-wide and adamw-wide (2^9 times) and a smaller "
        "largest rate; or leave out the steps at rates below a unit"
    )
