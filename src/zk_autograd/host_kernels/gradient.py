"""A tile of gradients as integers, and what that took from them."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.compiling import compiled, reordered

TILE = 16384
"""Elements that are worked on at a time: ten arrays of them fit a core's second cache, and long loops fetch ahead."""


@compiled
def quantise(g, single, scale, clip, out):
    """Writes ``floor(g * scale + 1/2)``, clipped to ``clip``, to ``out``.

    ``scale`` is a power of two and at least 1, so the product is exact, unless it overflows and is clipped. In float64
    the sum is rounded as the reference's is, being the same operation. The reference's sum is exact where ``g`` is a
    float32 (of 24 bits), so floor and fraction, which a float32 holds exactly, give the same.

    Args:
        single: whether ``g`` is float32.
    """
    if single:
        _quantise_single(g, np.float32(scale), np.float32(clip), out)
    else:
        for i in range(len(g)):
            x = np.floor(np.float64(g[i]) * scale + 0.5)
            out[i] = np.int32(min(max(x, -clip), clip))


@compiled
def _quantise_single(g, scale, clip, out):
    for i in range(len(g)):
        exact = g[i] * scale
        x = np.floor(exact)
        x = x + np.float32(1.0) if exact - x >= np.float32(0.5) else x
        out[i] = np.int32(min(max(x, -clip), clip))


@compiled
def count(bits, unsigned, above, below, out):
    """Of gradients, as floats read as integers: how many were clipped, how many became zero, and the largest, without
    its sign. Such integers are in the floats' order; those of an infinity, and of what is no number, come last.

    Args:
        unsigned: a mask of all bits but the sign's.
        above, below: the least gradients in size, as integers, that are clipped: positive and negative ones.
        out: what :func:`quantise` made of them.
    """
    integer = bits.dtype.type
    saturated, underflow, found = np.int32(0), np.int32(0), integer(bits[0] & unsigned)
    for i in range(len(bits)):
        size = integer(bits[i] & unsigned)
        least = below if bits[i] < 0 else above
        saturated = np.int32(saturated + np.int32(size >= least))
        underflow = np.int32(underflow + np.int32((out[i] == 0) & (size != 0)))
        found = max(found, size)
    return saturated, underflow, found


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
def move(w, by, out):
    """Writes ``w - by``; returns a negative number if one does not fit ``w``'s integers, which wrap round then."""
    left = w[0] ^ w[0]
    for i in range(len(w)):
        before = w[i]
        after = w.dtype.type(before - by[i])
        out[i] = after
        left |= w.dtype.type((before ^ w.dtype.type(by[i])) & (before ^ after))
    return left


@compiled
def show(w, start, unit, place):
    """Writes the image of weights from ``start`` on: their product with ``unit``, a power of two, rounded once."""
    _images(w[start : start + len(place)], unit, place)


@compiled
def _images(w, unit, place):
    for i in range(len(place)):
        place[i] = np.float64(w[i]) * unit


@compiled
def changed(w, unit, place):
    """How many floats are not :func:`show`'s image of these weights."""
    found = np.int32(0)
    for i in range(len(place)):
        found = np.int32(found + np.int32(place.dtype.type(np.float64(w[i]) * unit) != place[i]))
    return found
