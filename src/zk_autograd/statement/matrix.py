"""Rows and columns of a shard that is a matrix, for arrays (numpy, torch, Python's integers) and circuit expressions.

A circuit expression has ``graph``, which lays the operation out; for arrays it is their own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zk_autograd.statement.base import Array


def part(x: Array, start: int, length: int) -> Array:
    """Elements ``start .. start + length`` of a vector."""
    return x.graph.cut(x.name, start, length) if hasattr(x, "graph") else x[start : start + length]


def joined(parts: Sequence[Array]) -> Array:
    """Single elements as one vector."""
    if hasattr(parts[0], "graph"):
        return parts[0].graph.join(list(parts))
    return np.array(list(parts), dtype=object)


def total(x: Array) -> Array:
    """The sum of a vector."""
    return x.graph.total(x) if hasattr(x, "graph") else sum(int(i) for i in x.tolist())


def row_squares(x: Array, length: int) -> Array:
    """The sum of the squares of each row of ``length``."""
    if hasattr(x, "graph"):
        return x.graph.row_squares(x, length)
    return (x * x).reshape(-1, length).sum(1)


def column_squares(x: Array, length: int) -> Array:
    """The sum of the squares of each column, of a matrix whose rows have ``length``."""
    if hasattr(x, "graph"):
        return x.graph.column_squares(x, length)
    return (x * x).reshape(-1, length).sum(0)


def outer(rows: Array, columns: Array) -> Array:
    """The product of each of ``rows`` with each of ``columns``, row by row."""
    if hasattr(columns, "graph"):
        return columns.graph.outer(rows, columns)
    return (rows.reshape(-1, 1) * columns.reshape(1, -1)).reshape(-1)
