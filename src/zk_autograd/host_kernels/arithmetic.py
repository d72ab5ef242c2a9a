"""Exact integer results in float64, which every CPU computes for several elements at once, where it cannot integers.

A float64 holds every integer up to ``2**53``. So sums of products below ``TERM`` are exact in any order, and only
quotients and roots have to be argued. ``u`` is ``2**-53``: a rounded result is off by at most ``u``, relatively.
"""

from __future__ import annotations

import math

import numpy as np

from zk_autograd.host_kernels.compiling import compiled

TERM = 1 << 48
"""Who calls the kernels keeps every product below this, so that a sum of three and ``P`` is below ``2**50``."""

LARGEST_TABLE = 1 << 16
"""Up to here roots, gradients and steps fit 16 bits, and squares of roots 31."""


@compiled
def floor_divide(x, inverse):
    """``floor((x - 1/2) / P)`` for an integer ``x - 1/2`` below ``2**50`` in size; ``inverse`` is ``1 / P`` in float64.

    ``x / P`` lies at least ``1/(2*P)`` from every integer, and its floor is that of ``(x - 1/2) / P``. The product is
    off by ``2.01 * u * |x| / P``, less than ``2**-52 * 2**50 * 1.01 / P = 0.26 / P``: it stays on its side.
    """
    return np.floor(x * inverse)


@compiled
def quotient(x, D):
    """``floor(x / D)`` for integers ``|x| < 2**53`` and ``1 <= D < 2**53``.

    If ``x / D`` is no integer, it lies at least ``1 / D`` from one, and rounding moves it by ``u * |x| / D < 1 / D``.
    """
    return np.floor(x / D)


@compiled
def root(x):
    """``floor(sqrt(x))`` for ``0 <= x < 2**30``.

    As a float32 ``x`` is off by ``2**-24``, its root by half of that and ``2**-24`` more, relatively: by less than
    ``1.6 * 2**-24 * 2**15 = 0.01``. So the guess is off by at most 1, and squares, below ``2**31``, say which way.
    """
    s = np.int32(math.sqrt(np.float32(x)))
    s = np.int32(s - np.int32(np.int32(s * s) > x))
    above = np.int32(s + 1)
    return np.int32(s + np.int32(np.int32(above * above) <= x))
