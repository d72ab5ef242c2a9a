"""Starts :mod:`zk_autograd.proofs.ezkl.child` and watches over it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from zk_autograd.errors import ProofSystemError
from zk_autograd.proofs.base import Limits

_CAUSES = "; if memory is not short, a file of the circuit's folder may be damaged: zk-setup makes it again"
_MEMORY_FOLDERS = ("/dev/shm", "/run/shm")  # noqa: S108 - looked up, used only where it is a tmpfs we may write to


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder of mode 0700 for secrets in passing: in memory where the system has a tmpfs, else in the temp folder."""
    parent = next((p for p in _MEMORY_FOLDERS if os.access(p, os.W_OK)), None)
    with tempfile.TemporaryDirectory(prefix=f"zk-{os.getpid()}-", dir=parent) as name:
        yield Path(name)


def run_child(
    job: dict[str, Any], limits: Limits, tick: Callable[[], None] = lambda: None, *, secret: bool
) -> dict[str, Any]:
    """Runs one job and returns the child's answer.

    Args:
        secret: the job handles a witness: nothing the child prints is kept.
    Raises:
        ProofSystemError: time or memory ran out, or EZKL failed.
    """
    with tempfile.TemporaryDirectory(prefix="zk-cache-") as cache, tempfile.TemporaryFile() as err:
        env = {k: v for k, v in os.environ.items() if not k.startswith("EZKL_")} | {"EZKL_REPO_PATH": cache}
        child = subprocess.Popen(
            # -P: a file in the current folder must not stand in for a library.
            [sys.executable, "-P", "-m", "zk_autograd.proofs.ezkl.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if secret else err, env=env,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended already: its status says how
                child.stdin.write(json.dumps(job | {"memory": limits.memory, "parent": os.getpid()}).encode())
                child.stdin.close()
            deadline = time.monotonic() + limits.seconds
            while child.poll() is None:
                if time.monotonic() > deadline:
                    raise ProofSystemError(
                        f"ezkl {job['verb']}: took longer than the limit of {limits.seconds:g} s; stopped"
                    )
                tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=0.25)
            answer = child.stdout.read(65536)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if child.returncode != 0:
            raise ProofSystemError(
                f"ezkl {job['verb']}: the child ended with status {child.returncode} "
                f"({_memory(limits.memory)}){_CAUSES if secret else _last_line(err)}"
            )
        result: dict[str, Any] = json.loads(answer)
        return result


def _memory(limit: int) -> str:
    return f"its memory limit was {limit / 2**30:.2f} GiB" if limit else "no memory limit"


def _last_line(err: IO[bytes]) -> str:
    """The last line that the child printed, for jobs without secrets."""
    end = err.seek(0, os.SEEK_END)
    err.seek(max(0, end - 600))
    lines = err.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
