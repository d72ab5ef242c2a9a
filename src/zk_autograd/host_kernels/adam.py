"""Adam and its variants: see ``zk_autograd.statement.adam`` for the relation."""

from __future__ import annotations

import numpy as np

from zk_autograd.host_kernels.arithmetic import floor_divide, near_quotient, quotient_above, root, wrapped
from zk_autograd.host_kernels.compiling import compiled
from zk_autograd.host_kernels.gradient import TILE, changed, count, figures, move, quantise, show

NONE, L2, DECOUPLED = 0, 1, 2
"""What weight decay is added to: nothing, the gradient, the weights."""


@compiled
def adam(
    decay, amsgrad, single, held, first, begin, stop, g, bits, place, w, m, v, h, out_g, out_w, out_m, out_v, out_h,
    out_s, out_x, A, E, b1, c1, b2, c2, r, W, k, P, unsigned, above, below, scale, clip, unit, w_end, m_end,
):  # fmt: skip
    """Steps of one span. Public integers that meet float64 come as such; products are then below ``TERM``.

    Args:
        decay, amsgrad: which variant.
        single, g, bits, unsigned, above, below: gradients, and their memory as integers: see :func:`quantise` and
            :func:`count`.
        held, place: whether ``place`` is the parameter's own memory, to be compared with the image of ``w``; else the
            image of the new weights is written there.
        first, begin, stop: the elements ``begin`` to ``stop`` of these arrays are stepped; the first one of them all is
            number ``first`` of the flat arrays that follow.
        w, m, v, h: the state; ``v`` is int32 and ``h`` int16, or any array where there is none, as ``out_h`` and
            ``out_x`` are then.
        out_x: hint ``e`` with L2, ``d`` with decoupled decay; int16, as ``out_g`` and ``out_s``.
        A, E: integers; ``E`` is below ``2**30``.
        unit: of a weight, ``2**-scale_w``.
        w_end, m_end: weights (if they decay) and ``m'`` have to be smaller in size, to be exact and to fit.
    Returns:
        Elements that were clipped, that became zero, that were not decided; the largest gradient's bits; two sums. An
        element is not decided if it leaves the table, does not fit its array, or was changed by others.
    """
    inverse, half, low, high = 1.0 / P, r + 0.5, float(-(P // 2)), float(P - 1 - P // 2)
    end = max(float((P - E) // 2 + 1), 0.0) ** 2  # from here on the root is too large
    moved = np.empty(TILE, np.int32)
    saturated, underflow, undecided, peak, norm, lost = 0, 0, 0, bits[begin] & unsigned, 0.0, 0.0
    for start in range(begin, stop, TILE):
        to = min(start + TILE, stop)
        at, end_at = first + start, first + to
        used = out_g[at:end_at]
        quantise(g[start:to], single, scale, clip, used)
        counts = count(bits[start:to], unsigned, above, below, used)
        saturated, underflow, peak = saturated + counts[0], underflow + counts[1], max(peak, counts[2])
        sums = figures(g[start:to], scale, used)
        norm, lost = norm + sums[0], lost + sums[1]
        if held:
            undecided += changed(w[at:end_at], unit, place[start:to])
        if decay == DECOUPLED:
            undecided += _decayed(w[at:end_at], W, half, inverse, w_end, low, high, out_x[at:end_at])
        elif decay == L2:
            undecided += _decaying(w[at:end_at], W, half, inverse, w_end, low, high, used, out_x[at:end_at])
            used = out_x[at:end_at]
        if m.itemsize == 2 and b1 + c1 <= P:
            _narrow_means(used, m[at:end_at], b1, c1, r, P, out_m[at:end_at])
        else:
            undecided += _means(used, m[at:end_at], b1, c1, half, inverse, m_end, out_m[at:end_at])
        undecided += _square_means(used, v[at:end_at], b2, c2, half, inverse, end, out_v[at:end_at])
        _roots(out_v[at:end_at], out_s[at:end_at])
        divisor = out_s[at:end_at]
        if amsgrad:
            divisor = out_h[at:end_at]
            undecided += _largest(h[at:end_at], k, out_s[at:end_at], (P - E) // 2, divisor)
        undecided += _quotients(out_m[at:end_at], divisor, A, E, np.int32(low), np.int32(high), moved)
        if decay == DECOUPLED:
            _add(out_x[at:end_at], moved)
        undecided += move(w[at:end_at], moved, out_w[at:end_at]) < 0
        if not held:
            show(out_w, at, unit, place[start:to])
    return saturated, underflow, undecided, peak, norm, lost


# Each of these loops touches few arrays, so that the compiler can show that they do not overlap, and takes several
# elements at a time.


@compiled
def _decayed(w, W, half, inverse, w_end, low, high, out):
    outside = np.int32(0)
    for i in range(len(w)):
        real = np.float64(w[i])
        x = floor_divide(real * W + half, inverse)
        outside = np.int32(outside + np.int32((abs(real) >= w_end) | (x < low) | (x > high)))
        out[i] = np.int32(x)
    return outside


@compiled
def _decaying(w, W, half, inverse, w_end, low, high, g, out):
    outside = np.int32(0)
    for i in range(len(w)):
        real = np.float64(w[i])
        x = floor_divide(real * W + half, inverse) + np.float64(g[i])
        outside = np.int32(outside + np.int32((abs(real) >= w_end) | (x < low) | (x > high)))
        out[i] = np.int32(x)
    return outside


@compiled
def _means(e, m, b1, c1, half, inverse, m_end, out):
    outside = np.int32(0)
    for i in range(len(m)):
        x = floor_divide(np.float64(m[i]) * b1 + np.float64(e[i]) * c1 + half, inverse)
        outside = np.int32(outside + np.int32(abs(x) >= m_end))
        out[i] = np.int32(x)
    return outside


@compiled
def _narrow_means(e, m, b1, c1, r, P, out):
    """:func:`_means` of 16 bits, for ``b1 + c1 <= P``: dividends fit 31 bits with their sign apart, and means fit 16.

    As a float32, ``b1/P * m + c1/P * e + r/P`` is off by four roundings, of numbers of at most ``2**15``: by less than
    ``2**-6``. So much is taken off, and it lies below.
    """
    real_b1, real_c1, real_r = np.float32(b1 / P), np.float32(c1 / P), np.float32(r / P - 2.0**-6)
    b1, c1, r, P = np.int32(b1), np.int32(c1), np.int32(r), np.int32(P)
    for i in range(len(m)):
        x, y = np.int32(m[i]), np.int32(e[i])
        low = np.int32(np.int32(np.int32(x * b1) + np.int32(y * c1)) + r)
        out[i] = quotient_above(np.float32(x) * real_b1 + np.float32(y) * real_c1 + real_r, low, P)


@compiled
def _square_means(e, v, b2, c2, half, inverse, end, out):
    outside = np.int32(0)
    for i in range(len(v)):
        x = np.float64(e[i])
        x = floor_divide(np.float64(v[i]) * b2 + x * x * c2 + half, inverse)
        outside = np.int32(outside + np.int32((x < 0.0) | (x >= end)))
        out[i] = np.int32(x)
    return outside


@compiled
def _roots(v, out):
    for i in range(len(v)):
        out[i] = root(np.int32(max(v[i], np.int32(0))))


@compiled
def _largest(h, k, s, limit, out):
    outside = np.int32(0)
    for i in range(len(h)):
        x = max(np.float64(h[i]) * k, np.float64(s[i]))
        outside = np.int32(outside + np.int32(x > limit))
        out[i] = np.int32(x)
    return outside


@compiled
def _quotients(m, root, A, E, low, high, out):
    """As a float32 a quotient is off by four roundings: below ``REACH`` by less than ``2**-4``."""
    a, low_A, low_E = np.float32(A), wrapped(A), wrapped(E)
    outside = np.int32(0)
    for i in range(len(m)):
        D = np.int32(np.int32(root[i]) * np.int32(2) + low_E)
        x = near_quotient(np.float32(m[i]) * a / np.float32(D), np.int32(m[i] * low_A), D)
        outside = np.int32(outside + np.int32((x < low) | (x > high)))
        out[i] = x
    return outside


@compiled
def _add(d, moved):
    for i in range(len(d)):
        moved[i] += d[i]
