"""A run declares a rate, and its proven steps are taken at another, far larger one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from consumers.audit.rates import Rates, rates_in_words
from ledger.chain import RunChain
from schemas.events import Hyper, ScheduleKind
from tests.consumers.test_chain_scales import RATES, P, Run, opened
from zk_autograd.errors import FormatError, VerificationError
from zk_autograd.fixed_point import MIN_SCALE_W, Format
from zk_autograd.rates import check_schedule, check_step
from zk_autograd.schedule import Schedule
from zk_autograd.statement import STATEMENTS


def hostile(name: str, lr: float, max_lr: float, scale_w: int) -> Run:
    """A start of constant rate ``lr`` whose largest rate and scale of weights are the trainer's choice."""
    run = Run(name)
    groups = tuple(
        replace(g, max_lr=max_lr, schedule_kind=ScheduleKind.CONSTANT, schedule=(lr,)) for g in run.start.groups
    )
    blocks = tuple(replace(b, scale_w=scale_w) for b in run.start.blocks)
    run.start = replace(run.start, groups=groups, blocks=blocks)
    return run


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_a_declared_constant_rate_is_the_rate_that_is_taken(name: str) -> None:
    """Declared: a constant rate of 1e-9. Its integer is A = 1, which in this format stands for more than 0.01.

    What the format resolves has to be small beside the rates of the schedule: ``max_lr`` may be any number above them.
    """
    lr, st = 1e-9, STATEMENTS[name]
    scale_w = 4 if name == "adam" else 0
    max_lr = 1.0 if name == "adam" else 1e6
    run = hostile(name, lr, max_lr, scale_w)
    for block in run.start.blocks:
        fmt = Format(block.scale_w, block.scale_g, block.guard, block.clip)
        pub = st.public_integers(run.hyper[block.group], lr, 1000, fmt, P)
        assert pub.A == 1
        assert st.rate_unit(fmt, P) > 1e5 * lr
    with pytest.raises(VerificationError, match=r"learning rates are multiples|fractional bits"):
        RunChain(opened(run.start), run.circuit)


@pytest.mark.parametrize("name", ["adam", "lamb", "sgd", "momentum"])
def test_weights_of_a_declared_format_keep_the_fractional_bits_that_every_format_keeps(name: str) -> None:
    """``fixed_point.MIN_SCALE_W``: "No format keeps fewer fractional bits of a weight".

    LAMB is the worst: its ``rate_unit`` does not depend on the format, and each update would be a whole unit of 1.0.
    """
    run = Run("adam") if name == "lamb" else Run(name)
    if name == "lamb":
        st = STATEMENTS[name]
        run.st, run.circuit = st, replace(run.circuit, statement=st)
        hyper = tuple(Hyper(n, v) for n, v in sorted(st.defaults.items()))
        groups = tuple(replace(g, hyper=hyper) for g in run.start.groups)
        run.start = replace(run.start, optimizer=name, groups=groups)
    coarse = 0 if name != "adam" else 12 - 1
    blocks = tuple(replace(b, scale_w=coarse, scale_g=0, clip=1) for b in run.start.blocks)
    groups = tuple(
        replace(g, max_lr=max(lr, 0.1), schedule_kind=ScheduleKind.OPEN, schedule=())
        for g, lr in zip(run.start.groups, RATES, strict=True)
    )
    assert coarse < MIN_SCALE_W
    with pytest.raises(VerificationError):
        RunChain(opened(replace(run.start, blocks=blocks, groups=groups)), run.circuit)


# A table of one large rate and many tiny ones.


def tabled(name: str, rates: tuple[float, ...], scale_w: int | None = None) -> Run:
    """A start with this table for both groups, in the format of their largest rate, or in one of coarser weights."""
    run = Run(name)
    max_lr = max(rates)
    groups = tuple(
        replace(g, max_lr=max_lr, schedule_kind=ScheduleKind.TABLE, schedule=rates) for g in run.start.groups
    )
    formats = [run.st.choose_format(run.hyper[b.group], max_lr, 0.25, P) for b in run.start.blocks]
    blocks = tuple(
        replace(b, scale_w=f.scale_w if scale_w is None else scale_w, scale_g=f.scale_g, clip=f.clip)
        for b, f in zip(run.start.blocks, formats, strict=True)
    )
    run.start = replace(run.start, groups=groups, blocks=blocks)
    return run


@pytest.mark.parametrize("name", ["adam", "momentum", "nesterov", "amsgradw"])
def test_tiny_rates_of_a_table_do_not_add_up_to_a_training_of_their_own(name: str) -> None:
    """Declared: one step at 0.02 and 4,095 at 1e-9, 0.02 in all. Taken at scale_w 12: 4,095 at 6.1e-5, 0.25 in all."""
    run = tabled(name, (0.02, *[1e-9] * 4095), 12)
    block = run.start.blocks[0]
    unit = run.st.rate_unit(Format(block.scale_w, block.scale_g, block.guard, block.clip), P)
    assert 4095 * unit > 5 * 0.02, "the case is harmless"
    with pytest.raises(VerificationError, match=r"learning rates are multiples of .*expected at most"):
        RunChain(opened(run.start), run.circuit)


def test_a_last_rate_below_a_unit_is_not_held_for_ever() -> None:
    """The table ends after two steps: its last rate holds, and each step takes a unit instead of it."""
    run = tabled("adam", (0.02, 1e-9), 12)
    chain = RunChain(opened(run.start), run.circuit)
    scales = chain._scales_after(0)
    chain._check_resolved(300, scales)
    with pytest.raises(FormatError, match="held for 998 step"):
        chain._check_resolved(1000, scales)


def test_a_warm_up_from_nothing_that_never_ends_is_refused() -> None:
    """Large rates at the table's end pay for no error before them: a run may stop when it likes."""
    run = tabled("adam", (*[1e-9] * 2000, *[0.02] * 2000), 12)
    with pytest.raises(VerificationError, match="learning rates are multiples"):
        RunChain(opened(run.start), run.circuit)


def cosine(steps: int, lr: float) -> tuple[float, ...]:
    return tuple(lr * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps + 1))[:4096]


def warm_up(steps: int, lr: float, ramp: int) -> tuple[float, ...]:
    return tuple(lr * min(1.0, t / ramp) for t in range(steps))


def steps_down(steps: int, lr: float) -> tuple[float, ...]:
    return tuple(lr * 0.1 ** (t * 5 // steps) for t in range(steps))


@pytest.mark.parametrize("lr", [3e-5, 1e-3, 0.02])
@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_schedules_that_people_use_are_resolved_by_the_chosen_formats(name: str, lr: float) -> None:
    """All but the longest ramps to a rate at which SGD's formats with decay have some hundred units only."""
    st = STATEMENTS[name]
    fmt = st.choose_format(dict(st.defaults), lr, 0.25, P)
    ramp = 2000 if lr / st.rate_unit(fmt, P) > 256 else 200
    tables = [cosine(n, lr) for n in (10, 300, 4095)]
    tables += [
        warm_up(4096, lr, ramp // 2),
        warm_up(50, lr, 49),
        steps_down(4000, lr),
        (*warm_up(ramp, lr, ramp), *cosine(2000, lr)),
    ]
    for table in tables:
        check_schedule(st, Schedule("table", table, max(table)), fmt, P)
        check_step(st, Schedule("table", table, max(table)), len(table) + 10, fmt, P)
    check_schedule(st, Schedule("constant", (lr,), lr), fmt, P)


def test_rates_beyond_every_float_do_not_crash_the_chain() -> None:
    """``check_rate`` has no upper end: a hostile start may declare any float."""
    run = hostile("adam", 1.7e308, 1.7e308, 28)
    RunChain(opened(run.start), run.circuit)


def test_a_verdict_prints_declared_rates_below_a_unit_and_what_was_taken() -> None:
    """``zk-audit``'s check 4 and ``--json``: the bound allows one step at the largest rate, so it has to be seen."""
    run = tabled("adam", (0.02, 1e-9, 1e-9), 12)
    run.chain = RunChain(opened(run.start), run.circuit)
    taken = Rates(run.chain)
    for lr in (0.02, 1e-9, 1e-9):
        event = run.event(rates=(lr, lr))
        run.chain.append(opened(event))
        taken.add(event.rates)
    (found, _) = taken.facts()
    unit = found["unit"]
    assert unit > 6e-5
    assert (found["least"], found["largest"]) == (1e-9, 0.02)
    assert found["taken_in_all"] > found["declared_in_all"] + unit
    assert found["off_by_at_most"] >= unit - 1e-9
    words = rates_in_words([found])
    assert f"1e-09 to 0.02, in units of {unit:.2g} (SOME ARE SMALLER)" in words
    assert "taken as" in words
