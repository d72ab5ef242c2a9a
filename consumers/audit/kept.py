"""What an audit keeps of a run's proofs and of the shared log: values on the disk, a few numbers for each in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from consumers.audit.glance import Seen
from consumers.audit.spill import Ids, Rows, SpilledTree, Spool
from ledger.entries import Entry
from schemas import quick
from schemas.events import EpochClosed, Event, ProofAttached, StepProven, StepRecorded
from schemas.signing import Opened, decode_unverified, event_id

E = TypeVar("E", bound=Event)

_OfStep: TypeAlias = StepProven | StepRecorded

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
            found = self._reopened(index)
            if len(self._at_hand) >= _AT_HAND:
                self._at_hand.clear()
            self._at_hand[index] = found
        return found

    def _reopened(self, index: int) -> Opened[E]:
        """What was opened before: the topic may carry it, and only the bytes have to be taken apart again."""
        value = self._spool[index]
        parts = quick.parts(value)
        event = quick.event(parts[0]) if parts is not None else None
        if parts is None or event is None:
            return decode_unverified(self.topic, value)  # type: ignore[return-value]
        body, key, signature = parts
        return Opened(event, self.event_id(index) or event_id(body), key, body, signature)  # type: ignore[arg-type]

    def event_id(self, index: int) -> bytes:  # noqa: ARG002
        """The event's id, where it is kept; else nothing."""
        return b""

    def __iter__(self) -> Iterator[Opened[E]]:
        return (self[i] for i in range(len(self)))


class Named(Sealed[E]):
    """Sealed events with their ids beside them: to hash a proof again costs as much as to read it."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.ids = Rows(32)

    def event_id(self, index: int) -> bytes:
        """The event's id."""
        return self.ids[index]


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


class Proofs:
    """A run's proofs by step and shard.

    Attributes:
        ids: the events' ids, in the order of arrival.
        partitions, offsets: where each stood.
        ascending: each came after all of earlier steps and shards, so that no event is there twice.
    """

    def __init__(self) -> None:
        self.sealed: Named[ProofAttached] = Named("proofs")
        self.ids = self.sealed.ids
        self.partitions, self.offsets = array("i"), array("q")
        self._steps, self._shards, self._signers = array("q"), array("i"), array("i")
        self._keys: dict[bytes, int] = {}
        self._last = (0, -1)
        self._seen: Ids | None = None
        self.ascending = True
        self._dropped = bytearray()

    def add(self, what: Seen, value: bytes, partition: int, offset: int) -> bool:
        """Takes a record; False if the same is there already, byte for byte."""
        step, shard, key_id, event_id = what
        slot = step, shard
        later = slot > self._last
        if later:
            self._last = slot
        elif self._seen is None:
            self._seen = Ids()  # until now nothing could be there twice
            for index in range(len(self._steps)):
                self._seen.add(_digest(self.sealed.value(index)))
        if self._seen is not None and not self._seen.add(_digest(value)):
            return False
        self.ascending = self.ascending and later
        self.ids.append(event_id)
        self._steps.append(step)
        self._shards.append(shard)
        self._signers.append(self._keys.setdefault(key_id, len(self._keys)))
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
        if not self.ascending:
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
        own: the leaves of the run's entries; ``own_steps``: the step that each proves, 0 if it is another kind;
            ``own_digests``: what it says of the step's proofs.
        recorded: those of them that record a sampled step.
    """

    def __init__(self, run_id: bytes) -> None:
        super().__init__("ledger")
        self.tree = SpilledTree()
        self.own, self.own_steps, self.own_digests = array("q"), array("q"), Rows(32)
        self.recorded = array("q")
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
            step, digest = (entry.step, entry.proofs_digest) if isinstance(entry, StepProven) else (0, bytes(32))
            self.own_steps.append(step)
            self.own_digests.append(digest)
            if isinstance(entry, StepRecorded):
                self.recorded.append(len(self))
        self.append(value)
        self.tree.append(opened.body)

    def by_step(self) -> Iterator[tuple[int, bytes]]:
        """The run's steps that are entered, ascending, each with what its first entry says of its proofs."""
        if self.own_steps:
            steps, first = np.unique(np.frombuffer(self.own_steps, np.int64), return_index=True)
            for step, at in zip(steps, first, strict=True):
                if step:
                    yield int(step), self.own_digests[int(at)]

    def of_run(self) -> Iterator[tuple[int, Opened[Entry]]]:
        """The run's entries with their leaves."""
        return ((leaf, self[leaf]) for leaf in self.own)


def _number(entry: Entry) -> int:
    if isinstance(entry, _OfStep):
        return entry.step
    return entry.epoch if isinstance(entry, EpochClosed) else 1
