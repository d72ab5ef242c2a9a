"""Circuit folders from somebody else, and the auditor's own that are damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.forge import Case
from zk_autograd.errors import ProofSystemError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Profile
from zk_autograd.proofs.ezkl.system import circuit_id
from zk_autograd.proofs.ezkl.verify import EzklVerifier
from zk_autograd.proofs.store import VERIFIER_FILES
from zk_autograd.statement import STATEMENTS


def mirrored(case: Case, folder: Path, change: Callable[[str], str]) -> Circuit:
    """The circuit as a mirror hands it out: other bytes of ``settings.json``, the same id."""
    (folder / "circuits").mkdir(parents=True)
    (folder / "srs").symlink_to(case.sound.home.path / "srs")
    target = folder / "circuits" / case.sound.circuit.id.hex()
    shutil.copytree(case.sound.circuit.directory, target)
    settings = target / "settings.json"
    settings.write_text(change(settings.read_text()))
    return proof_system(case.sound.circuit.system).load(case.sound.circuit.id, folder)


@pytest.mark.parametrize("how", ["timestamp", "twice", "spaces"])
def test_a_circuit_whose_id_is_right_and_whose_settings_read_otherwise_is_not_loaded(
    case: Case, tmp_path: Path, how: str
) -> None:
    """The id leaves ``timestamp`` out, and Python takes the last of two equal names: EZKL would refuse good proofs.

    That would be a finding against the run, for a copy that a mirror has spoilt.
    """

    def change(text: str) -> str:
        if how == "timestamp":
            return json.dumps(json.loads(text) | {"timestamp": "x"})
        return text.replace("{", '{"num_rows": 1, ' if how == "twice" else "{ ", 1)

    with pytest.raises(VerificationError, match="not as zk-setup writes it"):
        mirrored(case, tmp_path / "mirror", change)


@pytest.mark.parametrize("name", ["srs", "vk.key", "settings.json"])
def test_a_file_that_the_auditor_loses_is_no_finding_against_the_run(case: Case, name: str) -> None:
    """The verifier's files lie in /dev/shm, which cleaners, quotas and other users' data reach."""
    proof, public = case.story().proofs[1, 0].proof, case.story().step(1).public
    verifier = EzklVerifier(case.sound.circuit)
    verifier.verify(proof, public)
    (verifier._folder / name).write_bytes(b"")
    with pytest.raises(ProofSystemError):
        verifier.verify(proof, public)


def test_a_circuit_that_hides_nothing_does_not_pass_the_check(tmp_path: Path) -> None:
    """``circuit.json`` says how many look-ups are noise, and who hands a job its circuit (its host does) chooses it."""
    home = tmp_path / "home"
    system = proof_system("ezkl-23.0.5")
    srs = system.dev_srs(home, 12)
    circuit = system.set_up(STATEMENTS["sgd"], Profile("leaky", 12, 3, 3), srs, home)
    assert circuit.noise == 3
    loaded = system.load(circuit.id, home)
    for check in (system.check_hiding, system.rebuild_verifying_key):
        with pytest.raises(VerificationError, match="blinds"):
            check(loaded)


def test_the_circuits_of_the_profiles_hide(real_circuit: Callable[[str], Circuit]) -> None:
    circuit = real_circuit("sgd")
    system = proof_system(circuit.system)
    system.check_hiding(circuit)
    with pytest.raises(VerificationError, match="expected at least"):
        system.check_hiding(replace(circuit, noise=circuit.noise - 1))


def test_the_length_of_a_proof_is_what_the_key_says(real_circuit: Callable[[str], Circuit], tmp_path: Path) -> None:
    """With one byte more, EZKL takes any byte there: one proof would have 256 forms."""
    circuit = real_circuit("sgd")
    (tmp_path / "srs").symlink_to(circuit.srs_path.parent)
    (tmp_path / "circuits").mkdir()
    settings, description = (json.loads((circuit.directory / n).read_text()) for n in ("settings.json", "circuit.json"))
    description["proof_bytes"] += 1
    other = circuit_id(description, (circuit.directory / "vk.key").read_bytes(), settings, circuit.srs_id)
    folder = tmp_path / "circuits" / other.hex()
    folder.mkdir()
    for name in VERIFIER_FILES:
        shutil.copyfile(circuit.directory / name, folder / name)
    (folder / "circuit.json").write_text(json.dumps(description))
    with pytest.raises(VerificationError, match="by its key they have"):
        proof_system(circuit.system).load(other, tmp_path)


@pytest.mark.parametrize("columns", [None, "3", 0, 1 << 62])
def test_a_description_without_a_number_of_columns_is_refused_in_words(
    case: Case, tmp_path: Path, columns: object
) -> None:
    own = case.sound.circuit
    description = json.loads((own.directory / "circuit.json").read_text())
    del description["columns"]
    if columns is not None:
        description["columns"] = columns
    settings = json.loads((own.directory / "settings.json").read_text())
    name = circuit_id(description, (own.directory / "vk.key").read_bytes(), settings, own.srs_id)
    target = tmp_path / "circuits" / name.hex()
    target.mkdir(parents=True)
    (tmp_path / "srs").symlink_to(case.sound.home.path / "srs")
    for file in ("settings.json", "vk.key", "srs_id"):
        shutil.copyfile(own.directory / file, target / file)
    (target / "circuit.json").write_text(json.dumps(description))
    system = proof_system(own.system)
    with pytest.raises(ZkAutogradError):
        system.rebuild_verifying_key(system.load(name, tmp_path))


def test_an_srs_that_is_a_pipe_does_not_hang_the_auditor(case: Case, tmp_path: Path) -> None:
    own = case.sound.circuit
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / own.id.hex()).symlink_to(own.directory)
    (tmp_path / "srs").mkdir()
    os.mkfifo(tmp_path / "srs" / own.srs_path.name)
    command = [sys.executable, "-m", "zk_autograd.proofs.setup_cli", "--check", own.id.hex(), "--home", str(tmp_path)]
    try:
        ended = subprocess.run(command, timeout=20, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail("it waits for ever")
    assert ended.returncode == 2


@pytest.mark.parametrize("name", ["settings.json", "circuit.json"])
def test_a_circuits_json_that_takes_gigabytes_to_read_is_not_read(case: Case, tmp_path: Path, name: str) -> None:
    """What: 64 MB of empty lists, in a folder or a bundle of any circuit id. Why: Python's values take 30 times their
    text, 2 GB here, before the id is computed that shows that the file is another. Where: ``Ezkl.load``."""

    def load(size: int) -> None:
        mirror = tmp_path / str(size)
        target = mirror / "circuits" / case.sound.circuit.id.hex()
        shutil.copytree(case.sound.circuit.directory, target, ignore=shutil.ignore_patterns("pk.key"))
        (target / name).write_text('{"a": [' + "[]," * (size // 3) + "[]]}")
        proof_system(case.sound.circuit.system).load(case.sound.circuit.id, mirror)

    with pytest.raises(VerificationError, match=r"its files hash to|not readable"):
        load(30_000)
    with pytest.raises(UsageError, match="at most 1048576 bytes"):
        load(3 << 20)
