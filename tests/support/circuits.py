"""Circuits for tests: real ones, made once and kept between runs, and small ones for the mock prover.

* ``circuit_home``: a :class:`~zk_autograd.home.Home` with real circuits, one of each kind (profile ``small``), an
  opted-in policy and simulated evidence. Shared by the whole session: read it, change nothing in it.
* ``real_circuit("adam")``: one of these circuits, loaded.
* ``fresh_home("adam", ...)``: a home of the test's own with these circuits, its own keys and its own policy.
* ``mock_circuit("adam")``: a circuit of few parameters and no keys, for ``Ezkl().satisfied``; takes half a second.

Making a real circuit takes about 25 s, so they are kept in ``$ZK_TEST_HOME`` (default ``.pytest_cache/zk-home``) in
a folder named by a hash of the sources that shape them: a changed graph never meets an old circuit. A lock file lets
several pytest processes share the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import zk_autograd
from zk_autograd.home import Home
from zk_autograd.proofs import DEFAULT_SYSTEM, proof_system
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl.system import Ezkl, _circuit
from zk_autograd.proofs.store import make_circuit
from zk_autograd.statement import STATEMENTS

PROFILE = "small"

KINDS = ("adam", "momentum", "sgd")
REAL = [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in sorted(STATEMENTS)]
"""Optimizers for tests with real circuits: one of each kind, and the rest in the slow suite, as keys take long."""
_KEPT = 2  # caches of other sources that are kept, for who goes back and forth between two branches


def source_key() -> str:
    """Hash of every source file from which a circuit follows, and of EZKL's version."""
    folder = Path(zk_autograd.__file__).parent
    files = [folder / "field.py", folder / "fixed_point.py"]
    files += sorted((folder / "statement").rglob("*.py")) + sorted((folder / "proofs").rglob("*.py"))
    digest = hashlib.sha256(importlib.metadata.version("ezkl").encode())
    for file in files:
        digest.update(f"\0{file.relative_to(folder)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:24]


@contextlib.contextmanager
def _lock(path: Path, kind: int) -> Iterator[None]:
    """Holds a lock that the system drops with its process; BlockingIOError if ``kind`` says not to wait."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


class CircuitCache:
    """Circuits under one key; ``path`` is a home."""

    def __init__(self, root: Path) -> None:
        self.path = root / source_key()
        self.path.mkdir(parents=True, exist_ok=True)
        (root / ".gitignore").write_text("*\n")
        self._index = self.path / "index.json"

    def circuit(self, name: str) -> Circuit:
        """The circuit for optimizer ``name``, made if it is not there yet."""
        with _lock(self.path / "lock", fcntl.LOCK_EX):
            index: dict[str, str] = json.loads(self._index.read_text()) if self._index.exists() else {}
            if name not in index:
                made = make_circuit(Home(self.path), name, PROFILE, None, True, lambda _: None)
                index[name] = made.id.hex()
                fresh = self._index.with_suffix(".new")
                fresh.write_text(json.dumps(index))
                fresh.replace(self._index)
        return proof_system(DEFAULT_SYSTEM).load(bytes.fromhex(index[name]), self.path)

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from clearing this cache away."""
        return _lock(self.path / "in-use", fcntl.LOCK_SH)

    def clear_others(self) -> None:
        """Deletes caches of other sources that no process uses, but for the newest few: they are large."""
        folders = [p for p in self.path.parent.iterdir() if p != self.path and (p / "in-use").exists()]
        folders.sort(key=lambda p: (p / "in-use").stat().st_mtime, reverse=True)
        for folder in folders[_KEPT:]:
            with contextlib.suppress(BlockingIOError), _lock(folder / "in-use", fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def circuit_cache(pytestconfig: pytest.Config) -> Iterator[CircuitCache]:
    """Where the session's real circuits are; nothing is made yet."""
    root = os.environ.get("ZK_TEST_HOME") or pytestconfig.rootpath / ".pytest_cache" / "zk-home"
    cache = CircuitCache(Path(root).absolute())
    with cache.in_use():
        os.utime(cache.path / "in-use")
        cache.clear_others()
        yield cache


@pytest.fixture(scope="session")
def real_circuit(circuit_cache: CircuitCache) -> Callable[[str], Circuit]:
    """A real circuit by its optimizer's name, with proving key and verifying key."""
    return cache(circuit_cache.circuit)


@pytest.fixture(scope="session")
def circuit_home(circuit_cache: CircuitCache, real_circuit: Callable[[str], Circuit]) -> Home:
    """The home that holds the real circuits."""
    for name in KINDS:
        real_circuit(name)
    return Home(circuit_cache.path)


@pytest.fixture
def fresh_home(tmp_path_factory: pytest.TempPathFactory, real_circuit: Callable[[str], Circuit]) -> Callable[..., Home]:
    """Makes homes with the real circuits of the optimizers named, and keys and a policy of their own."""

    def make(*names: str) -> Home:
        home = Home(tmp_path_factory.mktemp("home"))
        home.opt_in_to_simulation()
        for folder in ("circuits", "srs"):
            (home.path / folder).mkdir()
        for name in names:
            circuit = real_circuit(name)
            (home.path / "circuits" / circuit.directory.name).symlink_to(circuit.directory)
            srs = home.path / "srs" / circuit.srs_path.name
            if not srs.exists():
                srs.symlink_to(circuit.srs_path)
            home.allow_circuit(circuit.id)
        return home

    return make


@pytest.fixture(scope="session")
def mock_circuit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Circuit]:
    """Circuits that the mock prover takes: the real graph and a tight table, few parameters, no keys."""

    @cache
    def make(name: str, logrows: int = 12, shard: int = 56, noise: int = 16) -> Circuit:
        return without_keys(name, tmp_path_factory.mktemp(f"mock-{name}"), logrows, shard, noise)

    return make


def without_keys(name: str, folder: Path, logrows: int, shard: int, noise: int) -> Circuit:
    """A circuit compiled into ``folder``, with three inner columns, for the mock prover."""
    Ezkl()._compile(STATEMENTS[name], 2**logrows - 8, 3, shard, noise, folder)
    description = {"statement": name, "logrows": logrows, "shard": shard, "noise": noise, "proof_bytes": 0}
    return _circuit(bytes(32), description, bytes(32), "DEV", folder, folder / "none.srs")
