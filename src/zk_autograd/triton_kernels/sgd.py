"""SGD and its variants: see ``zk_autograd.statement.sgd`` for the relation."""

import triton
import triton.language as tl

from zk_autograd.triton_kernels.arithmetic import floor_divide, in_table, move, quantise, report, store

NUMBERS = ("u", "c", "A", "B", "r", "V", "W")
"""The public integers, in the order of ``numbers``, 0 for what a variant does not have; after them ``scale_g``,
``clip`` and ``scale_w``."""


@triton.jit(do_not_specialize=["n"])
def sgd_step(
    numbers, g, w, m, out_g, out_w, out_m, out_image, counts, sums, n,
    P: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A step of ``n`` parameters, as ``adam_step``'s; KIND: 0 is plain (no ``m``), 1 momentum, 2 Nesterov's."""
    u, c = tl.load(numbers), tl.load(numbers + 1)
    A, B, r = tl.load(numbers + 2), tl.load(numbers + 3), tl.load(numbers + 4)
    V, W = tl.load(numbers + 5), tl.load(numbers + 6)
    scale_g, clip, scale_w = tl.load(numbers + 7), tl.load(numbers + 8), tl.load(numbers + 9)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < n

    gradient = tl.load(g + at, mask=there, other=0.0)
    x, clipped, zeroed, exact, rounded = quantise(gradient, scale_g, clip)
    outside = store(out_g, at, x, there)
    weight = tl.load(w + at, mask=there, other=0)
    if KIND == 0:
        step = floor_divide(x * A + weight * W + r, P)
    else:
        if KIND == 2:
            c = P
        mean = floor_divide(tl.load(m + at, mask=there, other=0).to(tl.int64) * u + x * c + weight * V + r, P)
        outside |= store(out_m, at, mean, there)
        if KIND == 1:
            step = floor_divide(mean * A + r, P)
        else:
            step = floor_divide(x * A + weight * W + mean * B + r, P)
    move(weight, step, scale_w, out_w, out_image, at, there)
    report(counts, sums, gradient, clipped, zeroed, (outside | ~in_table(step, P)) & there, exact, rounded)
