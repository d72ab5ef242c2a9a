"""From a record to a witness that is its run's own."""

from __future__ import annotations

from consumers.steps_view import StepsView
from schemas.events import RunStarted, WitnessShard
from schemas.signing import Opened
from schemas.topics import witness_partition
from zk_autograd.errors import VerificationError
from zk_autograd.eventlog.base import Record


def open_witness(record: Record, view: StepsView, partitions: int) -> tuple[Opened[WitnessShard], Opened[RunStarted]]:
    """The witness, signed by its run's own key, in its own partition of so many, and the run's start.

    Raises:
        DecodeError, VerificationError: it is not that.
    """
    opened: Opened[WitnessShard] = view.open("witness", record.value)  # type: ignore[assignment]
    event, where = opened.event, f"witness of run {opened.event.run_id.hex()[:12]}"
    if event.run_id not in view.runs:
        view.refresh()
    if event.run_id not in view.runs:
        raise VerificationError(f"{where}: no such run has started")
    start = view.runs[event.run_id]
    if start.key_id != opened.key_id:
        raise VerificationError(f"{where}: signed by another key than the run's start")
    expected = witness_partition(event.step, event.shard, start.event.shards, partitions)
    if record.partition != expected:
        raise VerificationError(
            f"{where}, step {event.step}, shard {event.shard}: expected in partition {expected}, "
            f"got it in {record.partition}: a copy"
        )
    return opened, start
