"""Formats in a saved state: they may have been calibrated, and changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import Format, ParameterBlock
from zk_autograd.optim.blocks import Span, as_spans
from zk_autograd.optim.groups import GroupRule
from zk_autograd.statement import Resolution, Statement

_FORMAT = 4
"""Numbers of a format."""


def saving(spans: Sequence[Span]) -> list[list[int]]:
    """Of each span: its group, how many parameters, its format and its resolution."""
    return [[s.group, s.stop - s.start, *astuple(s.format), *astuple(s.known)] for s in spans]


def saved_spans(
    saved: Mapping[str, Any], st: Statement, groups: Sequence[GroupRule], counts: Sequence[int], P: int
) -> list[Span]:
    """Inverse of :func:`saving`; UsageError unless they are formats for groups of ``counts`` parameters."""
    try:
        blocks, known = [], []
        for group, count, *rest in saved["blocks"]:
            blocks.append(ParameterBlock(group, count, Format(*rest[:_FORMAT])))
            known.append(Resolution(*rest[_FORMAT:]))
            st.check_rate(groups[group].max_lr, blocks[-1].format, P)
        lengths = {len(blocks), len(saved["largest"]), len(saved["shifts"]) or len(blocks)}
        found = [sum(b.count for b in blocks if b.group == i) for i in range(len(counts))]
        order = [b.group for b in blocks]
        fit = (
            found == list(counts) and order == sorted(order) and len(lengths) == 1 and min(b.count for b in blocks) > 0
        )
    except (KeyError, IndexError, TypeError, ValueError, FormatError) as error:
        raise UsageError(f"optimizer: the saved state has no formats that can be read ({error})") from None
    if not fit:
        raise UsageError(f"optimizer: the saved state has formats for {found} parameters, expected {list(counts)}")
    return [replace(span, known=k) for span, k in zip(as_spans(blocks), known, strict=True)]
