"""Adam and its variants: see ``zk_autograd.statement.adam`` for the relation."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.arithmetic import floor_divide, leaves, quotient, root
from zk_autograd.host_kernels.compiling import compiled
from zk_autograd.host_kernels.gradient import TILE, image, quantise

NONE, L2, DECOUPLED = 0, 1, 2
"""What weight decay is added to: nothing, the gradient, the weights."""


@compiled
def adam(  # type: ignore[no-untyped-def]
    decay, amsgrad, g, bits, w, m, v, h, out_g, out_w, out_m, out_v, out_h, out_s, out_x, out_image,
    b1, c1, b2, c2, A, E, r, W, k, P, unsigned, scale, clip, unit,
):  # fmt: skip
    """Steps of one span.

    Args:
        decay, amsgrad: which variant.
        g, bits: gradients, see :func:`quantise`.
        w, m, v, h: int64 state; ``h`` is any array where there is none, as ``out_h`` and ``out_x`` are then.
        out_x: hint ``e`` with L2, ``d`` with decoupled decay.
        unsigned, scale, clip: see :func:`quantise`.
        unit: of a weight, ``2**-scale_w``.
    Returns:
        Elements that were clipped, that became zero, that leave the table; the largest gradient's bits; two sums.
    """
    inverse, limit = 1.0 / P, (P - E) // 2
    exact, rounded = np.empty(TILE, np.float64), np.empty(TILE, np.float64)
    decayed, moved = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    saturated, underflow, outside, peak, norm, lost = 0, 0, 0, np.int64(0), 0.0, 0.0
    for start in range(0, len(w), TILE):
        to = min(start + TILE, len(w))
        found = quantise(g[start:to], bits[start:to], unsigned, scale, clip, exact, rounded, out_g[start:to])
        saturated, underflow, peak = saturated + found[0], underflow + found[1], max(peak, found[2])
        norm, lost = norm + found[3], lost + found[4]
        used = out_g[start:to]
        if decay == DECOUPLED:
            _decayed(w[start:to], W, r, P, inverse, out_x[start:to])
        elif decay == L2:
            _decayed(w[start:to], W, r, P, inverse, decayed)
            _sum(used, decayed, out_x[start:to])
            used = out_x[start:to]
        _means(used, m[start:to], b1, c1, r, P, inverse, out_m[start:to])
        _square_means(used, v[start:to], b2, c2, r, P, inverse, out_v[start:to])
        outside += _roots(out_v[start:to], limit, out_s[start:to])
        divisor = out_s[start:to]
        if amsgrad:
            divisor = out_h[start:to]
            outside += _largest(h[start:to], k, out_s[start:to], limit, divisor)
        outside += _quotients(out_m[start:to], divisor, A, E, P, moved)
        if decay == DECOUPLED:
            outside += _both(out_x[start:to], P, moved)
        _moved(w[start:to], moved, out_w[start:to])
        image(out_w[start:to], unit, out_image[start:to])
    return saturated, underflow, outside, peak, norm, lost


# Each of these loops touches few arrays, so that the compiler can show that they do not overlap, and takes several
# elements at a time.


@compiled
def _decayed(w, W, r, P, inverse, out):  # type: ignore[no-untyped-def]
    for i in range(len(w)):
        out[i] = floor_divide(w[i] * W + r, P, inverse)


@compiled
def _sum(x, y, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = x[i] + y[i]


@compiled
def _means(e, m, b1, c1, r, P, inverse, out):  # type: ignore[no-untyped-def]
    for i in range(len(m)):
        out[i] = floor_divide(m[i] * b1 + e[i] * c1 + r, P, inverse)


@compiled
def _square_means(e, v, b2, c2, r, P, inverse, out):  # type: ignore[no-untyped-def]
    for i in range(len(v)):
        out[i] = floor_divide(v[i] * b2 + e[i] * e[i] * c2 + r, P, inverse)


@compiled
def _roots(v, limit, out):  # type: ignore[no-untyped-def]
    outside = 0
    top = (limit + 2) * (limit + 2)  # below 2**43: the root of what is larger is outside, whatever it is
    for i in range(len(v)):
        s = root(min(max(v[i], 0), top))
        outside += np.int64((v[i] < 0) | (s > limit))
        out[i] = s
    return outside


@compiled
def _largest(h, k, s, limit, out):  # type: ignore[no-untyped-def]
    outside = 0
    for i in range(len(h)):
        x = max(h[i] * k, s[i])
        outside += np.int64(x > limit)
        out[i] = x
    return outside


@compiled
def _quotients(m, root, A, E, P, out):  # type: ignore[no-untyped-def]
    outside = 0
    for i in range(len(m)):
        out[i] = quotient(m[i] * A, 2 * root[i] + E)
    for i in range(len(m)):
        outside += leaves(out[i], P)
    return outside


@compiled
def _both(d, P, moved):  # type: ignore[no-untyped-def]
    outside = 0
    for i in range(len(d)):
        outside += leaves(d[i], P)
    for i in range(len(d)):
        moved[i] += d[i]
    return outside


@compiled
def _moved(w, moved, out):  # type: ignore[no-untyped-def]
    for i in range(len(w)):
        out[i] = w[i] - moved[i]
