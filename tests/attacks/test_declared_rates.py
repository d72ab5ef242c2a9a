"""A run declares a rate, and its proven steps are taken at another, far larger one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.chain import RunChain
from schemas.events import Hyper, ScheduleKind
from tests.consumers.test_chain_scales import RATES, P, Run, opened
from zk_autograd.errors import VerificationError
from zk_autograd.fixed_point import MIN_SCALE_W, Format
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
