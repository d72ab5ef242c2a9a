"""Cases: copies of the sound run that a test may forge."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.audit.outcome import Audit, Status
from consumers.audit.proofs import Verdict
from schemas.events import RunFinished, StepCommitted
from tests.support.claims import scene
from tests.support.forge import Case, Story, explain, violated
from tests.support.sampled import sampled_case, sampled_run
from tests.support.sound_run import STEPS, SoundRun, commitments, hot_public, sound_run
from zk_autograd.fixed_point import Format

__all__ = ["sampled_case", "sampled_run", "scene", "sound_run"]


@pytest.fixture(scope="session")
def verdicts() -> dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]:
    """Outcomes of verification, shared by all cases: the same proof is verified once a session."""
    return {}


@pytest.fixture
def case(sound_run: SoundRun, tmp_path: Path, verdicts: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]) -> Case:
    """A case of the test's own. It is sound so far: what the test then finds, its attack has done."""
    made = Case(sound_run, tmp_path, verdicts)
    found = made.audit()
    assert found.exit_code == 0, explain(found)
    return made


@pytest.fixture
def auditor_home(case: Case, tmp_path: Path) -> Path:
    """A home of the auditor's own, with the run's circuits."""
    home = tmp_path / "auditor"
    for folder in ("circuits", "srs"):
        shutil.copytree(case.sound.home.path / folder, home / folder)
    return home


def hot_story(case: Case, lr: float, **step: object) -> Story:
    """The run whose last step was really taken at ``HOT_LR``, and which says that it was taken at ``lr``.

    The roots fit what was done. Without further changes (``step``: fields of the StepCommitted) the public integers
    are those that were used.
    """
    story, proofs = case.story(), case.sound.hot_proofs
    block, found = story.start.blocks[0], [commitments(proof) for proof in proofs]
    public = hot_public(case.sound.circuit, STEPS, Format(block.scale_w, block.scale_g, block.guard, block.clip))
    vector = tuple(case.sound.circuit.statement.public_vector(public))
    story.edit(StepCommitted, STEPS, **{"rates": (lr,), "public": vector} | step)
    for shard, proof in enumerate(proofs):
        story.proofs[STEPS, shard] = replace(story.proofs[STEPS, shard], proof=proof)
    story.commit(STEPS, post=[c.post for c in found], work=[c.work for c in found])
    story.edit(RunFinished, state_root=story.step(STEPS).state_root)
    return story


def assert_violates(found: Audit, *numbers: int, only: bool = False) -> None:
    """The audit ends in 1 and finds these checks violated; with ``only``, no others."""
    assert found.exit_code == 1, explain(found)
    assert set(numbers) <= violated(found), explain(found)
    assert not only or violated(found) == set(numbers), explain(found)


def assert_doubts(found: Audit, *numbers: int) -> None:
    """The audit ends in 2: nothing is proved wrong, but these checks cannot call the log sound."""
    assert found.exit_code == 2, explain(found)
    doubted = {check.number for check in found.checks if check.status is Status.UNCHECKED}
    assert set(numbers) <= doubted, explain(found)
