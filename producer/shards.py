"""Cutting a model's flat state into shards of one constant size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zk_autograd.proofs.base import Ints


def shard_count(parameters: int, size: int) -> int:
    """Shards of ``size`` that hold ``parameters``."""
    return -(-parameters // size)


def cut(arrays: Mapping[str, Ints], size: int) -> list[dict[str, Ints]]:
    """Each array, int64 of shape (parameters,), as shards of shape (size,); the last is padded with zeros.

    A parameter of value, moments and gradient zero stays zero under every statement, so padding is proven too.
    """
    count = shard_count(len(next(iter(arrays.values()))), size)
    padded = {n: np.pad(a.astype(np.int64, copy=False), (0, count * size - len(a))) for n, a in arrays.items()}
    return [{n: a[i * size : (i + 1) * size] for n, a in padded.items()} for i in range(count)]
