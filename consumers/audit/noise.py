"""What was not accepted: of each record where it is and why, as long as there are not too many of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from consumers.audit.reading import Item, Place
from consumers.audit.spill import Ids

MOST = 10_000
"""So many are named; the rest is counted. Whoever can write to a topic can write millions."""

_TOPICS = ("steps", "proofs", "checkpoints", "ledger", "anchors")


@dataclass(frozen=True)
class Finding:
    """Something that does not hold: which check, and where and why."""

    check: int
    text: str


class Noise:
    """Records that no accepted key signed for their topic and run.

    Attributes:
        refused: how many the ledger has refused: these are no findings.
        more: by check, how many there are beyond those that are named.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.more: Counter[int] = Counter()
        self._letters = Ids()
        self._found: list[tuple[tuple[int, int, int], Finding]] = []

    def letter(self, place: Place) -> None:
        """The ledger has refused this."""
        self._letters.add(_name(place))

    def take(self, item: Item, why: object) -> None:
        """This record is not accepted."""
        check = 0 if item.claimed is None else 1
        if _name(item.place) in self._letters:
            self.refused += 1
        elif len(self._found) < MOST:
            where = (_TOPICS.index(item.topic), item.partition, item.offset)
            self._found.append((where, Finding(check, item.at(why))))
        else:
            self.more[check] += 1

    @property
    def findings(self) -> list[Finding]:
        """In an order that does not depend on the order of reading, but for which are named if there are too many."""
        return [finding for _, finding in sorted(self._found, key=lambda one: one[0])]


def _name(place: Place) -> bytes:
    topic, partition, offset, digest = place
    return hashlib.sha256(f"{topic}/{partition}/{offset}/".encode() + digest).digest()
