"""Consecutive steps of a run that follow one another and its start, checked together and taken whole.

Almost all steps of a run are like that. A stretch is made of nothing but the steps' records and the run's start, so
another process can make it. Whether it goes on where the run is, is for the chain to say; and where it ends before its
records do, what is wrong with the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import pack

from ledger.chain import RunChain
from schemas.events import StepCommitted
from schemas.signing import decode_unverified
from zk_autograd.errors import VerificationError


@dataclass(frozen=True)
class Stretch:
    """Steps by one key, none of which changes scales.

    Attributes:
        first: number of the first.
        previous: id of the event that the first one names as the one before it.
        head: id of the last.
        rows: of each step its id, state root, work root and carry root, 32 bytes each.
        public: of each step its public integers, 8 bytes each (little-endian).
        rates: of each step its learning rates.
        saturated, underflow, limited: sums over all.
        rounding: the largest rounding error, and the first step that has it.
    """

    first: int
    previous: bytes
    head: bytes
    rows: list[bytes]
    public: list[bytes]
    rates: list[tuple[float, ...]]
    saturated: int
    underflow: int
    limited: int
    rounding: tuple[float, int]

    def __len__(self) -> int:
        return len(self.rows)


def stretch_of(chain: RunChain, values: Iterable[bytes]) -> Stretch | None:
    """What these records of ``steps`` begin with; None if the first one is no such step.

    Args:
        chain: of the run, none of its scales having changed. It is asked, not changed.
    """
    rows, public, rates = list[bytes](), list[bytes](), list[tuple[float, ...]]()
    first, previous, head = 0, b"", b""
    saturated = underflow = limited = 0
    rounding = (-1.0, 0)
    for value in values:
        opened = decode_unverified("steps", value)
        event = opened.event
        if not isinstance(event, StepCommitted) or event.shifts or opened.key_id != chain.key_id:
            break
        if rows and (event.previous, event.step) != (head, first + len(rows)):
            break
        try:
            chain.check_public(event)
        except VerificationError:
            break
        if not rows:
            first, previous = event.step, event.previous
        head = opened.event_id
        rows.append(head + event.state_root + event.work_root + event.carry_root)
        public.append(pack(f"<{len(event.public)}q", *event.public))
        rates.append(event.rates)
        saturated += event.saturated
        underflow += event.underflow
        limited += event.limited
        if event.rounding > rounding[0]:
            rounding = event.rounding, event.step
    if not rows:
        return None
    return Stretch(first, previous, head, rows, public, rates, saturated, underflow, limited, rounding)
