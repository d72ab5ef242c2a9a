"""Other people's implementations in Go, built when first needed; skipped, with the reason, where that cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_SOURCE = Path(__file__).resolve().parents[1] / "go"
_NOT_FETCHED = (
    "dial tcp", "no such host", "i/o timeout", "Forbidden", "module lookup disabled", "connection refused",
    "TLS handshake", "unexpected EOF", "toolchain not available", "running go ",
)  # fmt: skip
BUILD_SECONDS = 420


def _go(words: list[str], folder: Path, **environment: str) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go on this machine")
    settings = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            [go, *words], cwd=folder, env=settings | environment, capture_output=True, text=True, timeout=BUILD_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"go {words[0]} took more than {BUILD_SECONDS} seconds")
    if done.returncode:
        if any(sign in done.stderr for sign in _NOT_FETCHED):
            pytest.skip(f"go {words[0]}: modules could not be fetched, or Go is too old")
        pytest.fail(f"go {' '.join(words)}: {done.stderr[-2000:]}")


def crosscheck(folder: Path) -> Path:
    """The program of ``tests/go``, built in ``folder``."""
    shutil.copytree(_SOURCE, folder, dirs_exist_ok=True)
    _go(["build", "-o", "crosscheck", "."], folder)
    return folder / "crosscheck"


def litewitness(folder: Path) -> Path:
    """torchwood's litewitness, a witness that people run, built in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    _go(["install", "filippo.io/torchwood/cmd/litewitness@v0.8.0"], folder, GOFLAGS="", GOBIN=str(folder))
    return folder / "litewitness"


def short_folder() -> Path:
    """A folder of one's own with a short path: a socket's has at most about 100 bytes."""
    return Path(tempfile.mkdtemp(prefix="zk-"))
