"""By how many bits a block's scale of gradients should change, from the gradients that it met since the last change."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format
from zk_autograd.optim.advance import fits
from zk_autograd.statement import Hyper, Statement
from zk_autograd.statement.base import LARGEST_SHIFT

RATE_UNITS = 256
"""A finer scale of gradients must not leave the learning rate fewer units than this, where it costs it any."""


def wanted_shift(largest: float, fmt: Format, headroom: float) -> int:
    """The change after which ``headroom`` times the largest gradient fits the format; 0 while it is within a bit of it.

    A coarser scale is wanted only if gradients were clipped.
    """
    if not largest:
        return 0
    room = math.log2(fmt.clip / (largest * 2.0**fmt.scale_g))
    if room < 0:
        return max(math.floor(room) - 1, -LARGEST_SHIFT)
    return max(0, min(math.floor(room - math.log2(headroom)), LARGEST_SHIFT))


def check_shift(
    st: Statement, hyper: Hyper, max_lr: float, lr: float, fmt: Format, shift: int, state: Mapping[str, torch.Tensor],
    step: int, P: int,
) -> None:  # fmt: skip
    """Raises FormatError unless the statement allows the change and step ``step`` then fits the table.

    Args:
        state: the block's, before that step.
    """
    new = st.check_shift(hyper, max_lr, fmt, shift, P)
    if not fits(st, state, st.step_integers(hyper, lr, step, new, P, shift), P):
        raise FormatError(f"{st.name}: a change of scale by {shift} bits takes a state out of a table of {P}")


def best_shift(
    st: Statement, hyper: Hyper, max_lr: float, lr: float, fmt: Format, wanted: int,
    state: Mapping[str, torch.Tensor], step: int, P: int,
) -> int:  # fmt: skip
    """The change nearest to ``wanted``, from there towards 0, that may be and that the state allows."""
    toward_zero = -1 if wanted > 0 else 1
    for shift in range(wanted, 0, toward_zero):
        try:
            new = st.check_shift(hyper, max_lr, fmt, shift, P)
            before, after = st.rate_unit(fmt, P), st.rate_unit(new, P)
            if before < after and after * RATE_UNITS > lr:
                continue
            check_shift(st, hyper, max_lr, lr, fmt, shift, state, step, P)
        except FormatError:
            continue
        return shift
    return 0
