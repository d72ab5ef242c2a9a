"""A run's own files in its home: ``runs/NAME/run.json`` beside the sealed checkpoint.

The file holds the run's first event as it was signed. What a run undertook is read from there and from nowhere else:
the run id is its hash, and the sealed checkpoint opens under that id only, so nobody can edit it unnoticed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from schemas.codec import decode, encode
from schemas.events import RunStarted
from schemas.signing import event_id
from zk_autograd.errors import DecodeError, FormatError, UsageError
from zk_autograd.files import read_capped
from zk_autograd.home import Home
from zk_autograd.schedule import Schedule
from zk_autograd.tee.keys import write_private

_LARGEST = 1 << 20


@dataclass(frozen=True)
class RunFile:
    """What is on file of a run.

    Attributes:
        start: its first event.
        finished: whether it took its last step.
    """

    start: RunStarted
    finished: bool = False

    @property
    def run_id(self) -> bytes:
        return event_id(encode(self.start))

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """One per parameter group."""
        return tuple(Schedule(g.schedule_kind.value.lower(), g.schedule, g.max_lr) for g in self.start.groups)

    def write(self, folder: Path) -> None:
        """Into a run's folder."""
        content = {"run_id": self.run_id.hex(), "start": encode(self.start).hex(), "finished": self.finished}
        write_private(folder / "run.json", json.dumps(content).encode(), replace=True)


def run_folder(home: Home, name: str) -> Path:
    """Where a run's own files are; UsageError for a name that is no plain file name."""
    if not name or len(name) > 100 or not all(c.isalnum() or c in "._-" for c in name) or name.startswith("."):
        raise UsageError(f"run name {name[:40]!r}: expected letters, digits, '.', '_' and '-', at most 100")
    return home.runs / name


def run_file(home: Home, name: str) -> RunFile:
    """What is on file of a run; UsageError if there is no such run."""
    path = run_folder(home, name) / "run.json"
    try:
        content = json.loads(read_capped(path, _LARGEST))
        start = decode(bytes.fromhex(content["start"]), (RunStarted,), _LARGEST, "the run's start")
        found = RunFile(start, bool(content["finished"]))
        if content["run_id"] != found.run_id.hex() or len(found.schedules) != len(start.groups):
            raise ValueError
    except FileNotFoundError:
        raise UsageError(f"no run {name!r} in {home.runs}") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, DecodeError, FormatError, UsageError):
        raise UsageError(f"{path}: not as it was written; restore it, or start a run under another name") from None
    return found
