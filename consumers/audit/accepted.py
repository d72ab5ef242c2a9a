"""Which steps are proven, and by which proofs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TypeAlias

from consumers.audit.spill import Rows
from ledger.entries import proofs_digest

_NONE = bytes(33)

Placed: TypeAlias = tuple[int, bytes]
"""The partition that a proof lies in, and its id."""


class Accepted:
    """By step the digest over its proofs; where a shard has more than one, the ids of all of them.

    Args:
        whole: a step of which all ids are kept in any case.
    """

    def __init__(self, whole: int | None = None) -> None:
        self._whole = whole
        self._rows = Rows(33)
        self._first = 0
        self._proofs: dict[int, list[list[Placed]]] = {}
        self._count = 0

    def add(self, step: int, proofs: Sequence[Sequence[Placed]]) -> None:
        """Every shard of this step, which is after all that were added before, has these proofs that hold, by shard."""
        self._first = self._first or step
        while self._first + len(self._rows) < step:
            self._rows.append(_NONE)
        self._rows.append(b"\1" + proofs_digest([placed[0][1] for placed in proofs]))
        self._count += 1
        if step == self._whole or max(map(len, proofs), default=0) > 1:
            self._proofs[step] = [list(placed) for placed in proofs]

    def __contains__(self, step: int) -> bool:
        return self.digest(step) is not None

    def __len__(self) -> int:
        return self._count

    def digest(self, step: int) -> bytes | None:
        """What the ledger's entry has to say of the step's proofs, if there is one of each shard; None: not proven."""
        at = step - self._first
        row = self._rows[at] if 0 <= at < len(self._rows) else _NONE
        return row[1:] if row[0] else None

    def choices(self, step: int) -> list[list[bytes]]:
        """By shard the ids of its proofs, where a shard has more than one; else nothing."""
        return [[event_id for _, event_id in placed] for placed in self._proofs.get(step, [])]

    def picks(self, step: int) -> Iterator[Sequence[bytes]]:
        """Every way to pick one proof a shard, where a shard has more than one; the likely ones before the others.

        A run's proofs lie in one partition, unless a prover puts some elsewhere, and the ledger takes a partition's in
        order. So at first, for every partition, each shard's first proof there.
        """
        proofs = self._proofs.get(step, [])
        for partition in sorted({there for placed in proofs for there, _ in placed}):
            yield [next((i for there, i in placed if there == partition), placed[0][1]) for placed in proofs]
        if proofs:
            yield from product(*self.choices(step))
