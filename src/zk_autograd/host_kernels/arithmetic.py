"""Exact integer results from floats, which every CPU computes for several elements at once, where it cannot integers.

A float64 holds every integer up to ``2**53``. So sums of products below ``TERM`` are exact in any order, and only
quotients and roots have to be argued. ``u`` is ``2**-53``: a rounded result is off by at most ``u``, relatively.
A float32 is twice as fast and only guesses; 32-bit integers, which wrap round, then say by how much it is off.

Counts are wrapped to int32 in every turn of a loop: as numba's own int64 they would take as long as what they count.
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


REACH = 1 << 17
"""Quotients by :func:`near_quotient` are exact if they are smaller than this in size."""


@compiled
def near_quotient(guess, low, D):
    """``floor(x / D)`` for ``0 < D <= REACH``, from ``x / D`` in float32 and ``x`` modulo ``2**32``; int32.

    Exact if the guess is off by less than 1 and the quotient is below ``REACH`` in size; a larger one becomes one of
    ``REACH - 2`` or more. The floored guess is off by at most 1, so the remainder is from ``-D`` to ``2*D - 1``, which
    its lower 32 bits hold.
    """
    q = np.int32(min(max(np.floor(guess), np.float32(-REACH)), np.float32(REACH)))
    rest = np.int32(low - np.int32(q * D))
    return np.int32(q + np.int32(rest >= D) - np.int32(rest < 0))


@compiled
def quotient_above(guess, low, D):
    """:func:`near_quotient` where the guess lies below ``x / D``, by less than 1: one correction is enough."""
    q = np.int32(np.floor(guess))
    return np.int32(q + np.int32(np.int32(low - np.int32(q * D)) >= D))


@compiled
def root(x):
    """``floor(sqrt(x))`` for ``0 <= x < 2**30``.

    As a float32 ``x`` is off by ``2**-24``, its root by half of that and ``2**-24`` more, relatively. A factor of
    ``1 + 2**-21`` puts it above, by less than ``2**-20 * 2**15 = 0.04``: the guess is right or 1 too large, and its
    square, below ``2**31``, says which.
    """
    s = np.int32(math.sqrt(np.float32(x)) * np.float32(1.0 + 2.0**-21))
    return np.int32(s - np.int32(np.int32(s * s) > x))


@compiled
def wrapped(x):
    """The lower 32 bits of an integer, as an int32."""
    return np.int32(np.int64(x) & 0xFFFFFFFF)
