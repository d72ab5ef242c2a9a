"""Which steps are proven, and by which proofs."""

from __future__ import annotations

from collections.abc import Sequence

from consumers.audit.spill import Rows
from ledger.entries import proofs_digest

_NONE = bytes(33)


class Accepted:
    """By step the digest over its proofs; where a shard has more than one, the ids of all of them.

    Args:
        whole: a step of which all ids are kept in any case.
    """

    def __init__(self, whole: int | None = None) -> None:
        self._whole = whole
        self._rows = Rows(33)
        self._first = 0
        self._ids: dict[int, list[list[bytes]]] = {}
        self._count = 0

    def add(self, step: int, proofs: Sequence[Sequence[bytes]]) -> None:
        """Every shard of this step, which is after all that were added before, has these proofs that hold, by shard."""
        self._first = self._first or step
        while self._first + len(self._rows) < step:
            self._rows.append(_NONE)
        self._rows.append(b"\1" + proofs_digest([ids[0] for ids in proofs]))
        self._count += 1
        if step == self._whole or max(map(len, proofs), default=0) > 1:
            self._ids[step] = [list(ids) for ids in proofs]

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
        return self._ids.get(step, [])
