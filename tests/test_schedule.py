"""Declared learning-rate schedules."""

from __future__ import annotations

import math

import pytest

from zk_autograd.errors import FormatError, UsageError, VerificationError
from zk_autograd.schedule import MAX_TABLE, Schedule

CONSTANT = Schedule("constant", (0.1,), 0.1)
TABLE = Schedule("table", (0.0, 0.1, 0.05), 0.2)
OPEN = Schedule("open", (), 0.2)


def test_a_constant_schedule_declares_one_rate_for_every_step() -> None:
    assert [CONSTANT.lr_at(step) for step in (1, 2, 10**9)] == [0.1] * 3


def test_a_table_declares_its_rates_in_order_and_its_last_one_for_ever_after() -> None:
    assert [TABLE.lr_at(step) for step in (1, 2, 3, 4, 10**9)] == [0.0, 0.1, 0.05, 0.05, 0.05]


def test_an_open_schedule_declares_no_rate() -> None:
    assert OPEN.lr_at(7) is None


def test_steps_count_from_one() -> None:
    with pytest.raises(UsageError, match="from 1"):
        TABLE.lr_at(0)


@pytest.mark.parametrize(
    ("schedule", "step", "lr"), [(CONSTANT, 5, 0.1), (TABLE, 1, 0.0), (TABLE, 9, 0.05), (OPEN, 1, 0.2), (OPEN, 2, 0.0)]
)
def test_the_declared_rate_holds(schedule: Schedule, step: int, lr: float) -> None:
    schedule.check(step, lr)


@pytest.mark.parametrize(
    ("schedule", "step", "lr", "said"),
    [
        (CONSTANT, 1, math.nextafter(0.1, 0), "not the declared one"),
        (TABLE, 2, 0.05, "not the declared one"),
        (TABLE, 4, 0.0, "not the declared one"),
        (CONSTANT, 1, 0.3, "above the declared largest"),
        (OPEN, 1, math.nextafter(0.2, 1), "above the declared largest"),
        (OPEN, 1, -1e-9, "at least 0"),
        (OPEN, 1, math.nan, "at least 0"),
        (OPEN, 1, math.inf, "at least 0"),
    ],
)
def test_any_other_rate_does_not(schedule: Schedule, step: int, lr: float, said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        schedule.check(step, lr)


@pytest.mark.parametrize(
    ("kind", "values", "max_lr"),
    [
        ("cosine", (0.1,), 0.1),
        ("constant", (), 0.1),
        ("constant", (0.1, 0.1), 0.1),
        ("table", (), 0.1),
        ("table", (0.1,) * (MAX_TABLE + 1), 0.1),
        ("open", (0.1,), 0.1),
        ("table", (0.1, 0.2), 0.1),
        ("table", (-0.1,), 0.1),
        ("table", (math.nan,), 0.1),
        ("open", (), 0.0),
        ("open", (), math.inf),
        ("open", (), math.nan),
    ],
)
def test_what_is_no_schedule_is_refused(kind: str, values: tuple[float, ...], max_lr: float) -> None:
    with pytest.raises(FormatError, match="schedule: expected"):
        Schedule(kind, values, max_lr)


def test_a_table_may_be_as_long_as_the_cap() -> None:
    assert Schedule("table", (0.1,) * MAX_TABLE, 0.1).lr_at(MAX_TABLE) == 0.1
