"""The statements: one definition per optimizer, from which reference, optimizer and circuit come."""

from __future__ import annotations

from zk_autograd.errors import UsageError
from zk_autograd.statement import adafactor, adam, adam_wide, lamb, sgd
from zk_autograd.statement.base import (
    UNCHANGED,
    Array,
    Hyper,
    Named,
    Ops,
    Public,
    Range,
    Region,
    Resolution,
    Statement,
    carry_bounds,
    place_in,
    sum_of_squares,
)

STATEMENTS: dict[str, Statement] = {
    st.name: st
    for st in (
        *adam.FAMILY,
        *adam_wide.FAMILY,
        *lamb.FAMILY,
        *adafactor.FAMILY,
        *sgd.FAMILY,
    )
}


def statement(name: str) -> Statement:
    """The statement called ``name``; UsageError names the known ones."""
    try:
        return STATEMENTS[name]
    except KeyError:
        raise UsageError(f"unknown optimizer {name[:40]!r}: expected one of {', '.join(sorted(STATEMENTS))}") from None


__all__ = [
    "STATEMENTS",
    "UNCHANGED",
    "Array",
    "Hyper",
    "Named",
    "Ops",
    "Public",
    "Range",
    "Region",
    "Resolution",
    "Statement",
    "carry_bounds",
    "place_in",
    "statement",
    "sum_of_squares",
]
