"""The prover hangs, grows, crashes or loses its parent: what is refused, and what is left behind."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.proofs.proving import Proved, child_processes, honest_step, left_behind
from zk_autograd.errors import ProofSystemError
from zk_autograd.proofs.base import Circuit, Columns, Limits
from zk_autograd.proofs.ezkl.process import private_folder, run_child
from zk_autograd.proofs.ezkl.system import Ezkl

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def step(real_circuit: Callable[[str], Circuit]) -> Proved:
    return honest_step(real_circuit("sgd"))


def unsatisfiable(columns: Columns) -> Columns:
    """One weight is one unit off: EZKL's prover hangs for ever on such a witness."""
    return replace(columns, post=[columns.post[0] + 1, *columns.post[1:]])


def says_no_secret(text: str, step: Proved) -> bool:
    """Whether no value of the witness that could be told from a count or a limit stands in the text."""
    columns = step.columns
    secret = {str(abs(x)) for x in (*columns.pre, *columns.post, *columns.work) if abs(x) >= 10**5}
    secret |= {x.to_bytes(32, "little").hex() for x in columns.pre[-3:]}
    return not secret & set(re.findall(r"[0-9a-f]+", text))


def test_a_prover_that_takes_too_long_is_stopped(step: Proved, temporary: Path) -> None:
    before = child_processes(os.getpid())
    with pytest.raises(ProofSystemError, match=r"longer than the limit of 0\.5 s; stopped") as stopped:
        Ezkl().prove(step.circuit, step.columns, Limits(seconds=0.5))
    assert child_processes(os.getpid()) == before
    assert left_behind(os.getpid(), [temporary]) == []
    assert says_no_secret(str(stopped.value), step)


def test_a_prover_that_takes_too_much_memory_ends_with_an_error(step: Proved, temporary: Path) -> None:
    before = child_processes(os.getpid())
    with pytest.raises(ProofSystemError, match=r"ended with status .* memory limit was 0\.29 GiB") as stopped:
        Ezkl().prove(step.circuit, step.columns, Limits(seconds=300, memory=300 << 20))
    assert child_processes(os.getpid()) == before
    assert left_behind(os.getpid(), [temporary]) == []
    assert says_no_secret(str(stopped.value), step)


def test_a_witness_that_satisfies_nothing_ends_at_the_limit(step: Proved, temporary: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ProofSystemError, match=r"longer than the limit of 8 s|ended with status") as stopped:
        Ezkl().prove(step.circuit, unsatisfiable(step.columns), Limits(seconds=8))
    assert time.monotonic() - started < 20
    assert left_behind(os.getpid(), [temporary]) == []
    assert says_no_secret(str(stopped.value), step)


def test_a_witness_with_too_few_elements_ends_with_an_error(step: Proved, temporary: Path) -> None:
    short = replace(step.columns, pre=step.columns.pre[:-1])
    with pytest.raises(ProofSystemError) as stopped:
        Ezkl().prove(step.circuit, short, Limits(seconds=60))
    assert says_no_secret(str(stopped.value), step)
    assert left_behind(os.getpid(), [temporary]) == []


def test_a_prover_with_another_circuits_proving_key_publishes_nothing(
    step: Proved, real_circuit: Callable[[str], Circuit], tmp_path: Path
) -> None:
    """The proving key is not part of the circuit id: what it makes has to verify, or it never leaves."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file in step.circuit.directory.iterdir():
        source = real_circuit("momentum").directory / "pk.key" if file.name == "pk.key" else file
        (mixed / file.name).symlink_to(source)
    with pytest.raises(ProofSystemError):
        Ezkl().prove(replace(step.circuit, directory=mixed), step.columns, Limits(seconds=12))


def test_the_caller_is_heard_while_the_prover_runs(step: Proved) -> None:
    ticks: list[float] = []
    with pytest.raises(ProofSystemError):
        Ezkl().prove(step.circuit, step.columns, Limits(seconds=3), lambda: ticks.append(time.monotonic()))
    assert len(ticks) >= 3
    assert max(b - a for a, b in pairwise(ticks)) < 2


def test_a_caller_that_gives_up_takes_the_prover_with_it(step: Proved, temporary: Path) -> None:
    before = child_processes(os.getpid())

    def fenced() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ezkl().prove(step.circuit, step.columns, Limits(), fenced)
    assert child_processes(os.getpid()) == before
    assert left_behind(os.getpid(), [temporary]) == []


def test_a_child_that_fails_says_why_if_it_has_no_secrets(tmp_path: Path) -> None:
    job = {"verb": "gen_srs", "srs": str(tmp_path / "no" / "such" / "folder"), "logrows": 10}
    with pytest.raises(ProofSystemError, match=r"ezkl gen_srs: the child ended with status 1 \(no memory limit\): \S"):
        run_child(job, Limits(seconds=60, memory=0), secret=False)
    with pytest.raises(ProofSystemError, match=r"ezkl gen_srs: .*\(no memory limit\); if memory is not short, a file"):
        run_child(job, Limits(seconds=60, memory=0), secret=True)


def test_the_folder_of_secrets_is_the_owners_alone_and_goes_away() -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "secret").write_bytes(b"x")
    assert not folder.exists()


_PARENT = """
import pickle, sys
from zk_autograd.proofs.base import Limits
from zk_autograd.proofs.ezkl.system import Ezkl
circuit, columns = pickle.load(sys.stdin.buffer)
Ezkl().prove_unverified(circuit, columns, Limits(seconds=300))
"""


@pytest.mark.parametrize("pause", [0.0, 2.0])
def test_the_prover_dies_with_its_parent_and_leaves_no_secret(step: Proved, tmp_path: Path, pause: float) -> None:
    """The parent is killed as soon as the prover is there, or when it has been at work for a while."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, env=environment)
    try:
        assert parent.stdin is not None
        parent.stdin.write(pickle.dumps((step.circuit, unsatisfiable(step.columns))))
        parent.stdin.close()
        children = wait_for(lambda: child_processes(parent.pid), 60)
        time.sleep(pause)
        assert parent.poll() is None
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not [c for c in children if os.path.exists(f"/proc/{c}")], 30)
    left = left_behind(parent.pid, [tmp_path])
    files = [f for folder in left for f in folder.rglob("*") if f.is_file()]
    # EZKL may leave its cache of tables, which are public.
    assert all("zk-cache-" in str(f) for f in files)
    salt = step.columns.pre[-1].to_bytes(32, "little")
    assert not any(secret in f.read_bytes() for f in files for secret in (salt, salt[::-1], salt.hex().encode()))
    for folder in left:
        shutil.rmtree(folder)


def wait_for(condition: Callable[[], object], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.02)
    return found if isinstance(found, list) else []


def test_a_file_in_the_current_folder_does_not_stand_in_for_the_proof_system(
    step: Proved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write where a prover was started would read every witness."""
    marker = tmp_path / "was here"
    for name in ("ezkl", "asyncio", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert Ezkl().satisfied(step.circuit, step.columns)
    assert not marker.exists()
