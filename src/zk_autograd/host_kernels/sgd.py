"""SGD and its variants: see ``zk_autograd.statement.sgd`` for the relation."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.arithmetic import floor_divide, leaves
from zk_autograd.host_kernels.compiling import compiled
from zk_autograd.host_kernels.gradient import TILE, image, quantise

PLAIN, MOMENTUM, NESTEROV = 0, 1, 2


@compiled
def sgd(  # type: ignore[no-untyped-def]
    kind, g, bits, w, m, out_g, out_w, out_m, out_image, u, c, A, B, r, V, W, P, unsigned, scale, clip, unit
):  # fmt: skip
    """Steps of one span, as ``adam``'s; public integers that the variant does not have are 0.

    Args:
        kind: which variant; PLAIN has no ``m`` (any array).
    """
    inverse = 1.0 / P
    exact, rounded = np.empty(TILE, np.float64), np.empty(TILE, np.float64)
    sums, step = np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    saturated, underflow, outside, peak, norm, lost = 0, 0, 0, np.int64(0), 0.0, 0.0
    for start in range(0, len(w), TILE):
        to = min(start + TILE, len(w))
        found = quantise(g[start:to], bits[start:to], unsigned, scale, clip, exact, rounded, out_g[start:to])
        saturated, underflow, peak = saturated + found[0], underflow + found[1], max(peak, found[2])
        norm, lost = norm + found[3], lost + found[4]
        if kind == PLAIN:
            _quotients(out_g[start:to], A, w[start:to], W, r, P, inverse, step)
        else:
            _moments(m[start:to], u, out_g[start:to], P if kind == NESTEROV else c, w[start:to], V, sums)
            _floors(sums[: to - start], r, P, inverse, out_m[start:to])
            if kind == MOMENTUM:
                _quotients(out_m[start:to], A, w[start:to], 0, r, P, inverse, step)
            else:
                _moments(out_g[start:to], A, out_m[start:to], B, w[start:to], W, sums)
                _floors(sums[: to - start], r, P, inverse, step)
        outside += _moved(w[start:to], step, P, out_w[start:to])
        image(out_w[start:to], unit, out_image[start:to])
    return saturated, underflow, outside, peak, norm, lost


@compiled
def _quotients(x, A, w, W, r, P, inverse, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = floor_divide(x[i] * A + w[i] * W + r, P, inverse)


@compiled
def _moments(x, a, y, b, w, c, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = x[i] * a + y[i] * b + w[i] * c


@compiled
def _floors(x, r, P, inverse, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = floor_divide(x[i] + r, P, inverse)


@compiled
def _moved(w, step, P, out):  # type: ignore[no-untyped-def]
    outside = 0
    for i in range(len(w)):
        outside += leaves(step[i], P)
    for i in range(len(w)):
        out[i] = w[i] - step[i]
    return outside
