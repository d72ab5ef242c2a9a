"""KZG commitments without EZKL: a multi-scalar multiplication over the SRS's Lagrange points.

``C = sum m_i * L_i + sum_{j < TAIL} L_{N-1-j}``: EZKL's last TAIL rows of a committed column hold 1 (its blinding
rows). Scalars are shifted to be small and non-negative, which makes the multiplication four times as fast; the shift
is a constant, so its share is subtracted as one precomputed point. The running time depends on the values (a
side channel for who measures the enclave from outside; see SECURITY.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zksnake._algebra import ec_bn254

from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Committer, Ints
from zk_autograd.proofs.ezkl.srs import lagrange_points

TAIL = 6
"""Rows at a column's end that hold 1: EZKL's blinding factors + 1. Held against EZKL's own at every start."""

SHIFT = 1 << 36
"""Added to every element, unless a statement needs more; elements must be smaller than this in absolute value."""


class KzgCommitter(Committer):
    """Commits to columns of at most ``longest`` elements, each below ``shift`` in size, under one SRS."""

    def __init__(self, srs_path: Any, logrows: int, longest: int, shift: int = SHIFT) -> None:
        self._shift = shift
        first, tail = lagrange_points(srs_path, logrows, longest, TAIL)
        self._points = [ec_bn254.PointG1(x, y) for x, y in first]
        self._rows = len(self._points)
        end = ec_bn254.PointG1(*tail[0])
        for x, y in tail[1:]:
            end = end + ec_bn254.PointG1(x, y)
        self._end = end
        self._offsets: dict[int, Any] = {}

    def _offset(self, length: int) -> Any:
        """The constant part for columns whose first ``length`` elements are shifted."""
        if length not in self._offsets:
            shifted = ec_bn254.multiscalar_mul_g1(self._points[:length], [self._shift] * length)
            self._offsets[length] = self._end + (-shifted)
        return self._offsets[length]

    def commit(self, values: Ints, salt: Sequence[int] = ()) -> bytes:
        length = len(values)
        if length + len(salt) > self._rows:
            raise FormatError(f"commit: expected at most {self._rows} elements, got {length + len(salt)}")
        shift = self._shift
        if int(values.max(initial=0)) >= shift or int(values.min(initial=0)) <= -shift:
            raise FormatError(f"commit: an element is outside the committer's range of 2^{shift.bit_length() - 1}")
        point = self._end
        if length:
            scalars = (values + shift).tolist()
            point = ec_bn254.multiscalar_mul_g1(self._points[:length], scalars) + self._offset(length)
        if salt:
            blind = ec_bn254.multiscalar_mul_g1(self._points[length : length + len(salt)], [s % MODULUS for s in salt])
            point = point + blind
        return int(point.x).to_bytes(32, "big") + int(point.y).to_bytes(32, "big")
