"""Which witnesses have been proven already, as the topic ``proofs`` says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from consumers.prover.claims import Slot
from consumers.steps_view import StepsView
from consumers.verifying import Verifiers
from schemas.events import ProofAttached, WitnessShard
from schemas.signing import Opened
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.proofs.base import Circuit

_MOST = 64
"""So many published proofs of one witness are looked at of each key, which may have signed any number of bad ones."""


class Answered:
    """Reads on when asked. Only what a prover's key signed is looked at."""

    def __init__(self, log: EventLog, view: StepsView) -> None:
        self._log, self._view = log, view
        self._reader, self._verify = log.reader(["proofs"]), Verifiers()
        self._ends: dict[int, int] = {}
        self._slots: dict[Slot, list[tuple[int, int]]] = defaultdict(list)
        self._kept: Counter[tuple[Slot, bytes]] = Counter()  # of these, by key: one must not hide what another signed
        self._counts: Counter[bytes] = Counter()

    def has(self, run_id: bytes, step: int, shard: int) -> bool:
        """Whether something is published as a proof of this slot."""
        self._read_on()
        return (run_id, step, shard) in self._slots

    def proven(self, event: WitnessShard, circuit: Circuit, public: tuple[int, ...]) -> bool:
        """Whether a proof of this very witness is published, and holds.

        Garbage under a prover's key must not keep a witness from being proven.
        """
        if not self.has(event.run_id, event.step, event.shard):
            return False
        for opened in self._published((event.run_id, event.step, event.shard)):
            if opened.event.circuit_id != event.circuit_id:
                continue
            try:
                found = self._verify(circuit, opened.event.proof, public)
            except VerificationError:
                continue
            if (found.pre, found.post, found.work) == (event.pre, event.post, event.work):
                return True
        return False

    def refuted(self, event: WitnessShard, proof: bytes, circuit: Circuit, public: tuple[int, ...]) -> bool:
        """Whether the ProofAttached with this event id is published for the witness's shard, and is no proof at all."""
        self._read_on()
        for opened in self._published((event.run_id, event.step, event.shard)):
            if opened.event_id == proof:
                try:
                    self._verify(circuit, opened.event.proof, public)
                except VerificationError:
                    return True
        return False

    def lists(self, slot: Slot, proof: bytes) -> bool:
        """Whether the ProofAttached with this event id is published for this shard."""
        self._read_on()
        return any(opened.event_id == proof for opened in self._published(slot))

    def count(self, run_id: bytes) -> int:
        """How many proofs of a run have been published."""
        self._read_on()
        return self._counts[run_id]

    def _read_on(self) -> None:
        for record in self._reader.read_to_end():
            self._ends[record.partition] = record.offset + 1
            opened = self._opened(record)
            if opened is not None:
                event = opened.event
                slot = event.run_id, event.step, event.shard
                if self._kept[slot, opened.key_id] < _MOST:
                    self._kept[slot, opened.key_id] += 1
                    self._slots[slot].append((record.partition, record.offset))
                self._counts[event.run_id] += 1

    def _opened(self, record: Record) -> Opened[ProofAttached] | None:
        try:
            return self._view.open("proofs", record.value)  # type: ignore[return-value]
        except (DecodeError, VerificationError):
            return None

    def _published(self, slot: Slot) -> Iterator[Opened[ProofAttached]]:
        """Read again: proofs are too large to be kept."""
        ends = {("proofs", partition): end for partition, end in self._ends.items()}
        for partition, offset in list(self._slots.get(slot, ())):
            with self._log.reader(["proofs"], ends | {("proofs", partition): offset}) as reader:
                for record in reader.read_to_end():
                    if (record.partition, record.offset) == (partition, offset):
                        found = self._opened(record)
                        if found is not None:
                            yield found
                        break

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()
        self._verify.close()
