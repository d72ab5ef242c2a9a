"""``zk-prove --workers N``: N provers, each a process of its own and a member of the same consumer group.

They are this very command, started without ``--workers``. What they print is passed on. The first that ends with an
error ends the others, and its last words are the command's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

from zk_autograd.errors import UsageError

_PATIENCE = 20.0
"""Seconds that a worker has to end by itself once it was told to."""


def run_crew(words: Sequence[Sequence[str]], threads: int) -> int:
    """Runs one worker for each element of ``words``, its command line; returns when all have ended.

    Args:
        threads: that each worker's proofs may use, unless ``RAYON_NUM_THREADS`` is set.
    Raises:
        UsageError: one ended with an error.
    """
    environment = {"RAYON_NUM_THREADS": str(threads)} | os.environ | {"PYTHONUNBUFFERED": "1"}
    members: list[_Member] = []
    try:
        for number, arguments in enumerate(words, 1):
            members.append(_Member(number, arguments, environment))
        while running := [m for m in members if m.process.poll() is None]:
            _check(members)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[0].process.wait(timeout=0.25)
        _check(members)
        return 0
    finally:
        _end(members)


def _check(members: list[_Member]) -> None:
    for member in members:
        if member.process.poll():
            member.join()
            raise UsageError(f"worker {member.number} ended: {member.last or f'status {member.process.returncode}'}")


def _end(members: list[_Member]) -> None:
    for member in members:
        member.process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for member in members:
        try:
            member.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()
        member.join()


class _Member:
    """One worker and the two threads that pass on what it prints."""

    def __init__(self, number: int, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self.number, self.last = number, ""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "consumers.prover.cli", *arguments, "--worker-of", str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )  # fmt: skip
        pipes = ((self.process.stdout, sys.stdout, ""), (self.process.stderr, sys.stderr, f"[{number}] "))
        self._threads = [threading.Thread(target=self._pass_on, args=pipe, daemon=True) for pipe in pipes]
        for thread in self._threads:
            thread.start()

    def _pass_on(self, source: IO[bytes], target: IO[str], prefix: str) -> None:
        for line in _lines(source):
            if target is sys.stderr:
                self.last = line.removeprefix("zk-prove: ")
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more
                target.write(f"{prefix}{line}\n")
                target.flush()

    def join(self) -> None:
        """Waits until everything that the ended worker printed is passed on."""
        for thread in self._threads:
            thread.join(5)


def _lines(source: IO[bytes]) -> Iterator[str]:
    with source:
        for line in source:
            yield line.decode(errors="replace").rstrip("\n")
