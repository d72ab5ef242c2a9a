"""Where a run stands in the log, as its own trainer reads it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import RunFinished, RunStarted, StepCommitted
from schemas.signing import open_signed
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.tee.keys import SigningKey


@dataclass(frozen=True)
class Position:
    """Last published step, id of the last event (None: not even the start), and whether the run is finished."""

    step: int
    head: bytes | None
    finished: bool


def locate(log: EventLog, run_id: bytes, key: SigningKey) -> Position:
    """Follows the run's own signed chain through the topic; what others wrote there is passed over."""
    keys = {key.key_id: key.public_key}
    step, head, finished = 0, None, False
    with log.reader(["steps"]) as reader:
        for record in reader.read_to_end():
            try:
                opened = open_signed("steps", record.value, keys)
            except (DecodeError, VerificationError):
                continue
            event = opened.event
            if isinstance(event, RunStarted) and opened.event_id == run_id:
                head = opened.event_id
            elif isinstance(event, StepCommitted | RunFinished) and event.run_id == run_id and event.previous == head:
                head = opened.event_id
                finished = isinstance(event, RunFinished)
                step += not finished
    return Position(step, head, finished)
