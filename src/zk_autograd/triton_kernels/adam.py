"""Adam and its variants: see ``zk_autograd.statement.adam`` for the relation."""

import triton
import triton.language as tl

from zk_autograd.triton_kernels.arithmetic import (
    floor_divide,
    in_table,
    move,
    quantise,
    quotient,
    report,
    root,
    store,
)

NUMBERS = ("b1", "c1", "b2", "c2", "A", "E", "r", "W", "k")
"""The public integers, in the order of ``numbers``; after them ``scale_g``, ``clip`` and ``scale_w``."""


@triton.jit(do_not_specialize=["n"])
def adam_step(
    numbers, g, w, m, v, h, out_g, out_w, out_m, out_v, out_h, out_s, out_x, out_image, counts, sums, n,
    P: tl.constexpr, BITS: tl.constexpr, DECAY: tl.constexpr, AMSGRAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A step of ``n`` parameters. ``numbers`` is in memory, so that one binary serves every step.

    Args:
        h, out_h: with AMSGRAD.
        out_x: hint ``e`` with DECAY 1 (L2), ``d`` with DECAY 2 (decoupled).
        counts, sums: a row for each program.
        BITS: ``P < 2**BITS``.
    """
    b1, c1 = tl.load(numbers), tl.load(numbers + 1)
    b2, c2 = tl.load(numbers + 2), tl.load(numbers + 3)
    A, E, r = tl.load(numbers + 4), tl.load(numbers + 5), tl.load(numbers + 6)
    scale_g, clip, scale_w = tl.load(numbers + 9), tl.load(numbers + 10), tl.load(numbers + 11)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < n

    gradient = tl.load(g + at, mask=there, other=0.0)
    e, clipped, zeroed, exact, rounded = quantise(gradient, scale_g, clip)
    outside = store(out_g, at, e, there)
    weight = tl.load(w + at, mask=there, other=0)
    if DECAY > 0:
        decay = floor_divide(weight * tl.load(numbers + 7) + r, P)
        if DECAY == 1:
            e = e + decay
            outside |= store(out_x, at, e, there) | ~in_table(e, P)
        else:
            outside |= store(out_x, at, decay, there) | ~in_table(decay, P)

    mean = floor_divide(tl.load(m + at, mask=there, other=0).to(tl.int64) * b1 + e * c1 + r, P)
    outside |= store(out_m, at, mean, there)
    square = floor_divide(tl.load(v + at, mask=there, other=0).to(tl.int64) * b2 + e * e * c2 + r, P)
    limit = (P - E) >> 1
    end = tl.where(limit < 0, 0, (limit + 1) * (limit + 1))  # from here on the root is too large
    fits = (square >= 0) & (square < end)
    outside |= store(out_v, at, square, there) | ~fits
    s = root(tl.where(fits, square, 0))
    outside |= store(out_s, at, s, there)
    if AMSGRAD:
        s = tl.maximum(tl.load(h + at, mask=there, other=0).to(tl.int64) * tl.load(numbers + 8), s)
        outside |= store(out_h, at, s, there) | (s > limit)
        s = tl.where(s > limit, 0, s)

    step, inside = quotient(mean * A, 2 * s + E, P, BITS)
    outside |= ~inside
    if DECAY == 2:
        step = step + decay
    move(weight, step, scale_w, out_w, out_image, at, there)
    report(counts, sums, gradient, clipped, zeroed, outside & there, exact, rounded)
