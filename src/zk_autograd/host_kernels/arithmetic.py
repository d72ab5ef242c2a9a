"""Exact integer results by way of float64, which a CPU computes for several elements at once where it cannot integers.

A float only ever makes a first guess, and integers correct it. ``u`` is ``2**-53``: no correctly rounded operation is
further than that from its exact result, relatively.
"""

from __future__ import annotations

import math

import numpy as np

from zk_autograd.host_kernels.compiling import compiled

LEAST_TABLE, LARGEST_TABLE = 1 << 12, 1 << 22
"""Tables for which the arguments below hold: ``LEAST_TABLE - 8 <= P < LARGEST_TABLE``."""


@compiled
def floor_divide(x: int, P: int, inverse: float) -> int:
    """``floor(x / P)`` of any int64; ``inverse`` is ``1 / P`` in float64.

    ``float(x)``, ``inverse`` and their product are each off by ``u``, so the guess is off by less than
    ``3.01 * u * 2**63 / P``, at most 0.76 for ``P >= 4088``. Two numbers less than 1 apart have floors at most 1 apart,
    and the remainder says which way. It is computed modulo ``2**64``, and is below ``2*P`` in size: no matter.
    """
    q = np.int64(math.floor(np.float64(x) * inverse))
    r = x - q * P
    return q - np.int64(r < 0) + np.int64(r >= P)


@compiled
def root(x: int) -> int:
    """``floor(sqrt(x))`` for ``0 <= x < 2**52``: float64 holds such ``x``, and its rounded root does not reach the next
    integer (argued at ``zk_autograd.optim.advance.isqrt``)."""
    return np.int64(math.sqrt(np.float64(x)))


@compiled
def quotient(x: int, D: int) -> int:
    """``floor(x / D)`` for ``1 <= D < 2**53``, if it is below ``2**50`` in size; else a number that is not below
    ``2**49``.

    ``float(D)`` is exact, ``float(x)`` and the division are each off by ``u``: the guess by less than
    ``2.01 * u * 2**50 = 0.26``, so the floor by at most 1. A quotient from ``2**50`` on is guessed within a
    thousandth of itself, and corrected by 1 at most.
    """
    q = np.int64(math.floor(np.float64(x) / np.float64(D)))
    r = x - q * D
    return q - np.int64(r < 0) + np.int64(r >= D)


@compiled
def leaves(x: int, P: int) -> int:
    """1 unless ``-(P // 2) <= x < P - P // 2``, the table's range around 0."""
    return np.int64((x < -(P // 2)) | (x > P - 1 - P // 2))
