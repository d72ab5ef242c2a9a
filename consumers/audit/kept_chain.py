"""What an audit keeps of a run's chain: values on the disk, a few numbers for each in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from struct import pack, unpack
from typing import overload

import numpy as np

from consumers.audit.glance import Seen
from consumers.audit.kept import Order, Sealed
from consumers.audit.spill import Ids, Rows, Spool
from consumers.audit.stretch import Stretch
from ledger.steps import Steps
from schemas.events import RunFinished, StepCommitted
from schemas.signing import Opened
from zk_autograd.errors import UsageError


class ChainEvents(Sequence[Opened[StepCommitted | RunFinished]]):
    """A run's steps and ends by number, each once, wherever they stood.

    Attributes:
        partitions, offsets: where each value stood, in the order of arrival.
    """

    def __init__(self) -> None:
        self.sealed: Sealed[StepCommitted | RunFinished] = Sealed("steps")
        self._ranks, self.partitions, self.offsets = array("q"), array("i"), array("q")
        self._kept: Order | None = None
        self.keys: set[bytes] = set()

    def add(self, what: Seen, value: bytes, partition: int, offset: int) -> None:
        """Takes an event."""
        rank, _, key_id, _ = what
        self._ranks.append(rank)
        self.partitions.append(partition)
        self.offsets.append(offset)
        self.keys.add(key_id)
        self.sealed.append(value)

    @property
    def order(self) -> Order | range:
        """Places among those that came, of those that count, by number."""
        return range(len(self._ranks)) if self._kept is None else self._kept

    @property
    def ascending(self) -> bool:
        """Whether they came by number, none of them twice."""
        ranks = np.frombuffer(self._ranks, np.int64)
        return bool(np.all(ranks[1:] > ranks[:-1]))

    def keep(self, places: list[int], keys: set[bytes]) -> None:
        """Only these count, in this order; ``keys`` signed them."""
        self._kept, self.keys = np.array(places, np.int64), keys

    def sort(self) -> Iterator[tuple[int, bool]]:
        """By number, then as they stood; gives each event's place among those that came, and whether it has another
        number than the one before it."""
        ranks = np.frombuffer(self._ranks, np.int64)
        # A reader may come to the partitions in any order.
        order = np.lexsort((np.frombuffer(self.offsets, np.int64), np.frombuffer(self.partitions, np.int32), ranks))
        last = -1
        for index in order.tolist():
            yield index, self._ranks[index] != last
            last = self._ranks[index]

    def value(self, index: int) -> bytes:
        """An event as it came."""
        return self.sealed.value(int(self.order[index]))

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Opened[StepCommitted | RunFinished]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Opened[StepCommitted | RunFinished]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> Opened[StepCommitted | RunFinished] | Sequence[Opened[StepCommitted | RunFinished]]:
        if isinstance(index, slice):
            return [self.sealed[int(i)] for i in self.order[index]]
        return self.sealed[int(self.order[index])]


class KeptSteps(Steps):
    """The steps of a chain: what every proof and entry is held to in rows of its own, the rest in their events."""

    __slots__ = ("_at", "_count", "_events", "_ids", "_places", "_public", "_row_at", "_rows", "place")

    def __init__(self, events: ChainEvents) -> None:
        self.forgotten, self.roots = 0, {}
        self._events, self._places = events, Rows(8)
        self._rows, self._public = Rows(128), Spool()
        self._ids: Ids | None = None
        self._count, self._at, self._row_at = 0, 0, b""  # the row that was read last
        self.place = 0
        """Of the event that is appended next, among the events."""

    @property
    def kept(self) -> Sequence[Opened[StepCommitted]]:  # type: ignore[override]
        """All of them."""
        return list(self)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Opened[StepCommitted]:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise UsageError(f"step {at + 1}: expected one of 1 to {len(self)}")
        return self._events[int.from_bytes(self._places[at], "big")]  # type: ignore[return-value]

    def append(self, opened: Opened[StepCommitted]) -> None:
        """Takes the next step, which is the event at :attr:`place`."""
        event = opened.event
        self._count += 1
        self._places.append(self.place.to_bytes(8, "big"))
        self._rows.append(opened.event_id + event.state_root + event.work_root + event.carry_root)
        self._public.append(pack(f"<{len(event.public)}q", *event.public))
        if self._ids is not None:
            self._ids.add(opened.event_id)

    def extend(self, stretch: Stretch) -> None:
        """Takes the next steps, of which the first is the event at :attr:`place`."""
        for number, (row, public) in enumerate(zip(stretch.rows, stretch.public, strict=True), self.place):
            self._places.append(number.to_bytes(8, "big"))
            self._rows.append(row)
            self._public.append(public)
            if self._ids is not None:
                self._ids.add(row[:32])
        self._count += len(stretch)

    def holds(self, event_id: bytes) -> bool:
        """Whether one of them has this id. Asked only when something is wrong: the ids are collected then."""
        if self._ids is None:
            self._ids = Ids()
            for step in range(1, len(self) + 1):
                self._ids.add(self.event_id(step))
        return event_id in self._ids

    def event_id(self, step: int) -> bytes:
        """The id of a step."""
        return self._row(step)[:32]

    def state_root(self, step: int) -> bytes:
        """The state root after a step."""
        return self._row(step)[32:64]

    def work_root(self, step: int) -> bytes:
        """The work root of a step."""
        return self._row(step)[64:96]

    def carry_root(self, step: int) -> bytes:
        """The carry root of a step."""
        return self._row(step)[96:]

    def public(self, step: int, first: int, count: int) -> tuple[int, ...]:
        """Some of the public integers of a step; those that it has not are left out."""
        self._check(step)
        packed = self._public[step - 1][8 * first : 8 * (first + count)]
        return unpack(f"<{len(packed) // 8}q", packed)

    def _row(self, step: int) -> bytes:
        if step != self._at:
            self._check(step)
            self._at, self._row_at = step, self._rows[step - 1]
        return self._row_at

    def _check(self, step: int) -> None:
        if not 1 <= step <= self._count:
            raise UsageError(f"step {step}: expected one of 1 to {self._count}")

    def forget(self, count: int, epoch_steps: int) -> None:  # noqa: ARG002
        """An audit forgets nothing."""
        raise UsageError("an audit keeps all steps")
