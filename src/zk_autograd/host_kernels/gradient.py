"""A tile of gradients as integers, and what that took from them."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.compiling import compiled, reordered

TILE = 1024
"""Elements that are worked on at a time: some ten arrays of them fit a core's own caches."""


@compiled
def quantise(g, scale, clip, out):
    """Writes ``floor(g * scale + 1/2)``, clipped to ``clip``, to ``out``; returns how many were clipped, and how many
    became zero.

    ``scale`` is a power of two and at least 1, so the product is exact in float64; the sum is rounded as the
    reference's is, being the same operation.
    """
    saturated, underflow = 0, 0
    for i in range(len(g)):
        exact = np.float64(g[i]) * scale
        x = np.floor(exact + 0.5)
        saturated += np.int64(abs(x) > clip)
        x = min(max(x, -clip), clip)
        underflow += np.int64((x == 0.0) & (exact != 0.0))
        out[i] = np.int32(x)
    return saturated, underflow


@compiled
def largest(bits, unsigned):
    """The largest of ``bits``, of floats read as integers, without their sign (a mask of the other bits).

    They are in the floats' order; those of an infinity, and of what is no number, come last.
    """
    found = bits[0] & unsigned
    for i in range(len(bits)):
        found = max(found, bits[i] & unsigned)
    return found


@reordered
def figures(g, scale, integers):
    """The sums of squares of gradients, and of what their integers lack; in any order, so to some 15 digits."""
    norm, lost = 0.0, 0.0
    for i in range(len(g)):
        exact = np.float64(g[i]) * scale
        rest = exact - np.float64(integers[i])
        norm += exact * exact
        lost += rest * rest
    return norm, lost


@compiled
def move(w, by, unit, out, image):
    """Writes ``w - by``, and its product with ``unit``, rounded once to ``image``'s precision.

    Weights are below ``2**53``, and ``unit`` is a power of two.
    """
    for i in range(len(w)):
        x = w[i] - by[i]
        out[i] = x
        image[i] = np.float64(x) * unit


@compiled
def same(x, y):
    """Whether two arrays of integers are equal; looks at all of both."""
    difference = x[0] ^ y[0]
    for i in range(len(x)):
        difference |= x[i] ^ y[i]
    return difference == 0
