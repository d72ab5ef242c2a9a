"""Peers that are Go programs: built with ``go install`` at a pinned version, kept in ``.bench``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TESSERA = "github.com/transparency-dev/tessera/cmd/examples/posix-oneshot@v1.0.4"
"""Apache License 2.0."""
FOLDER = Path(__file__).parent.parent / ".bench" / "go"


def go_program(package: str) -> Path | None:
    """The program, built if it is not there yet; None if it cannot be."""
    path, version = package.split("@")
    name = path.rsplit("/", 1)[1]
    program = FOLDER / f"{name}-{version}"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [go, "install", package], env=os.environ | {"GOBIN": str(FOLDER)}, capture_output=True, timeout=900
    )
    if done.returncode:
        return None
    os.replace(FOLDER / name, program)
    return program
