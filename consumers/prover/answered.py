"""Which witnesses have been proven already, as the topic ``proofs`` says."""

from __future__ import annotations

from collections import Counter

from consumers.steps_view import StepsView
from schemas.events import ProofAttached
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog


class Answered:
    """Reads on when asked. Only what a prover's key signed counts; whether the proof holds is for the ledger."""

    def __init__(self, log: EventLog, view: StepsView) -> None:
        self._reader, self._view = log.reader(["proofs"]), view
        self._slots: set[tuple[bytes, int, int]] = set()
        self._counts: Counter[bytes] = Counter()

    def has(self, run_id: bytes, step: int, shard: int) -> bool:
        """Whether a proof of this slot has been published."""
        self._read_on()
        return (run_id, step, shard) in self._slots

    def count(self, run_id: bytes) -> int:
        """How many proofs of a run have been published."""
        self._read_on()
        return self._counts[run_id]

    def _read_on(self) -> None:
        for record in self._reader.read_to_end():
            try:
                event = self._view.open("proofs", record.value).event
            except (DecodeError, VerificationError):
                continue
            if isinstance(event, ProofAttached):
                self._slots.add((event.run_id, event.step, event.shard))
                self._counts[event.run_id] += 1

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()
