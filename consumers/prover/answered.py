"""Which witnesses have been proven already, as the topic ``proofs`` says."""

from __future__ import annotations

from consumers.steps_view import StepsView
from schemas.events import ProofAttached
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog


class Answered:
    """Reads on when asked. Only what a prover's key signed counts; whether the proof holds is for the ledger."""

    def __init__(self, log: EventLog, view: StepsView) -> None:
        self._reader, self._view = log.reader(["proofs"]), view
        self._slots: set[tuple[bytes, int, int]] = set()

    def has(self, run_id: bytes, step: int, shard: int) -> bool:
        """Whether a proof of this slot has been published."""
        for record in self._reader.read_to_end():
            try:
                event = self._view.open("proofs", record.value).event
            except (DecodeError, VerificationError):
                continue
            if isinstance(event, ProofAttached):
                self._slots.add((event.run_id, event.step, event.shard))
        return (run_id, step, shard) in self._slots

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()
