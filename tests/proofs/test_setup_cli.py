"""``zk-setup`` from the command line: what it refuses, and what it says of a circuit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.setup_cli import main
from zk_autograd.proofs.store import CircuitStore, find_circuit


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line in which the command refuses."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("zk-setup: ")
    assert err.count("\n") == 1
    return err


def test_without_an_srs_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give the public ceremony's file with --srs FILE, or --dev" in refusal(capsys, "--home", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_srs_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.srs")
    assert missing in refusal(capsys, "--home", str(tmp_path), "--srs", missing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("claimed", ["", "ab", "zz" * 32, "ab" * 31, "ab" * 33, "../../circuits", "ab" * 31 + "  "])
def test_what_is_no_circuit_id_is_not_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], claimed: str
) -> None:
    said = refusal(capsys, "--home", str(tmp_path), "--check", claimed)
    assert "expected a circuit id of 64 hex digits" in said


def test_a_circuit_that_is_not_there_cannot_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"no circuit {'ab' * 32}" in refusal(capsys, "--home", str(tmp_path), "--check", "ab" * 32)


@pytest.mark.parametrize("arguments", [["--optimizer", "lion"], ["--profile", "huge"], ["--chek", "x"], ["adam"]])
def test_what_the_command_line_does_not_know_ends_with_its_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: zk-setup" in capsys.readouterr().err


def test_checking_a_circuit_rebuilds_it_and_says_what_it_is(
    circuit_home: Home, real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    circuit = real_circuit("sgd")
    assert main(["--home", str(circuit_home.path), "--check", circuit.id.hex(), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rebuilt"] is True
    assert (facts["circuit_id"], facts["optimizer"], facts["shard"]) == (circuit.id.hex(), "sgd", circuit.shard)
    assert facts["srs_class"] == "DEV"


def test_a_home_finds_its_circuit_for_a_job(circuit_home: Home, real_circuit: Callable[[str], Circuit]) -> None:
    for name in ("adam", "sgd", "momentum"):
        assert find_circuit(circuit_home, name, "small") == real_circuit(name)
        assert find_circuit(circuit_home, name, "default") is None
        assert find_circuit(circuit_home, name, "small", real_circuit(name).id) == real_circuit(name)
        assert find_circuit(circuit_home, name, "small", bytes(32)) is None


def test_a_home_finds_the_newest_circuit(
    fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit]
) -> None:
    """One of an earlier version, which may not even load any more, is not in the way."""
    home = fresh_home("sgd")
    for identity, age in ((bytes(32), 1e9), (b"\xff" * 32, 2e9)):
        home.allow_circuit(identity)
        folder = home.path / "circuits" / identity.hex()
        folder.mkdir()
        os.utime(folder, (age, min(age, real_circuit("sgd").directory.stat().st_mtime - 1)))
    found = find_circuit(home, "sgd", "small")
    assert found is not None
    assert found.id == real_circuit("sgd").id


def test_a_store_gives_only_circuits_that_the_policy_allows(
    circuit_home: Home, real_circuit: Callable[[str], Circuit]
) -> None:
    adam, sgd = real_circuit("adam"), real_circuit("sgd")
    store = CircuitStore(circuit_home.path, frozenset({adam.id, bytes(32)}))
    assert store(adam.id) == adam
    with pytest.raises(VerificationError, match="not one that the policy allows"):
        store(sgd.id)
    with pytest.raises(UsageError, match="no circuit"):
        store(bytes(32))
    assert CircuitStore(circuit_home.path, None)(sgd.id) == sgd


def test_what_is_exported_for_an_auditor_verifies_and_does_not_prove(
    circuit_home: Home, real_circuit: Callable[[str], Circuit], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circuit = real_circuit("sgd")
    assert main(["--home", str(circuit_home.path), "--export", circuit.id.hex(), str(tmp_path / "auditor")]) == 0
    capsys.readouterr()
    copied = CircuitStore(tmp_path / "auditor", None)(circuit.id)
    assert (copied.id, copied.srs_id, copied.can_prove) == (circuit.id, circuit.srs_id, False)
    assert sum(p.stat().st_size for p in (tmp_path / "auditor").rglob("*")) < 6_000_000
