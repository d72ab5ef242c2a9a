"""Programs that tests build from Go modules, at pinned versions; skipped with the reason where there is no Go."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
"""An S3 server over a folder (Apache License 2.0)."""
TESSERA = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"
"""Tessera's checker of tiled logs, and (below) its example of a log on a disk (Apache License 2.0)."""
TESSERA_LOG = "github.com/transparency-dev/tessera/cmd/examples/posix-oneshot@v1.0.4"
X_MOD = "golang.org/x/mod@v0.30.0"
"""Go's own reader of tiled logs (BSD licence)."""

MLDSA = "filippo.io/mldsa@v1.0.0"
"""ML-DSA of Go's own cryptographic module (BSD licence)."""

_SECONDS = 400


def _folder() -> Path:
    found = Path(os.environ.get("ZK_TEST_GO", REPOSITORY / ".pytest_cache" / "zk-go"))
    found.mkdir(parents=True, exist_ok=True)
    return found


def _go(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            ["go", *words], capture_output=True, text=True, timeout=_SECONDS, cwd=cwd, env=os.environ | (env or {})
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"go {' '.join(words[:2])} took more than {_SECONDS} seconds")
    if done.returncode:
        pytest.skip(f"go {' '.join(words[:2])} does not work here: {done.stderr.strip()[-300:]}")


def built(program: str) -> Path:
    """The program that ``go install`` makes of a module's package; made once and kept."""
    name = program.split("@")[0].rsplit("/", 1)[1]
    path = _folder() / "bin" / f"{name}-{program.rsplit('@', 1)[1]}"
    if path.exists():
        return path
    if not shutil.which("go"):
        pytest.skip(f"no go on the PATH to build {name} with")
    with (_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _go("install", program, env={"GOBIN": str(_folder() / "new")})
            path.parent.mkdir(exist_ok=True)
            os.replace(_folder() / "new" / name, path)
    return path


def built_source(source: Path, module: str) -> Path:
    """A program of one Go file that needs one module; made anew when the file changes."""
    path = _folder() / "bin" / source.stem
    if not shutil.which("go"):
        pytest.skip(f"no go on the PATH to build {source.name} with")
    with (_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
            folder = _folder() / f"src-{source.stem}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            shutil.copy(source, folder / "main.go")
            _go("mod", "init", "example.test/reader", cwd=folder)
            _go("get", module, cwd=folder)
            path.parent.mkdir(exist_ok=True)
            _go("build", "-o", str(path), ".", cwd=folder)
    return path
