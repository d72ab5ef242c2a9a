"""A tile of gradients as integers, and what that took from them."""

from __future__ import annotations

import math

import numpy as np

from zk_autograd.host_kernels.compiling import compiled, reordered

TILE = 1024
"""Elements that are worked on at a time: some ten arrays of them fit a core's own caches."""


@reordered
def squares(x: object) -> float:
    """Sum of squares of float64 values."""
    total = 0.0
    for i in range(len(x)):
        total += x[i] * x[i]
    return total


@compiled
def quantise(g, bits, unsigned, scale, clip, exact, rounded, out):  # type: ignore[no-untyped-def]
    """Writes ``floor(g * scale + 1/2)``, clipped to ``clip``, to ``out``.

    ``scale`` is a power of two and at least 1, so the product is exact in float64; the sum is rounded as the
    reference's is, being the same operation.

    Args:
        g: float32 or float64.
        bits: the same memory as integers: without the sign they are in the floats' order, and those of no number or of
            an infinity are largest.
        unsigned: a mask of all bits but the sign.
        exact, rounded: float64, for intermediate values.
    Returns:
        How many were clipped, how many became zero, the largest of ``bits`` without sign, and the sums of squares of
        ``exact`` gradients and of what was lost.
    """
    peak, saturated, underflow = np.int64(0), 0, 0
    top = float(clip)
    for i in range(len(g)):
        peak = max(peak, np.int64(bits[i]) & unsigned)
    for i in range(len(g)):
        exact[i] = np.float64(g[i]) * scale
    for i in range(len(g)):
        x = math.floor(exact[i] + 0.5)
        saturated += np.int64(abs(x) > top)
        x = min(max(x, -top), top)
        underflow += np.int64(x == 0.0) - np.int64(exact[i] == 0.0)
        rounded[i] = x
    for i in range(len(g)):
        out[i] = np.int64(rounded[i])
    norm = squares(exact[: len(g)])
    for i in range(len(g)):
        exact[i] -= rounded[i]
    return saturated, underflow, peak, norm, squares(exact[: len(g)])


@compiled
def image(w, unit, out):  # type: ignore[no-untyped-def]
    """Writes ``w * unit``, rounded once to ``out``'s precision: ``w`` is below ``2**53``, ``unit`` a power of two."""
    for i in range(len(w)):
        out[i] = np.float64(w[i]) * unit
