"""Circuits come from files that anyone may have written: the id is what was found in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl import system
from zk_autograd.proofs.ezkl.system import Ezkl

Homes = Callable[..., Home]


@pytest.fixture
def copied(fresh_home: Homes, real_circuit: Callable[[str], Circuit]) -> tuple[Home, Circuit]:
    """A home with a copy of the circuit for SGD that a test may spoil, and the circuit it copies."""
    home, circuit = fresh_home("sgd"), real_circuit("sgd")
    folder = home.path / "circuits" / circuit.id.hex()
    folder.unlink()
    folder.mkdir()
    for file in circuit.directory.iterdir():
        if file.name == "pk.key":
            (folder / file.name).symlink_to(file)
        else:
            shutil.copyfile(file, folder / file.name)
    srs = home.path / "srs" / circuit.srs_path.name
    srs.unlink()
    shutil.copyfile(circuit.srs_path, srs)
    return home, circuit


def file_of(home: Home, circuit: Circuit, name: str) -> Path:
    if name == "srs":
        return home.path / "srs" / circuit.srs_path.name
    return home.path / "circuits" / circuit.id.hex() / name


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_circuit_is_loaded_by_the_hash_of_its_files(copied: tuple[Home, Circuit]) -> None:
    home, circuit = copied
    loaded = Ezkl().load(circuit.id, home.path)
    assert (loaded.id, loaded.P, loaded.shard) == (circuit.id, circuit.P, circuit.shard)
    assert loaded.srs_class == "DEV"
    assert loaded.can_prove
    file_of(home, circuit, "pk.key").unlink()
    assert not Ezkl().load(circuit.id, home.path).can_prove


@pytest.mark.parametrize("part", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["vk.key", "settings.json", "circuit.json", "srs"])
def test_a_circuit_with_one_changed_byte_is_not_the_circuit(
    copied: tuple[Home, Circuit], name: str, part: float
) -> None:
    home, circuit = copied
    path = file_of(home, circuit, name)
    size = path.stat().st_size
    first = 4 if name == "srs" else 0  # the SRS begins with its size, which another test is about
    at = first + int(part * (size - 1 - first))
    before = content(path)
    flip(path, at)
    if content(path) == before:
        pytest.skip("white space of a JSON file: no part of what it says")
    with pytest.raises(VerificationError, match=circuit.id.hex()):
        Ezkl().load(circuit.id, home.path)


def content(path: Path) -> Any:
    raw = path.read_bytes()
    try:
        return json.loads(raw) if path.suffix == ".json" else raw
    except ValueError:
        return raw


@pytest.mark.parametrize("name", ["vk.key", "settings.json", "srs_id"])
def test_a_circuit_that_lacks_a_file_is_refused_by_name(copied: tuple[Home, Circuit], name: str) -> None:
    home, circuit = copied
    file_of(home, circuit, name).unlink()
    with pytest.raises(VerificationError, match=circuit.id.hex()):
        Ezkl().load(circuit.id, home.path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", "null", "{}", '"x"', "[" * 100_000, '{"logrows": 1e999}', "\ufffd"],
)
@pytest.mark.parametrize("name", ["circuit.json", "settings.json"])
def test_a_circuit_whose_description_is_no_description_is_refused(
    copied: tuple[Home, Circuit], name: str, text: str
) -> None:
    home, circuit = copied
    file_of(home, circuit, name).write_text(text)
    with pytest.raises(VerificationError, match=circuit.id.hex()):
        Ezkl().load(circuit.id, home.path)


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 32, "../" * 20, "ab", "00" * 40])
def test_a_circuit_with_another_srs_id_is_refused(copied: tuple[Home, Circuit], text: str) -> None:
    home, circuit = copied
    file_of(home, circuit, "srs_id").write_text(text)
    with pytest.raises(VerificationError, match=circuit.id.hex()):
        Ezkl().load(circuit.id, home.path)


def rename(home: Home, circuit: Circuit) -> bytes:
    """The id of what the copied folder holds now; the folder is moved to where that id is looked for."""
    folder = home.path / "circuits" / circuit.id.hex()
    description, settings = (json.loads((folder / f"{n}.json").read_text()) for n in ("circuit", "settings"))
    found = system.circuit_id(description, (folder / "vk.key").read_bytes(), settings, circuit.srs_id)
    folder.rename(folder.parent / found.hex())
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"logrows": 10**12},
        {"logrows": -1},
        {"logrows": 14},
        {"shard": 0},
        {"shard": -5},
        {"shard": 10**15},
        {"noise": -1},
        {"noise": 10**9},
        {"proof_bytes": 1 << 40},
        {"proof_bytes": -1},
        {"statement": "no-such-rule"},
        {"statement": ["sgd"]},
        {"shard": None},
        {"shard": "many"},
        {"shard": 1e300},
    ],
    ids=str,
)
def test_a_circuit_that_cannot_be_is_refused_although_its_id_is_right(
    copied: tuple[Home, Circuit], change: dict[str, Any]
) -> None:
    """Who names the id may have made the files: their hash alone says nothing of their sense."""
    home, circuit = copied
    path = file_of(home, circuit, "circuit.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((VerificationError, UsageError)):
        Ezkl().load(rename(home, circuit), home.path)


@pytest.mark.parametrize(
    ("name", "most"), [("circuit.json", 1 << 20), ("settings.json", 1 << 20), ("vk.key", 64 << 20)]
)
def test_a_file_larger_than_any_circuits_is_not_read(copied: tuple[Home, Circuit], name: str, most: int) -> None:
    home, circuit = copied
    with file_of(home, circuit, name).open("r+b") as file:
        file.truncate(most + 1)
    with pytest.raises(UsageError, match=f"expected at most {most} bytes"):
        Ezkl().load(circuit.id, home.path)


@pytest.mark.parametrize(
    "claimed", [bytes(32), b"", b"../../../../etc", b"/", b".", b"\0", bytes(31), bytes(33)], ids=repr
)
def test_a_circuit_that_is_not_there_is_a_usage_error_that_says_what_to_do(fresh_home: Homes, claimed: bytes) -> None:
    """An id only ever becomes a path as hex digits."""
    home = fresh_home()
    with pytest.raises(UsageError, match="make it with zk-setup") as missing:
        Ezkl().load(claimed, home.path)
    assert claimed.hex() in str(missing.value)


def test_a_verifying_key_of_another_graph_does_not_come_out_of_the_statement(
    copied: tuple[Home, Circuit], real_circuit: Callable[[str], Circuit]
) -> None:
    """Its folder is consistent and loads under its own id: only rebuilding tells what the key is of."""
    home, circuit = copied
    shutil.copyfile(real_circuit("momentum").directory / "vk.key", file_of(home, circuit, "vk.key"))
    forged = Ezkl().load(rename(home, circuit), home.path)
    assert forged.id != circuit.id
    with pytest.raises(VerificationError, match=f"{forged.id.hex()}: rebuilding .* gives {circuit.id.hex()}"):
        Ezkl().rebuild_verifying_key(forged)
