"""The sound run, and cases: copies of it to run consumers on."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.audit.proofs import Verdict
from tests.support.claims import scene
from tests.support.forge import Case
from tests.support.sampled import sampled_case, sampled_run
from tests.support.sound_run import SoundRun, sound_run

__all__ = ["sampled_case", "sampled_run", "scene", "sound_run"]


@pytest.fixture(scope="session")
def verdicts() -> dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]:
    """Outcomes of verification, shared by all cases."""
    return {}


@pytest.fixture
def case(sound_run: SoundRun, tmp_path: Path, verdicts: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]) -> Case:
    """A copy of the sound run."""
    return Case(sound_run, tmp_path, verdicts)
