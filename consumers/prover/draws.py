"""Which shards of sampled runs are drawn, as the topics ``ledger`` and ``anchors`` say."""

from __future__ import annotations

from collections import Counter

from consumers.options import Reporter
from consumers.receipts import check_beacon, verified_receipt
from consumers.steps_view import StepsView
from ledger.entries import Entry
from ledger.sampling import Beacon, Draw
from ledger.tree import Tree
from schemas.events import Anchored, RunStarted, StepRecorded
from zk_autograd.errors import DecodeError, VerificationError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Reader, Record
from zk_autograd.policy import Policy

_KEPT = 256
"""So many draws are remembered; older ones are made again when they are asked for."""


class Draws:
    """Reads nothing before it is asked, so that provers of runs that are proven whole do not pay for it.

    Like the anchor consumer it rebuilds the log's tree, so that a receipt counts only if it is of these very entries,
    and a step's place among them is the one that the receipt covers.
    """

    def __init__(self, log: EventLog, view: StepsView, policy: Policy, report: Reporter) -> None:
        self._log, self._view, self._policy, self._report = log, view, policy, report
        self._readers: dict[str, Reader] = {}
        self._tree = Tree()
        self._seen: set[bytes] = set()
        self._recorded: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self._beacons: dict[str, Beacon] = {}
        self.entries: Counter[bytes] = Counter()
        """Entries of the log, by run."""
        self._drawn: dict[tuple[bytes, int], Draw] = {}

    def of(self, run_id: bytes, start: RunStarted, step: int) -> Draw | None:
        """What is drawn of a step; None while nothing is.

        Raises:
            VerificationError: the run's beacon is none, or not one that the policy allows.
        """
        check_beacon(start.beacon, self._policy)
        place = run_id, step
        if place not in self._drawn:
            recorded = self._recorded.get(place)
            beacon = self._beacons.get(start.beacon)
            found = beacon and recorded and beacon.draw(recorded[0], *place, recorded[1], start.sampled, start.shards)
            if not found:
                return None
            while len(self._drawn) >= _KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[place] = found
        return self._drawn[place]

    def refresh(self) -> None:
        """Takes everything committed up to now."""
        receipts = list(self._new("anchors"))  # first: whatever they cover is then among the entries
        for record in self._new("ledger"):
            try:
                self._entry(record)
            except (DecodeError, VerificationError) as error:
                self._pass_over(record, error)
        for record in receipts:
            try:
                event = self._view.open(record.topic, record.value).event
                assert isinstance(event, Anchored)
                facts = verified_receipt(event, self._tree)
                if facts.randomness is not None:
                    self._beacons.setdefault(facts.anchor, Beacon(facts.anchor)).take(facts)
            except ZkAutogradError as error:
                self._pass_over(record, error)

    def _new(self, topic: str) -> list[Record]:
        if topic not in self._readers:
            self._readers[topic] = self._log.reader([topic])
        return list(self._readers[topic].read_to_end())

    def _entry(self, record: Record) -> None:
        opened = self._view.open(record.topic, record.value)
        if opened.event_id in self._seen:  # anyone who may write can play one again
            return
        self._seen.add(opened.event_id)
        leaf, event = self._tree.append(opened.body), opened.event
        assert isinstance(event, Entry)
        self.entries[event.run_id] += 1
        if isinstance(event, StepRecorded):
            self._recorded.setdefault((event.run_id, event.step), (leaf, event.event_id))

    def _pass_over(self, record: Record, error: object) -> None:
        self._report(f"passed over {record.topic}/{record.partition}@{record.offset}: {error}", noise=record.offset)

    def close(self) -> None:
        """Closes the readers."""
        for reader in self._readers.values():
            reader.close()
