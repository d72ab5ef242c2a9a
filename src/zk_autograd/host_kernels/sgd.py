"""SGD and its variants: see ``zk_autograd.statement.sgd`` for the relation."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.arithmetic import floor_divide
from zk_autograd.host_kernels.compiling import compiled
from zk_autograd.host_kernels.gradient import TILE, count, figures, move, quantise

PLAIN, MOMENTUM, NESTEROV = 0, 1, 2


@compiled
def sgd(
    kind, single, g, bits, w, m, out_g, out_w, out_m, out_image, u, c, A, B, r, V, W, P, unsigned, above, below, scale,
    clip, unit, w_end, m_end,
):  # fmt: skip
    """Steps of one span, as ``adam``'s; public integers come as float64, and those that the variant lacks are 0.

    Args:
        kind: which variant; PLAIN has no ``m`` (any array).
    """
    inverse, half, low, high = 1.0 / P, r + 0.5, float(-(P // 2)), float(P - 1 - P // 2)
    step = np.empty(TILE, np.int32)
    saturated, underflow, outside, peak, norm, lost = 0, 0, 0, bits[0] & unsigned, 0.0, 0.0
    for start in range(0, len(w), TILE):
        to = min(start + TILE, len(w))
        used = out_g[start:to]
        quantise(g[start:to], single, scale, clip, used)
        counts = count(bits[start:to], unsigned, above, below, used)
        saturated, underflow, peak = saturated + counts[0], underflow + counts[1], max(peak, counts[2])
        sums = figures(g[start:to], scale, used)
        norm, lost = norm + sums[0], lost + sums[1]
        if kind == PLAIN:
            outside += _sums(used, A, used, 0.0, w[start:to], W, half, inverse, w_end, low, high, step)
        else:
            ends = -m_end, m_end
            c = P if kind == NESTEROV else c
            outside += _sums(
                m[start:to], u, used, c, w[start:to], V, half, inverse, w_end, ends[0], ends[1], out_m[start:to]
            )
            if kind == MOMENTUM:
                outside += _sums(out_m[start:to], A, used, 0.0, w[start:to], 0.0, half, inverse, w_end, low, high, step)
            else:
                outside += _sums(out_m[start:to], B, used, A, w[start:to], W, half, inverse, w_end, low, high, step)
        move(w[start:to], step, unit, out_w[start:to], out_image[start:to])
    return saturated, underflow, outside, peak, norm, lost


@compiled
def _sums(x, a, y, b, w, c, half, inverse, w_end, low, high, out):
    """Writes ``floor((x*a + y*b + w*c + r) / P)``; returns how many are not from ``low`` to ``high``, or have a weight
    that is not below ``w_end``."""
    outside = np.int32(0)
    for i in range(len(x)):
        real = np.float64(w[i])
        z = floor_divide(np.float64(x[i]) * a + np.float64(y[i]) * b + real * c + half, inverse)
        outside = np.int32(outside + np.int32((abs(real) >= w_end) | (z < low) | (z > high)))
        out[i] = np.int32(z)
    return outside
