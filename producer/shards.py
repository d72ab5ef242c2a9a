"""Cutting a model's flat state into shards of one constant size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from zk_autograd.errors import UsageError
from zk_autograd.fixed_point import ParameterBlock
from zk_autograd.proofs.base import Ints


def shard_counts(blocks: Sequence[ParameterBlock], size: int, layers: bool = False) -> list[int]:
    """How many shards of ``size`` each block takes.

    Args:
        layers: whether blocks are layers, whose sums a statement carries: each is padded on its own.
    Raises:
        UsageError: a block ends inside a shard although its group goes on: what follows would be padded apart.
    """
    for block, following in pairwise(() if layers else blocks):
        if block.group == following.group and block.count % size:
            raise UsageError(
                f"blocks: a block of {block.count} parameters ends inside a shard of {size}: make the optimizer with "
                f"blocks of multiples of {size}, the circuit's shard size"
            )
    return [-(-block.count // size) for block in blocks]


def cut(
    arrays: Mapping[str, Ints], blocks: Sequence[ParameterBlock], size: int, layers: bool = False
) -> list[dict[str, Ints]]:
    """Each array, int64 of shape (parameters,), as shards of shape (size,); each block's last is padded with zeros.

    A parameter of value, moments and gradient zero stays zero under every statement, so padding is proven too.
    """
    out: list[dict[str, Ints]] = []
    start = 0
    for block, count in zip(blocks, shard_counts(blocks, size, layers), strict=True):
        rows = {
            n: np.pad(a[start : start + block.count].astype(np.int64, copy=False), (0, count * size - block.count))
            for n, a in arrays.items()
        }
        out += [{n: a[i * size : (i + 1) * size] for n, a in rows.items()} for i in range(count)]
        start += block.count
    return out
