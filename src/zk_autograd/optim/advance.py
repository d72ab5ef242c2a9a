"""One step of a statement on torch tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from zk_autograd.errors import FormatError
from zk_autograd.statement import Ops, Public, Range, Statement

CHUNK = 1 << 17
"""Elements that are worked on at a time on a CPU: intermediate values stay in its caches and cost no fresh memory."""


def isqrt(x: torch.Tensor) -> torch.Tensor:
    """Exact integer square roots of int64 values in ``[0, 2**52)``.

    They are exact in float64, and IEEE 754's square root is correctly rounded, so truncating it is wrong only if the
    rounding reaches the next integer ``k``. It does not: below ``2**52`` the root of ``k*k - 1`` lies more than
    ``1/(2*k) >= 2**-27`` below ``k <= 2**26``, where floats are at most ``2**-27`` apart and rounding moves a value by
    at most ``2**-28``.
    """
    return x.to(torch.float64).sqrt_().to(torch.int64)


ROUNDS = 16
"""So often gradients are dropped and the step tried again, where each moves others' steps."""

OPS = Ops(isqrt, torch.maximum)


@dataclass(frozen=True, eq=False)
class Advanced:
    """State after a step, hints, the gradient as used, and how many of its elements were set to zero to fit."""

    post: dict[str, torch.Tensor]
    hints: dict[str, torch.Tensor]
    g: torch.Tensor
    limited: int


def advance(st: Statement, pre: Mapping[str, torch.Tensor], g: torch.Tensor, pub: Public, P: int) -> Advanced:
    """The statement's step, held to the table (:meth:`Statement.ranges`).

    An element whose step would leave the table gets a zero gradient instead, and is counted. The formats that
    :meth:`Statement.choose_format` makes leave room for every gradient sequence, so this is for states from elsewhere.

    Args:
        pre, g: int64 of shape (n,), on one device; for a statement with ``carries``, those of one whole block.
    Raises:
        FormatError: an element does not fit even so.
    """
    if st.shaped:
        return _advance_whole(st, pre, g, pub, P)
    post, hints = _begin(st, pre, g, pub, P)
    outside = _outside(st, pre, post, hints, pub, P)
    if outside is None:
        return Advanced(_finish(st, pre, post, hints, pub, P), hints, g, 0)
    g = torch.where(outside, 0, g)
    post, hints = _begin(st, pre, g, pub, P)
    still = _outside(st, pre, post, hints, pub, P)
    if still is not None:
        raise FormatError(
            f"optimizer: the steps of {int(torch.count_nonzero(still))} parameters do not fit a table of {P} even with "
            "a gradient of zero; no step was taken: lower the learning rate or the weight decay"
        )
    return Advanced(_finish(st, pre, post, hints, pub, P), hints, g, int(torch.count_nonzero(outside)))


def _advance_whole(st: Statement, pre: Mapping[str, torch.Tensor], g: torch.Tensor, pub: Public, P: int) -> Advanced:
    """:func:`advance` where one gradient moves the steps of others: elements are dropped until all steps fit."""
    limited = torch.zeros_like(g, dtype=torch.bool)
    for _ in range(ROUNDS):
        post, made = st.advance(pre, g, pub, P, OPS)
        hints = {name: made[name] for name in st.hints}
        outside = _outside(st, pre, post, hints, pub, P)
        if outside is None:
            return Advanced(post, hints, g, int(torch.count_nonzero(limited)))
        limited |= outside
        g = torch.where(limited, 0, g)
    raise FormatError(
        f"optimizer: {int(torch.count_nonzero(limited))} gradients were dropped and steps still do not fit a table of "
        f"{P}; no step was taken: lower the learning rate"
    )


def advance_parts(
    st: Statement, pre: Mapping[str, torch.Tensor], g: torch.Tensor, parts: Sequence[tuple[slice, Public]], P: int
) -> Advanced:
    """:func:`advance` with public integers of its own for each part; the parts cover the tensors in order."""
    if len(parts) == 1:
        return advance(st, pre, g, parts[0][1], P)
    done = [advance(st, {name: x[part] for name, x in pre.items()}, g[part], pub, P) for part, pub in parts]
    return Advanced(
        post={name: torch.cat([d.post[name] for d in done]) for name in st.state},
        hints={name: torch.cat([d.hints[name] for d in done]) for name in st.hints},
        g=g if not any(d.limited for d in done) else torch.cat([d.g for d in done]),
        limited=sum(d.limited for d in done),
    )


def fits(st: Statement, pre: Mapping[str, torch.Tensor], pub: Public, P: int) -> bool:
    """Whether the step of every element, with a gradient of zero, stays in the table and within 64 bits."""
    largest = max((int(x.abs().max()) for name, x in pre.items() if name != "w"), default=0)
    if largest * max((pub[name] for name in st.rescales or ()), default=0) >= 1 << 62:
        return False
    post, hints = _begin(st, pre, torch.zeros_like(pre["w"]), pub, P)
    return _outside(st, pre, post, hints, pub, P) is None


def _begin(
    st: Statement, pre: Mapping[str, torch.Tensor], g: torch.Tensor, pub: Public, P: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The step, but for what depends on sums over all elements."""
    if g.device.type != "cpu" or len(g) <= CHUNK:
        return st.begin(pre, g, pub, P, OPS)
    post: dict[str, torch.Tensor] = {}
    hints: dict[str, torch.Tensor] = {}
    for start in range(0, len(g), CHUNK):
        part = slice(start, start + CHUNK)
        made = st.begin({name: x[part] for name, x in pre.items()}, g[part], pub, P, OPS)
        for target, source in zip((post, hints), made, strict=True):
            for name, value in source.items():
                if not start:
                    target[name] = torch.empty_like(g)
                target[name][part] = value
    return post, hints


def _finish(
    st: Statement, pre: Mapping[str, torch.Tensor], post: dict[str, torch.Tensor],
    hints: Mapping[str, torch.Tensor], pub: Public, P: int,
) -> dict[str, torch.Tensor]:  # fmt: skip
    if not st.carries:
        return post
    scalars = st.settle(st.sums(pre, post, hints, P), pub, P)
    return st.finish(pre, post, {**hints, **scalars}, pub, P)


def _outside(
    st: Statement, pre: Mapping[str, torch.Tensor], post: Mapping[str, torch.Tensor],
    hints: Mapping[str, torch.Tensor], pub: Public, P: int,
) -> torch.Tensor | None:  # fmt: skip
    """Which elements leave the table; None if none does."""
    size = CHUNK if pre["w"].device.type == "cpu" else len(pre["w"])
    ends = [
        end
        for start in range(0, len(pre["w"]), size)
        for quantity in st.ranges(_cut(pre, start, size), _cut(post, start, size), _cut(hints, start, size), pub, P)
        for end in _excess(quantity)
    ]
    if int(torch.stack(ends).max()) <= 0:
        return None
    quantities = st.ranges(pre, post, hints, pub, P)
    return torch.stack([(q.value < q.low) | (q.value > q.high) for q in quantities]).any(dim=0)


def _cut(arrays: Mapping[str, torch.Tensor], start: int, size: int) -> dict[str, torch.Tensor]:
    return {name: x[start : start + size] for name, x in arrays.items()}


def _excess(quantity: Range) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the quantity passes either end; negative if it does not."""
    low, high = quantity.value.aminmax()
    return quantity.low - low, high - quantity.high
