"""What an audit keeps of a run and of the shared log: values on the disk, a few numbers for each in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from struct import pack, unpack
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from consumers.audit.spill import Ids, Rows, SpilledTree, Spool
from ledger.entries import Entry
from ledger.steps import Steps
from schemas.events import EpochClosed, Event, ProofAttached, RunFinished, StepCommitted, StepProven, StepRecorded
from schemas.signing import Opened, decode_unverified
from zk_autograd.errors import UsageError

E = TypeVar("E", bound=Event)

_AT_HAND = 64
Order = npt.NDArray[np.int64]


class Sealed(Generic[E]):
    """Sealed events of one topic that have been opened once, to be opened again."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._spool = Spool()
        self._at_hand: dict[int, Opened[E]] = {}

    def append(self, value: bytes) -> None:
        """Takes a value."""
        self._spool.append(value)

    def __len__(self) -> int:
        return len(self._spool)

    def value(self, index: int) -> bytes:
        """As it came."""
        return self._spool[index]

    def __getitem__(self, index: int) -> Opened[E]:
        found = self._at_hand.get(index)
        if found is None:
            if not 0 <= index < len(self):
                raise IndexError(index)
            found = decode_unverified(self.topic, self._spool[index])  # type: ignore[assignment]
            if len(self._at_hand) >= _AT_HAND:
                self._at_hand.clear()
            self._at_hand[index] = found  # type: ignore[assignment]
        return found  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Opened[E]]:
        return (self[i] for i in range(len(self)))


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


class ChainEvents(Sequence[Opened[StepCommitted | RunFinished]]):
    """A run's steps and ends by number, each once, wherever they stood.

    Attributes:
        partitions, offsets: where each value stood, in the order of arrival.
    """

    END = 1 << 62

    def __init__(self) -> None:
        self.sealed: Sealed[StepCommitted | RunFinished] = Sealed("steps")
        self._ranks, self.partitions, self.offsets = array("q"), array("l"), array("q")
        self.order: Order | range = range(0)
        self.keys: set[bytes] = set()

    def add(self, opened: Opened[Event], value: bytes, partition: int, offset: int) -> None:
        """Takes an event."""
        event = opened.event
        self._ranks.append(event.step if isinstance(event, StepCommitted) else self.END)
        self.partitions.append(partition)
        self.offsets.append(offset)
        self.keys.add(opened.key_id)
        self.sealed.append(value)
        self.order = range(len(self._ranks))

    @property
    def ascending(self) -> bool:
        """Whether they came by number, none of them twice."""
        ranks = np.frombuffer(self._ranks, np.int64)
        return bool(np.all(ranks[1:] > ranks[:-1]))

    def keep(self, places: list[int], keys: set[bytes]) -> None:
        """Only these count, in this order; ``keys`` signed them."""
        self.order, self.keys = np.array(places, np.int64), keys

    def sort(self) -> Iterator[tuple[int, bool]]:
        """By number, then as they stood; gives each event's place among those that came, and whether it has another
        number than the one before it."""
        ranks = np.frombuffer(self._ranks, np.int64)
        # A reader may come to the partitions in any order.
        order = np.lexsort((np.frombuffer(self.offsets, np.int64), np.frombuffer(self.partitions, np.int64), ranks))
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

    __slots__ = ("_events", "_ids", "_places", "_public", "_rows", "place")

    def __init__(self, events: ChainEvents) -> None:
        self.forgotten, self.roots = 0, {}
        self._events, self._places = events, Rows(8)
        self._rows, self._public = Rows(128), Spool()
        self._ids: Ids | None = None
        self.place = 0
        """Of the event that is appended next, among the events."""

    @property
    def kept(self) -> Sequence[Opened[StepCommitted]]:  # type: ignore[override]
        """All of them."""
        return list(self)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Opened[StepCommitted]:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise UsageError(f"step {at + 1}: expected one of 1 to {len(self)}")
        return self._events[int.from_bytes(self._places[at], "big")]  # type: ignore[return-value]

    def append(self, opened: Opened[StepCommitted]) -> None:
        """Takes the next step, which is the event at :attr:`place`."""
        event = opened.event
        self._places.append(self.place.to_bytes(8, "big"))
        self._rows.append(opened.event_id + event.state_root + event.work_root + event.carry_root)
        self._public.append(pack(f"<{len(event.public)}q", *event.public))
        if self._ids is not None:
            self._ids.add(opened.event_id)

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
        self._row(step)
        packed = self._public[step - 1][8 * first : 8 * (first + count)]
        return unpack(f"<{len(packed) // 8}q", packed)

    def _row(self, step: int) -> bytes:
        if not 1 <= step <= len(self):
            raise UsageError(f"step {step}: expected one of 1 to {len(self)}")
        return self._rows[step - 1]

    def forget(self, count: int, epoch_steps: int) -> None:  # noqa: ARG002
        """An audit forgets nothing."""
        raise UsageError("an audit keeps all steps")


class Proofs:
    """A run's proofs by step and shard, each event once.

    Attributes:
        ids: the events' ids, in the order of arrival.
        partitions, offsets: where each stood.
    """

    def __init__(self) -> None:
        self.sealed: Sealed[ProofAttached] = Sealed("proofs")
        self.ids = Rows(32)
        self.partitions, self.offsets = array("l"), array("q")
        self._steps, self._shards, self._signers = array("q"), array("l"), array("l")
        self._keys: dict[bytes, int] = {}
        self._last = (0, -1)
        self._seen: Ids | None = None
        self._ascending = True
        self._dropped = bytearray()

    def add(
        self, opened: Opened[ProofAttached], value: bytes, partition: int, offset: int, unsure: bool
    ) -> bool:  # fmt: skip
        """Takes a proof; False if it is there already.

        Args:
            unsure: its signature may not hold, so that another copy of the same event is not the same.
        """
        slot = (opened.event.step, opened.event.shard)
        if self._seen is None and slot <= self._last:
            self._seen = Ids()  # until now nothing could be there twice
            for index in range(len(self._steps)):
                self._seen.add(_digest(self.sealed.value(index)) if unsure else self.ids[index])
        if self._seen is not None and not self._seen.add(_digest(value) if unsure else opened.event_id):
            return False
        self._ascending = self._ascending and slot > self._last
        self._last = max(self._last, slot)
        self.ids.append(opened.event_id)
        self._steps.append(slot[0])
        self._shards.append(slot[1])
        self._signers.append(self._keys.setdefault(opened.key_id, len(self._keys)))
        self.partitions.append(partition)
        self.offsets.append(offset)
        self.sealed.append(value)
        self._dropped.append(0)
        return True

    def drop(self, index: int) -> None:
        """Takes a proof out again."""
        self._dropped[index] = 1

    def in_order(self) -> Iterator[tuple[int, int, int]]:
        """Step, shard and place of each, by step and shard, then as they stood."""
        order: Sequence[int] | Order = range(len(self._steps))
        if not self._ascending:
            keys = (self.offsets, self.partitions, self._shards, self._steps)
            order = np.lexsort([np.frombuffer(key, key.typecode) for key in keys])
        for at in order:
            index = int(at)
            if not self._dropped[index]:
                yield self._steps[index], self._shards[index], index

    def by_step(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Each step with shard and place of its proofs."""
        for step, rows in groupby(self.in_order(), key=lambda row: row[0]):
            yield step, [(shard, index) for _, shard, index in rows]

    def of(self, step: int) -> dict[int, list[Opened[ProofAttached]]]:
        """A step's proofs, by shard."""
        found: dict[int, list[Opened[ProofAttached]]] = {}
        for index in np.flatnonzero(np.frombuffer(self._steps, np.int64) == step).tolist():
            if not self._dropped[index]:
                found.setdefault(self._shards[index], []).append(self.sealed[index])
        return found

    def signers(self) -> set[bytes]:
        """The keys that the proofs are by."""
        keys = list(self._keys)
        numbers = {self._signers[index] for index in range(len(self._steps)) if not self._dropped[index]}
        return {keys[number] for number in numbers}

    def __len__(self) -> int:
        return len(self._steps) - sum(self._dropped)


class Entries(Sealed[Entry]):
    """The shared log's entries in the order of their leaves, each once.

    Attributes:
        tree: over them.
        own: the leaves of the run's entries; ``own_steps``: the step that each proves, 0 if it is another kind.
    """

    def __init__(self, run_id: bytes) -> None:
        super().__init__("ledger")
        self.tree = SpilledTree()
        self.own, self.own_steps = array("q"), array("q")
        self._run_id = run_id
        self._runs: dict[bytes, dict[type[Entry], int]] = {}
        self._seen: Ids | None = None

    def has(self, opened: Opened[Entry]) -> bool:
        """Whether it is there already."""
        if self._seen is None:
            number = self._runs.get(opened.event.run_id, {}).get(type(opened.event))
            if number is None or _number(opened.event) > number:
                return False  # all that there is of this run and kind has smaller numbers
            self._seen = Ids()
            for known in self:
                self._seen.add(known.event_id)
        return opened.event_id in self._seen

    def add(self, opened: Opened[Entry], value: bytes) -> None:
        """Takes an entry that is not there yet."""
        entry = opened.event
        if self._seen is not None:
            self._seen.add(opened.event_id)
        numbers = self._runs.setdefault(entry.run_id, {})
        numbers[type(entry)] = max(_number(entry), numbers.get(type(entry), 0))
        if entry.run_id == self._run_id:
            self.own.append(len(self))
            self.own_steps.append(entry.step if isinstance(entry, StepProven) else 0)
        self.append(value)
        self.tree.append(opened.body)

    def by_step(self) -> Iterator[tuple[int, int]]:
        """The run's steps that are entered, ascending, each with its first leaf."""
        if self.own_steps:
            steps, first = np.unique(np.frombuffer(self.own_steps, np.int64), return_index=True)
            for step, at in zip(steps, first, strict=True):
                if step:
                    yield int(step), self.own[int(at)]

    def of_run(self) -> Iterator[tuple[int, Opened[Entry]]]:
        """The run's entries with their leaves."""
        return ((leaf, self[leaf]) for leaf in self.own)


def _number(entry: Entry) -> int:
    if isinstance(entry, StepProven | StepRecorded):
        return entry.step
    return entry.epoch if isinstance(entry, EpochClosed) else 1
