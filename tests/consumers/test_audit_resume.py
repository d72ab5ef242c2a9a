"""``zk-audit --resume``: what one audit has verified the next does not verify again, and nobody else can say so."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.audit import cli, remembered
from consumers.audit.proofs import Job, Verdict
from consumers.audit.remembered import Remembered
from tests.support.forge import Case, flipped
from tests.support.pipeline import ORIGIN
from zk_autograd.errors import UsageError
from zk_autograd.proofs.base import Circuit


@pytest.fixture
def home(case: Case, tmp_path: Path) -> Path:
    """A copy of the auditor's home: circuits, and nothing else."""
    made = tmp_path / "auditor"
    made.mkdir()
    for name in ("circuits", "srs"):
        shutil.copytree(case.sound.home.path / name, made / name, symlinks=True)
    return made


@pytest.fixture
def asked(case: Case, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many proofs each call of the verifier got; verification itself is real."""
    calls: list[int] = []

    def verify_all(circuit: Circuit, jobs: Sequence[Job], *_: object) -> list[Verdict]:
        calls.append(len(jobs))
        return case._verify(circuit, jobs)

    monkeypatch.setattr(cli, "verify_all", verify_all)
    return calls


def audited(case: Case, home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    place = ["--home", str(home), "--log", case.log.url, "--run", case.run_id.hex(), "--origin", ORIGIN, "--dev"]
    code = cli.main([*place, "--json", *words])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code
    return found


def test_a_second_audit_verifies_nothing_again(
    case: Case, home: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (audited(case, home, capsys, "--resume") for _ in range(2))
    assert asked == [6]
    assert (first["exit_code"], first["proofs_remembered"]) == (0, 0)
    assert (second["exit_code"], second["proofs_remembered"]) == (0, 6)
    assert first["checks"] == second["checks"]
    assert stat.S_IMODE((home / "audit" / "verdicts.key").stat().st_mode) == 0o600


def test_proofs_are_really_verified_once_and_a_false_one_each_time(
    case: Case, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stands in for the verifier here: its processes, the batches and EZKL are the real ones."""
    asked: list[int] = []
    real = cli.verify_all

    def counting(circuit: Circuit, jobs: Sequence[Job], *more: Any) -> list[Verdict]:
        asked.append(len(jobs))
        return real(circuit, jobs, *more)

    monkeypatch.setattr(cli, "verify_all", counting)
    first, second = (audited(case, home, capsys, "--resume") for _ in range(2))
    assert [first["exit_code"], second["exit_code"], second["proofs_remembered"]] == [0, 0, 6]
    story = case.story()
    proof = story.proofs[2, 1]
    story.proofs[2, 1] = replace(proof, proof=flipped(proof.proof, len(proof.proof) - 5))
    case.retell(story)
    false = [audited(case, home, capsys, "--resume") for _ in range(2)]
    assert [f["exit_code"] for f in false] == [1, 1]
    assert "step 2, shard 1: proof: refused by the verifier" in str(false[0]["checks"][5]["findings"])
    assert [n for n in asked if n] == [6, 1, 1]


def test_without_it_nothing_is_remembered_or_written(
    case: Case, home: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    audited(case, home, capsys)
    assert not (home / "audit").exists()
    audited(case, home, capsys, "--resume")
    audited(case, home, capsys)
    assert asked == [6, 6, 6]


def test_an_audit_that_is_stopped_goes_on_where_it_was(
    case: Case, home: Path, asked: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_AT_ONCE", 2)
    real = cli.verify_all

    def stopping(*args: Any) -> list[Verdict]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(cli, "verify_all", stopping)
    assert cli.main(
        ["--home", str(home), "--log", case.log.url, "--run", case.run_id.hex(), "--dev", "--resume"]
    ) == 130  # fmt: skip
    capsys.readouterr()
    monkeypatch.setattr(cli, "verify_all", real)
    assert audited(case, home, capsys, "--resume")["proofs_remembered"] == 4
    assert asked == [2, 2, 2]


def test_a_false_proof_is_never_remembered(
    case: Case, home: Path, asked: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    story = case.story()
    proof = story.proofs[2, 1]
    story.proofs[2, 1] = replace(proof, proof=flipped(proof.proof, len(proof.proof) - 5))
    case.retell(story)
    for _ in range(2):
        assert audited(case, home, capsys, "--resume")["exit_code"] == 1
    assert asked == [6, 1]


@pytest.mark.parametrize("attack", ["planted", "copied", "flipped", "cut", "longer", "emptied", "another key"])
def test_verdicts_that_a_stranger_writes_are_worth_nothing(
    case: Case, home: Path, asked: list[int], capsys: pytest.CaptureFixture[str], attack: str, tmp_path: Path
) -> None:
    """The auditor's disk in a stranger's hands, but for the key: proofs are verified again, and that is all."""
    audited(case, home, capsys, "--resume")
    file = home / "audit" / "verdicts"
    content = file.read_bytes()
    assert len(content) == 6 * 32
    other = tmp_path / "other"
    told = case.story()
    jobs = [(p.proof, told.step(step).public) for (step, _), p in told.proofs.items()]
    Remembered(other, False).add(case.sound.circuit, jobs)
    assert (other / "audit" / "verdicts").stat().st_size == len(content)
    again = {"planted": 6, "copied": 6, "flipped": 1, "cut": 1, "longer": 0, "emptied": 6, "another key": 6}[attack]
    if attack == "planted":
        file.write_bytes(bytes(range(32)) * 100)
    elif attack == "copied":
        shutil.copyfile(other / "audit" / "verdicts", file)
    elif attack == "flipped":
        file.write_bytes(flipped(content, 40))
    elif attack == "cut":
        file.write_bytes(content[:-1])
    elif attack == "longer":
        file.write_bytes(content + b"x")
    elif attack == "emptied":
        file.unlink()
    else:
        (home / "audit" / "verdicts.key").write_bytes(bytes(32))
    found = audited(case, home, capsys, "--resume")
    assert found["exit_code"] == 0
    assert sum(asked) == 6 + again
    assert audited(case, home, capsys, "--resume")["proofs_remembered"] == 6, "and then it is whole again"


def test_a_verdict_is_for_one_proof_one_circuit_and_one_step(case: Case, tmp_path: Path) -> None:
    circuit, cache = case.sound.circuit, Remembered(tmp_path, False)
    job = (bytes(circuit.proof_bytes), (1, 2))
    cache.add(circuit, [job])
    cache = Remembered(tmp_path, False)
    assert cache.verdicts(circuit, [job]) != [None]
    for other in ((flipped(job[0], 9), (1, 2)), (job[0], (1, 3)), (job[0], (12,)), (job[0], (1, 2, 0))):
        assert cache.verdicts(circuit, [other]) == [None]
    assert cache.verdicts(replace(circuit, id=bytes(32)), [job]) == [None]


def test_what_a_batch_has_accepted_does_not_count_one_by_one(case: Case, tmp_path: Path) -> None:
    circuit, job = case.sound.circuit, (bytes(case.sound.circuit.proof_bytes), (1,))
    Remembered(tmp_path, False).add(circuit, [job])
    assert Remembered(tmp_path, True).verdicts(circuit, [job]) == [None]
    Remembered(tmp_path, True).add(circuit, [job])
    assert Remembered(tmp_path, True).verdicts(circuit, [job]) != [None]


def test_a_home_that_cannot_hold_them_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        Remembered(tmp_path / "file", False)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "verdicts.key").write_bytes(bytes(31))
    with pytest.raises(UsageError, match="expected 32 bytes"):
        Remembered(tmp_path, False)
