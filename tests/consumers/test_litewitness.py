"""The ledger's side of the protocol against a witness that people run: torchwood's litewitness, on loopback."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from consumers.ledger.witnesses import Cosigners
from ledger import Tree
from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import verify_quorum
from tests.consumers.test_witnesses import ORIGIN, TREE, VKEY, Said, checkpoint
from tests.support.golang import litewitness, short_folder
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Witnesses

NAME = "witness.example/lite"


@dataclass
class Running:
    key: WitnessKey
    url: str


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait(what: str, process: subprocess.Popen[bytes], ready: Path | int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert process.poll() is None, f"{what} ended at once"
        if isinstance(ready, Path) and ready.exists():
            return
        if isinstance(ready, int):
            with suppress(OSError), socket.create_connection(("127.0.0.1", ready), timeout=1):
                return
        time.sleep(0.05)
    pytest.fail(f"{what} is not ready after 20 seconds")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("ssh-agent", "ssh-add"):
        if shutil.which(tool) is None:
            pytest.skip(f"litewitness signs with {tool}, which is not on this machine")
    return litewitness(tmp_path_factory.mktemp("litewitness"))


@pytest.fixture
def running(binary: Path) -> Iterator[Running]:
    """litewitness with a key in an agent of its own, that knows the log of the tests."""
    folder, port, key = short_folder(), _free_port(), Ed25519PrivateKey.generate()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (folder / "key").chmod(0o600)
        agent = folder / "a"
        processes.append(subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL))
        _wait("ssh-agent", processes[-1], agent)
        add = ["ssh-add", "-q", folder / "key"]
        subprocess.run(add, env=os.environ | {"SSH_AUTH_SOCK": str(agent)}, check=True, timeout=20)
        public = key.public_key()
        blob = base64.b64decode(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
        fingerprint = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        words = [
            binary, f"-db={folder}/w.db", f"-name={NAME}", f"-key=SHA256:{fingerprint}", f"-ssh-agent={agent}",
            f"-listen=127.0.0.1:{port}",
        ]  # fmt: skip
        processes.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait("litewitness", processes[-1], port)
        with closing(sqlite3.connect(folder / "w.db", timeout=10)) as db, db:
            empty = base64.b64encode(hashlib.sha256().digest()).decode()
            db.execute("INSERT INTO log VALUES (?, 0, ?)", (ORIGIN, empty))
            db.execute("INSERT INTO key VALUES (?, ?)", (ORIGIN, str(VKEY)))
        yield Running(WitnessKey(NAME, public.public_bytes_raw()), f"http://127.0.0.1:{port}")
    finally:
        for process in reversed(processes):
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def test_litewitness_cosigns_as_the_log_grows_and_over_restarts(running: Running) -> None:
    said = Said()
    for sizes in ((1, 2, 13), (13, 14), (40,)):
        mine = _asking(running, said)
        for size in sizes:
            note = mine.cosign(checkpoint(size), TREE)
            assert note is not None, said.lines
            assert set(verify_quorum(parse_checkpoint(note), [running.key], 1)) == {running.key}
    assert said.lines == []


def test_litewitness_refuses_a_split_view_and_a_log_that_went_back(running: Running) -> None:
    said = Said()
    assert _asking(running, said).cosign(checkpoint(20), TREE) is not None
    forked = Tree([b"another", *(b"entry %d" % i for i in range(1, 40))])
    for size in (20, 21, 40):
        assert _asking(running, said).cosign(checkpoint(size, forked), forked) is None
    assert all("different histories" in line for line in said.lines)
    assert len(said.lines) == 3
    assert _asking(running, said).cosign(checkpoint(19), TREE) is None
    assert "holds a tree of 20 entries, this ledger signed one of 19: the ledger was rolled back" in said.lines[3]
    assert _asking(running, said).cosign(checkpoint(21), TREE) is not None, "the true history goes on"


def _asking(running: Running, said: Said) -> Cosigners:
    """A ledger that has just been started."""
    return Cosigners(Witnesses(1, {running.key: running.url}), said)  # type: ignore[arg-type]
