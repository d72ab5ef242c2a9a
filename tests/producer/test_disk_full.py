"""The disk is full in the middle of a run: here, no file may grow beyond a limit that only the checkpoint reaches."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.producer.training import Training, follow
from zk_autograd.home import Home
from zk_autograd.proofs import DEFAULT_SYSTEM, proof_system

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_BYTES = 4 << 20


def main(home: Path, circuit: str, log: Path) -> None:
    """One step whose checkpoint is larger than the limit; in a process of its own, for limits are a process's."""
    here = Home(home)
    training = Training(here, proof_system(DEFAULT_SYSTEM).load(bytes.fromhex(circuit), home), log)
    with training.resume() as job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
        job.optimizer.step()
        job.recorder.record(lambda: bytes(2 * LIMIT_BYTES))


def test_a_full_disk_ends_the_run_with_a_clear_error_and_a_later_resume_takes_the_same_step(training: Training) -> None:
    with training.start() as job:
        job.step()
    words = [str(training.home.path), training.circuit.id.hex(), str(training.log_path)]
    failed = subprocess.run(
        [sys.executable, "-m", "tests.producer.test_disk_full", *words],
        capture_output=True, text=True, timeout=120, cwd=REPOSITORY,
    )  # fmt: skip
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last == (
        f"zk_autograd.errors.UsageError: cannot write {training.checkpoint()}: File too large; nothing was changed"
    )
    assert sorted(p.name for p in training.checkpoint().parent.iterdir()) == ["checkpoint.sealed", "run.json"]
    with training.resume() as job:
        assert job.recorder.step == 1
        job.step(2)
    chain = follow(training)
    assert chain is not None
    assert len(chain.steps) == 3


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
