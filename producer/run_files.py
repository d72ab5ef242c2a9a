"""A run's own files in its home: ``runs/NAME/run.json`` beside the sealed checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zk_autograd.errors import FormatError, UsageError
from zk_autograd.home import Home
from zk_autograd.schedule import Schedule

_FACTS = {"run_id", "data_key_id", "circuit_id", "finished", "schedule"}


def run_folder(home: Home, name: str) -> Path:
    """Where a run's own files are; UsageError for a name that is no plain file name."""
    if not name or len(name) > 100 or not all(c.isalnum() or c in "._-" for c in name) or name.startswith("."):
        raise UsageError(f"run name {name[:40]!r}: expected letters, digits, '.', '_' and '-', at most 100")
    return home.runs / name


def run_facts(home: Home, name: str) -> dict[str, Any]:
    """Run id, data key id, circuit id, schedule and whether it is finished; UsageError if there is no such run."""
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


def declared_schedule(facts: dict[str, Any]) -> Schedule:
    """The schedule that a run's facts name; UsageError if they name none."""
    try:
        kind, values, max_lr = facts["schedule"]
        return Schedule(kind, tuple(float(v) for v in values), float(max_lr))
    except (TypeError, ValueError, FormatError) as error:
        raise UsageError(f"run.json: its schedule is not as it was written ({error})") from None
