"""By how many bits a block's scale of gradients should change, from the gradients that it met since the last change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format
from zk_autograd.optim.advance import fits
from zk_autograd.optim.blocks import Span
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


@dataclass(frozen=True)
class Change:
    """A block before a step with which its scale may change.

    Attributes:
        statement, hyper, max_lr, P: of the run and the block's group.
        lr, step: of the step.
        span: the block.
        state: its state before the step.
    """

    statement: Statement
    hyper: Hyper
    max_lr: float
    P: int
    lr: float
    step: int
    span: Span
    state: Mapping[str, torch.Tensor]

    def shifted(self, shift: int) -> Span:
        """The block after a change by ``shift`` bits; FormatError if the statement does not allow it."""
        st, span = self.statement, self.span
        fmt = st.check_shift(self.hyper, self.max_lr, span.format, shift, self.P)
        return replace(span, format=fmt, known=st.resolution(self.hyper, span.known, self.step, shift, self.P))

    def check(self, shift: int) -> None:
        """Raises FormatError unless the statement allows the change, and the step then fits the table."""
        st, new = self.statement, self.shifted(shift)
        pub = st.step_integers(self.hyper, self.lr, self.step, new.format, self.P, shift, new.known)
        if not fits(st, self.state, pub, self.P):
            raise FormatError(f"{st.name}: a change of scale by {shift} bits takes a state out of a table of {self.P}")

    def best(self, wanted: int) -> int:
        """The change nearest to ``wanted``, from there towards 0, that may be and that the state allows."""
        st = self.statement
        for shift in range(wanted, 0, -1 if wanted > 0 else 1):
            try:
                before, after = (st.rate_unit(s.format, self.P) for s in (self.span, self.shifted(shift)))
                if before < after and after * RATE_UNITS > self.lr:
                    continue
                self.check(shift)
            except FormatError:
                continue
            return shift
        return 0
