"""The topic ``steps`` as every consumer follows it: which keys are known, which runs have started."""

from __future__ import annotations

from schemas.events import Event, RunStarted
from schemas.keyring import KeyRing
from schemas.signing import Opened
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy


class StepsView:
    """Reads on when asked; what cannot be taken is passed over (the ledger publishes it as a dead letter)."""

    def __init__(self, log: EventLog, policy: Policy) -> None:
        self._reader = log.reader(["steps"])
        self.ring = KeyRing(policy)
        self.runs: dict[bytes, Opened[RunStarted]] = {}

    def refresh(self) -> None:
        """Takes everything committed up to now."""
        for record in self._reader.read_to_end():
            try:
                opened = self.ring.open("steps", record.value)
            except (DecodeError, VerificationError):
                continue
            if isinstance(opened.event, RunStarted):
                self.runs.setdefault(opened.event_id, opened)  # type: ignore[arg-type]

    def open(self, topic: str, value: bytes) -> Opened[Event]:
        """Opens a signed event of another topic; reads on once if its key is not known yet.

        Raises:
            DecodeError, VerificationError: as :meth:`schemas.keyring.KeyRing.open`.
        """
        try:
            return self.ring.open(topic, value)
        except VerificationError:
            self.refresh()
            return self.ring.open(topic, value)

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()
