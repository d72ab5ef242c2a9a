"""SGD and its variants: see ``zk_autograd.statement.sgd`` for the relation."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.arithmetic import floor_divide
from zk_autograd.host_kernels.compiling import compiled
from zk_autograd.host_kernels.gradient import TILE, changed, count, figures, move, quantise, show

PLAIN, MOMENTUM, NESTEROV = 0, 1, 2


@compiled
def sgd(
    kind, single, held, first, begin, stop, g, bits, place, w, m, out_g, out_w, out_m, u, c, A, B, r, V, W, P, unsigned,
    above, below, scale, clip, unit, w_end, m_end,
):  # fmt: skip
    """Steps of one span, as ``adam``'s; public integers come as float64, and those that the variant lacks are 0.

    Args:
        kind: which variant; PLAIN has no ``m`` (any array).
    """
    inverse, half, low, high = 1.0 / P, r + 0.5, float(-(P // 2)), float(P - 1 - P // 2)
    step = np.empty(TILE, np.int32)
    saturated, underflow, undecided, peak, norm, lost = 0, 0, 0, bits[begin] & unsigned, 0.0, 0.0
    for start in range(begin, stop, TILE):
        to = min(start + TILE, stop)
        at, end_at = first + start, first + to
        used, x = out_g[at:end_at], w[at:end_at]
        quantise(g[start:to], single, scale, clip, used)
        counts = count(bits[start:to], unsigned, above, below, used)
        saturated, underflow, peak = saturated + counts[0], underflow + counts[1], max(peak, counts[2])
        sums = figures(g[start:to], scale, used)
        norm, lost = norm + sums[0], lost + sums[1]
        if held:
            undecided += changed(x, unit, place[start:to])
        if kind == PLAIN:
            undecided += _floors(used, A, used, 0.0, x, W, half, inverse, w_end, low, high, step)
        else:
            y = out_m[at:end_at]
            c = P if kind == NESTEROV else c
            undecided += _floors(m[at:end_at], u, used, c, x, V, half, inverse, w_end, -m_end, m_end, y)
            if kind == MOMENTUM:
                undecided += _floors(y, A, used, 0.0, x, 0.0, half, inverse, w_end, low, high, step)
            else:
                undecided += _floors(y, B, used, A, x, W, half, inverse, w_end, low, high, step)
        undecided += move(x, step, out_w[at:end_at]) < 0
        if not held:
            show(out_w, at, unit, place[start:to])
    return saturated, underflow, undecided, peak, norm, lost


@compiled
def _floors(x, a, y, b, w, c, half, inverse, w_end, low, high, out):
    """Writes ``floor((x*a + y*b + w*c + r) / P)``; returns how many are not from ``low`` to ``high``, or have a weight
    that is not below ``w_end``. Most statements have fewer terms: only those that are there are read."""
    if c != 0.0:
        return _sums_of_three(x, a, y, b, w, c, half, inverse, w_end, low, high, out)
    if b != 0.0:
        return _sums_of_two(x, a, y, b, half, inverse, low, high, out)
    return _products(x, a, half, inverse, low, high, out)


@compiled
def _sums_of_three(x, a, y, b, w, c, half, inverse, w_end, low, high, out):
    outside = np.int32(0)
    for i in range(len(x)):
        real = np.float64(w[i])
        z = floor_divide(np.float64(x[i]) * a + np.float64(y[i]) * b + real * c + half, inverse)
        outside = np.int32(outside + np.int32((abs(real) >= w_end) | (z < low) | (z > high)))
        out[i] = np.int32(z)
    return outside


@compiled
def _sums_of_two(x, a, y, b, half, inverse, low, high, out):
    outside = np.int32(0)
    for i in range(len(x)):
        z = floor_divide(np.float64(x[i]) * a + np.float64(y[i]) * b + half, inverse)
        outside = np.int32(outside + np.int32((z < low) | (z > high)))
        out[i] = np.int32(z)
    return outside


@compiled
def _products(x, a, half, inverse, low, high, out):
    outside = np.int32(0)
    for i in range(len(x)):
        z = floor_divide(np.float64(x[i]) * a + half, inverse)
        outside = np.int32(outside + np.int32((z < low) | (z > high)))
        out[i] = np.int32(z)
    return outside
