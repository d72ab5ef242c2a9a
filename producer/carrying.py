"""The running sums of a step's shards, for statements that carry any: values, commitments, root and paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from zk_autograd.merkle import all_paths
from zk_autograd.proofs.base import Committer, Ints
from zk_autograd.proofs.witness import Carried, carry
from zk_autograd.statement import Statement


def block_sums(
    st: Statement, block_of: Sequence[int], pre: Sequence[Mapping[str, Ints]], hints: Sequence[Mapping[str, Ints]],
    post: Sequence[Mapping[str, Ints]], P: int,
) -> list[Carried | None]:  # fmt: skip
    """By shard what it knows of its block; None where a statement carries nothing.

    Args:
        block_of: by shard the number of its block.
        pre, hints, post: state before the step, hints and state after it of each shard.
        P: the table's size.
    """
    known: list[Carried | None] = []
    for _, members in groupby(range(len(block_of)), key=block_of.__getitem__):
        own = list(members)
        known += carry(st, [(pre[i], hints[i]) for i in own], [post[i] for i in own], P)
    return known


@dataclass(frozen=True)
class CommittedSums:
    """Commitments to the running sums of a step's shards.

    Attributes:
        root: over the sums with each shard, 32 bytes; zero bytes if nothing is carried.
        points: by shard the sums before it and with it; empty if nothing is carried.
        paths: by shard the paths of both; of a block's first shard, which goes on from nothing, the first is empty.
    """

    root: bytes
    points: Sequence[tuple[bytes, ...]]
    paths: Sequence[tuple[tuple[bytes, ...], tuple[bytes, ...]]]

    @classmethod
    def of(
        cls, committer: Committer, block_of: Sequence[int], columns: Sequence[Mapping[str, tuple[Ints, list[int]]]]
    ) -> CommittedSums:
        """Commits to the sums among each shard's secret columns."""
        if "carry_out" not in columns[0]:
            return cls(bytes(32), [()] * len(columns), [((), ())] * len(columns))
        out = [committer.commit(*c["carry_out"]) for c in columns]
        root, paths = all_paths(out)
        points: list[tuple[bytes, ...]] = []
        both: list[tuple[tuple[bytes, ...], tuple[bytes, ...]]] = []
        for i, column in enumerate(columns):
            first = i == 0 or block_of[i] != block_of[i - 1]
            points.append((committer.commit(*column["carry_in"]) if first else out[i - 1], out[i]))
            both.append((() if first else tuple(paths[i - 1]), tuple(paths[i])))
        return cls(root, points, both)
