"""Which witnesses have been proven already, as the topic ``proofs`` says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from consumers.steps_view import StepsView
from consumers.verifying import Verifiers
from schemas.events import ProofAttached, WitnessShard
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.proofs.base import Circuit

_MOST = 64
"""So many published proofs of one witness are looked at: a prover's key may have signed any number of bad ones."""


class Answered:
    """Reads on when asked. Only what a prover's key signed is looked at."""

    def __init__(self, log: EventLog, view: StepsView) -> None:
        self._log, self._view = log, view
        self._reader, self._verify = log.reader(["proofs"]), Verifiers()
        self._ends: dict[int, int] = {}
        self._slots: dict[tuple[bytes, int, int], list[tuple[int, int]]] = defaultdict(list)
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
        for attached in self._published(event):
            try:
                found = self._verify(circuit, attached.proof, public)
            except VerificationError:
                continue
            if (found.pre, found.post, found.work) == (event.pre, event.post, event.work):
                return True
        return False

    def count(self, run_id: bytes) -> int:
        """How many proofs of a run have been published."""
        self._read_on()
        return self._counts[run_id]

    def _read_on(self) -> None:
        for record in self._reader.read_to_end():
            self._ends[record.partition] = record.offset + 1
            event = self._event(record)
            if event is not None:
                slot = event.run_id, event.step, event.shard
                if len(self._slots[slot]) < _MOST:
                    self._slots[slot].append((record.partition, record.offset))
                self._counts[event.run_id] += 1

    def _event(self, record: Record) -> ProofAttached | None:
        try:
            event = self._view.open("proofs", record.value).event
        except (DecodeError, VerificationError):
            return None
        return event if isinstance(event, ProofAttached) else None

    def _published(self, event: WitnessShard) -> Iterator[ProofAttached]:
        """Read again: proofs are too large to be kept."""
        ends = {("proofs", partition): end for partition, end in self._ends.items()}
        for partition, offset in list(self._slots[event.run_id, event.step, event.shard]):
            with self._log.reader(["proofs"], ends | {("proofs", partition): offset}) as reader:
                for record in reader.read_to_end():
                    if (record.partition, record.offset) == (partition, offset):
                        found = self._event(record)
                        if found is not None and found.circuit_id == event.circuit_id:
                            yield found
                        break

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()
        self._verify.close()
