"""Spot checks: an audit that verifies some of the proofs, and says what that is worth.

Everything else is checked over the whole run. A proof that is not verified is only held to its place: its length, its
circuit, and that the commitments it begins with are those that the step's roots cover. So it may be no proof at all,
and the verdict of a spot check is never "sound".
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from ledger.sampling import detection, draw
from zk_autograd.errors import UsageError

Slot: TypeAlias = tuple[int, int]
"""Step and shard."""

_AMOUNT = re.compile(r"([0-9]{1,9})|([0-9]{1,2}(?:\.[0-9]{1,6})?|100)%", re.ASCII)


class Spot(ABC):
    """Which proofs are verified."""

    total: int = 0
    """Proofs that there are, once :meth:`pick` was asked."""
    picked: int = 0
    """So many of them are verified."""

    def pick(self, slots: Sequence[Slot]) -> frozenset[Slot]:
        """Those of ``slots``, each of which has a proof, to verify."""
        found = self._pick(slots)
        self.total, self.picked = len(slots), len(found)
        return found

    @abstractmethod
    def _pick(self, slots: Sequence[Slot]) -> frozenset[Slot]: ...

    @property
    @abstractmethod
    def how(self) -> str:
        """How they were chosen, in words."""


class OneStep(Spot):
    """The proofs of one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def _pick(self, slots: Sequence[Slot]) -> frozenset[Slot]:
        return frozenset(slot for slot in slots if slot[0] == self.step)

    @property
    def how(self) -> str:
        return f"those of step {self.step}"


@dataclass
class Random(Spot):
    """A random sample without repetition; every set of its size is equally likely.

    Attributes:
        count: so many proofs, or
        percent: this part of them, rounded up.
        seed: 32 bytes. Whoever knows them before the proofs are published can cheat elsewhere.
    """

    count: int | None
    percent: Fraction | None
    seed: bytes

    def _pick(self, slots: Sequence[Slot]) -> frozenset[Slot]:
        if self.percent is not None:
            wanted = -(-len(slots) * self.percent.numerator // (100 * self.percent.denominator))
        else:
            wanted = self.count or 0
        if not slots:
            return frozenset()
        return frozenset(slots[i] for i in draw(self.seed, min(wanted, len(slots)), len(slots)))

    @property
    def how(self) -> str:
        return f"drawn by the seed {self.seed.hex()}"

    def chances(self) -> list[tuple[str, int, Fraction]]:
        """For cheats of some sizes: in words, in proofs, and how likely at least one of them was verified."""
        sizes = {1: "one false proof"}
        for percent in (1, 10, 50):
            bad = -(-self.total * percent // 100)
            sizes.setdefault(bad, f"{percent} % of the proofs false")
        return [
            (words, bad, detection(self.total, self.picked, bad))
            for bad, words in sizes.items()
            if 1 <= bad <= self.total
        ]


def random_spot(amount: str, seed: str | None) -> Random:
    """From ``--sample`` and ``--seed``; UsageError if they are none. Without a seed the operating system gives one."""
    match = _AMOUNT.fullmatch(amount)
    count = int(match[1]) if match and match[1] else None
    percent = Fraction(match[2]) if match and match[2] else None
    if not match or not (count or percent):
        raise UsageError(
            f"--sample: expected a number of proofs, at least 1, or a part such as 5%, got {amount[:40]!r}"
        )
    if seed is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", seed, re.ASCII):
        raise UsageError("--seed: expected 64 hex digits")
    return Random(count, percent, bytes.fromhex(seed) if seed else secrets.token_bytes(32))
