"""A run's own files in its home: ``runs/NAME/run.json`` beside the sealed checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.home import Home
from zk_autograd.schedule import Schedule

_FACTS = {"run_id", "data_key_id", "circuit_id", "finished", "schedules", "max_rounding", "epoch_steps"}


def run_folder(home: Home, name: str) -> Path:
    """Where a run's own files are; UsageError for a name that is no plain file name."""
    if not name or len(name) > 100 or not all(c.isalnum() or c in "._-" for c in name) or name.startswith("."):
        raise UsageError(f"run name {name[:40]!r}: expected letters, digits, '.', '_' and '-', at most 100")
    return home.runs / name


def run_facts(home: Home, name: str) -> dict[str, Any]:
    """Run id, data key id, circuit id, schedules and whether it is finished; UsageError if there is no such run."""
    path = run_folder(home, name) / "run.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        if not facts.keys() >= _FACTS:
            raise ValueError
    except OSError:
        raise UsageError(f"no run {name!r} in {home.runs}") from None
    except (ValueError, AttributeError):
        raise UsageError(f"{path}: not as it was written; restore it, or start a run under another name") from None
    return facts


def declared_schedules(facts: dict[str, Any]) -> tuple[Schedule, ...]:
    """The schedules that a run's facts name, one per parameter group; UsageError if they name none."""
    try:
        return tuple(
            Schedule(kind, tuple(float(v) for v in values), float(max_lr))
            for kind, values, max_lr in facts["schedules"]
        )
    except (TypeError, ValueError, FormatError) as error:
        raise UsageError(f"run.json: its schedules are not as they were written ({error})") from None
