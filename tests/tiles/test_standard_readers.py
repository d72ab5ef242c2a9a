"""Any static file server serves the log; Go's tile reader (golang.org/x/mod) proves it, Tessera's fsck checks it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker import free_ports
from tests.support.go_tools import TESSERA, TESSERA_LOG, X_MOD, built, built_source
from tests.tiles.logs import Signer, by_definition, entry
from tests.tiles.serving import when_open
from tiles import open_source
from zk_autograd.errors import StorageError
from zk_autograd.merkle import leaf_hash

SIZE = 70_000


@contextmanager
def python_server(folder: Path) -> Iterator[str]:
    """``python -m http.server`` over a folder."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        when_open(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="module")
def folder(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signer.folder(tmp_path_factory.mktemp("log"), 300, SIZE)


def test_the_log_behind_pythons_web_server_is_sound(signer: Signer, folder: Path) -> None:
    with python_server(folder.parent) as url, open_source(f"{url}/{folder.name}/") as source:
        found = signer.check(source)
    assert (found.entries, found.spares) == (SIZE, None)


def test_a_server_that_is_gone_leaves_the_question_open(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiles.web._PAUSE", 0.0)
    (port,) = free_ports(1)
    with open_source(f"http://127.0.0.1:{port}") as source, pytest.raises(StorageError, match="ConnectionRefusedError"):
        signer.check(source)


@pytest.mark.parametrize("place", ["folder", "server"])
def test_gos_tile_reader_proves_entries_and_prefixes(signer: Signer, folder: Path, place: str) -> None:
    program = built_source(Path(__file__).parent / "reader.go", X_MOD)
    wanted = [0, 1, 255, 256, 299, 300, 65_535, 65_536, SIZE - 1]

    def read(where: str) -> str:
        words = [str(program), where, str(signer.verifier), *map(str, wanted)]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout

    if place == "folder":
        said = read(str(folder))
    else:
        with python_server(folder) as url:
            said = read(url)
    assert said.splitlines() == [f"{i} {leaf_hash(entry(i)).hex()} {entry(i).hex()}" for i in wanted]


def test_gos_tile_reader_refuses_an_altered_tile(signer: Signer, tmp_path: Path) -> None:
    """So the test before can fail."""
    program = built_source(Path(__file__).parent / "reader.go", X_MOD)
    folder = signer.folder(tmp_path, 600)
    tile = folder / "tile/0/001"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    done = subprocess.run([program, folder, str(signer.verifier), "300"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() in ("downloaded inconsistent tile", "invalid transparency proof")


def _tessera_fsck(url: str, key: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "key").write_text(key)
    words = [built(TESSERA), "--storage_url", f"{url}/", "--public_key", folder / "key", "--ui=false", "--N=4"]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_tesseras_checker_finds_the_log_sound_and_an_altered_one_not(
    signer: Signer, folder: Path, tmp_path: Path
) -> None:
    with python_server(folder) as url:
        done = _tessera_fsck(url, str(signer.verifier), tmp_path)
    assert f"Successfully fsck'd log with size {SIZE} " in done.stderr, done.stderr[-2000:]
    bad = signer.folder(tmp_path / "bad", 600)
    tile = bad / "tile/0/001"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    with python_server(bad) as url:
        assert "fsck failed" in _tessera_fsck(url, str(signer.verifier), tmp_path).stderr


def test_a_log_that_tessera_wrote_is_found_sound(signer: Signer, tmp_path: Path) -> None:
    program = built(TESSERA_LOG)
    (tmp_path / "in").mkdir()
    for i in range(600):
        (tmp_path / "in" / f"{i:04}").write_bytes(entry(i))
    private = signer.key._private.private_bytes_raw()
    secret = base64.b64encode(b"\x01" + private).decode()
    words = [program, "--storage_dir", tmp_path / "log", "--entries", f"{tmp_path}/in/*"]
    key = f"PRIVATE+KEY+{signer.origin}+{signer.verifier.key_id.hex()}+{secret}"
    subprocess.run(words, env=os.environ | {"LOG_PRIVATE_KEY": key}, capture_output=True, check=True, timeout=120)
    assert signer.check(open_source(str(tmp_path / "log"))).entries == 600
    for path, data in by_definition(600).items():
        assert (tmp_path / "log" / path).read_bytes() == data
