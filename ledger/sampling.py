"""Which shards of a step have to be proven: drawn from what nobody could know when the step was committed. Pure.

A run that is proven whole draws nothing. In a *sampled* run the ledger first records each step's commitment as a leaf
(StepRecorded). The run's *beacon*, an anchor that its start names, is raised for the tree with that leaf, and answers
with 32 bytes that nobody knew before. The first receipt that covers the leaf, by the beacon's counter, draws::

    seed   = SHA-256("zk-autograd/sampling/seed/v1" 0x00 ‖ randomness ‖ run id ‖ step (8 bytes, big-endian) ‖ event id)
    words  = SHA-256("zk-autograd/sampling/draw/v1" 0x00 ‖ seed ‖ 0, 1, 2 … (8 bytes each)), as 32-bit big-endian words

and Floyd's algorithm takes K distinct shards from the words. One draw for each commitment: whoever does not like it
cannot have another, since a later receipt is not the first, and a receipt that is left out leaves a gap in the counter.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol

from zk_autograd.errors import UsageError, VerificationError

_SEED = b"zk-autograd/sampling/seed/v1\0"
_DRAW = b"zk-autograd/sampling/draw/v1\0"
_WORDS = 1 << 32
_EXACT_BITS = 100_000


class Receipt(Protocol):
    """What a beacon's verified receipt says: see ``anchor.ReceiptFacts``."""

    @property
    def anchor(self) -> str: ...
    @property
    def counter(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def root(self) -> bytes: ...
    @property
    def randomness(self) -> bytes | None: ...


@dataclass(frozen=True)
class Draw:
    """What has to be proven of one step.

    Attributes:
        seed: 32 bytes, the ``challenge`` of the step's StepProven.
        shards: the shards drawn, ascending.
        size: leaves of the tree that the drawing receipt was given for.
    """

    seed: bytes
    shards: tuple[int, ...]
    size: int

    @cached_property
    def _set(self) -> frozenset[int]:
        return frozenset(self.shards)

    def __contains__(self, shard: int) -> bool:
        return shard in self._set


class Beacon:
    """One anchor's receipts over one log, from its first on, in the order of its counter."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._sizes: list[int] = []
        self._drawn: list[bytes] = []

    def take(self, receipt: Receipt) -> None:
        """Takes the next receipt; one that was taken already changes nothing.

        Left to the caller: that it verifies under this identity, and that its root is the log's at its size.

        Raises:
            VerificationError: another anchor's, without randomness, not the next (whoever hides a receipt draws twice),
                a second one for one counter, or of a smaller tree.
        """
        at = f"beacon {self.identity[:80]}, counter {receipt.counter}"
        if receipt.anchor != self.identity:
            raise VerificationError(f"{at}: a receipt of another anchor")
        if receipt.randomness is None or len(receipt.randomness) != 32:
            raise VerificationError(f"{at}: the receipt holds no 32 bytes of randomness")
        if 1 <= receipt.counter <= len(self._sizes):
            held = (self._sizes[receipt.counter - 1], self._drawn[receipt.counter - 1])
            if held != (receipt.size, receipt.randomness):
                raise VerificationError(f"{at}: a second receipt for one count: a second draw")
            return
        if receipt.counter != len(self._sizes) + 1:
            raise VerificationError(
                f"{at}: expected counter {len(self._sizes) + 1}: a receipt is hidden, and what it drew with it"
            )
        if self._sizes and receipt.size < self._sizes[-1]:
            raise VerificationError(f"{at}: the tree shrank from {self._sizes[-1]} to {receipt.size} leaves")
        self._sizes.append(receipt.size)
        self._drawn.append(receipt.randomness)

    def draw(self, leaf: int, run_id: bytes, step: int, event_id: bytes, count: int, shards: int) -> Draw | None:
        """What the first receipt that covers ``leaf`` draws; None while there is none.

        Args:
            leaf: index of the step's StepRecorded in the log.
            event_id: of the step's StepCommitted.
            count: how many shards to draw.
            shards: of how many.
        """
        first = bisect_right(self._sizes, leaf)
        if first == len(self._sizes):
            return None
        seed = challenge(self._drawn[first], run_id, step, event_id)
        return Draw(seed, draw(seed, count, shards), self._sizes[first])


def challenge(randomness: bytes, run_id: bytes, step: int, event_id: bytes) -> bytes:
    """The seed of a step's draw, 32 bytes; see the module's text."""
    return hashlib.sha256(_SEED + randomness + run_id + step.to_bytes(8, "big") + event_id).digest()


def draw(seed: bytes, count: int, shards: int) -> tuple[int, ...]:
    """``count`` distinct shards of ``shards``, ascending; every set of that size is equally likely.

    Raises:
        UsageError: not ``1 <= count <= shards``.
    """
    if not 1 <= count <= shards:
        raise UsageError(f"draw: expected 1 to {shards} shards, got {count}")
    words, chosen = _words(seed), set[int]()
    for top in range(shards - count, shards):  # Floyd
        pick = _below(top + 1, words)
        chosen.add(top if pick in chosen else pick)
    return tuple(sorted(chosen))


def _words(seed: bytes) -> Iterator[int]:
    counter = 0
    while True:
        block = hashlib.sha256(_DRAW + seed + counter.to_bytes(8, "big")).digest()
        yield from (int.from_bytes(block[i : i + 4], "big") for i in range(0, 32, 4))
        counter += 1


def _below(bound: int, words: Iterator[int]) -> int:
    """A uniform integer below ``bound``: words at the end that would favour small results are passed over."""
    limit = _WORDS - _WORDS % bound
    return next(word for word in words if word < limit) % bound


def detection(shards: int, drawn: int, bad: int) -> Fraction:
    """The exact probability that at least one of ``bad`` wrong shards of a step is among those drawn.

    One minus the hypergeometric C(shards − bad, drawn) / C(shards, drawn).

    Raises:
        UsageError: counts outside 0 to ``shards``.
    """
    if not (0 <= bad <= shards and 0 <= drawn <= shards):
        raise UsageError(f"detection: expected 0 to {shards} shards, got {bad} wrong and {drawn} drawn")
    few, many = sorted((bad, drawn))
    missed = math.perm(shards - many, few) if few <= shards - many else 0
    return 1 - Fraction(missed, math.perm(shards, few))


def detection_over(chance: Fraction, steps: int) -> Fraction:
    """The probability that at least one of ``steps`` independent draws detects, each with ``chance``.

    Exact where that is cheap to compute; else by floats, and rounded down.
    """
    if chance in (0, 1) or steps * chance.denominator.bit_length() <= _EXACT_BITS:
        return 1 - (1 - chance) ** steps
    missed = steps * math.log1p(-rounded_down(chance))
    return Fraction(-math.expm1(missed) * (1 - 1e-12))  # far more than the roundings' errors


def rounded_down(value: Fraction) -> float:
    """The largest float that is not above ``value``."""
    near = float(value)
    return near if Fraction(near) <= value else math.nextafter(near, -math.inf)


def percent(value: Fraction) -> str:
    """A probability in percent, rounded down: 100 is for what is certain."""
    return f"{math.floor(value * 10**6) / 1e4:.4f}"


@dataclass(frozen=True)
class Chance:
    """How likely a cheat of one size is to be among what is drawn: exactly in one step, at least over many."""

    cheat: str
    shards: int
    steps: int
    probability: Fraction


def chances(shards: int, drawn: int, steps: int) -> list[Chance]:
    """For cheats of some sizes, where ``drawn`` of ``shards`` are proven of each of ``steps`` steps."""

    def of(cheat: str, bad: int, times: int = 1) -> Chance:
        return Chance(cheat, bad, times, detection_over(detection(shards, drawn, bad), times))

    found = [of("one shard in one step", 1)]
    for share in (1, 10):
        if shards * share > 100:
            found.append(of(f"{share} % of the shards in one step", -(-shards * share // 100)))
    return [*found, of(f"one shard in each of {steps} steps", 1, steps)]
