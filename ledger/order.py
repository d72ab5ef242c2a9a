"""The order that a log's entries keep, whatever they are of: each run's, each once. Pure.

A run is opened, then its steps enter 1, 2, 3 …; a step is recorded, if its run is sampled, before it enters; an epoch
closes over the steps since the one before; nothing follows a run's end. This needs no topic but the log itself, and no
more memory than the runs take: whoever holds only the entries can check it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger.entries import Entry
from schemas.events import EpochClosed, RunClosed, RunOpened, StepProven, StepRecorded
from zk_autograd.errors import VerificationError


@dataclass(slots=True)
class _Run:
    recorded: int = 0
    entered: int = 0
    epoch: int = 0
    closed_to: int = 0  # the last step of an epoch that is closed


class Order:
    """What the log's entries so far allow to follow."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Run] = {}
        self._closed: set[bytes] = set()

    @property
    def runs(self) -> int:
        """How many runs have been opened."""
        return len(self._open) + len(self._closed)

    def repeats(self, entry: Entry) -> bool:
        """Whether the log has said this already: an entry of a place that is taken."""
        if entry.run_id in self._closed:
            return True
        run = self._open.get(entry.run_id)
        if run is None:
            return False
        if isinstance(entry, StepRecorded):
            return entry.step <= max(run.recorded, run.entered)
        if isinstance(entry, StepProven):
            return entry.step <= run.entered
        if isinstance(entry, EpochClosed):
            return entry.epoch <= run.epoch
        return isinstance(entry, RunOpened)

    def take(self, entry: Entry) -> None:
        """Takes the next entry.

        Raises:
            VerificationError: it cannot follow what is there; nothing was taken.
        """
        where = f"run {entry.run_id.hex()[:12]}"
        if self.repeats(entry):
            raise VerificationError(f"{where}: {_what(entry)}: it is in the log already, or after the run's end")
        run = self._open.get(entry.run_id)
        if isinstance(entry, RunOpened):
            self._open[entry.run_id] = _Run()
            return
        if run is None:
            raise VerificationError(f"{where}: {_what(entry)}: the run was not opened")
        if isinstance(entry, StepRecorded):
            expected = max(run.recorded, run.entered) + 1
            if entry.step != expected:
                raise VerificationError(f"{where}: {_what(entry)}: expected step {expected} to be recorded next")
            run.recorded = entry.step
        elif isinstance(entry, StepProven):
            if entry.step != run.entered + 1 or (run.recorded and entry.step > run.recorded):
                raise VerificationError(
                    f"{where}: {_what(entry)}: expected step {run.entered + 1}"
                    + (f" of {run.recorded} recorded" if run.recorded else "")
                )
            run.entered = entry.step
        elif isinstance(entry, EpochClosed):
            if (entry.epoch, entry.first_step, entry.last_step) != (run.epoch + 1, run.closed_to + 1, run.entered):
                raise VerificationError(
                    f"{where}: {_what(entry)}, steps {entry.first_step} to {entry.last_step}: expected epoch "
                    f"{run.epoch + 1}, steps {run.closed_to + 1} to {run.entered}"
                )
            run.epoch, run.closed_to = entry.epoch, entry.last_step
        else:
            if entry.steps != run.entered:
                raise VerificationError(f"{where}: {_what(entry)}: {run.entered} steps have entered")
            del self._open[entry.run_id]
            self._closed.add(entry.run_id)


def _what(entry: Entry) -> str:
    if isinstance(entry, StepProven | StepRecorded):
        return f"step {entry.step} {'proven' if isinstance(entry, StepProven) else 'recorded'}"
    if isinstance(entry, EpochClosed):
        return f"epoch {entry.epoch} closed"
    return f"closed after {entry.steps} steps" if isinstance(entry, RunClosed) else "opened"
