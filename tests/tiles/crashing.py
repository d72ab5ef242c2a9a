"""Kills the tile writer, and lets its system calls fail, at every one of them; then looks at what is published.

``python -m tests.tiles.crashing`` does all of it and prints the table of docs/crash-safety.md. It needs strace, and a
system that lets a process trace its own child.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tiles.crash_writer import MARK, signer
from tests.tiles.logs import files
from tiles.directory import DirectorySource

BEFORE, SIZES = 200, (250, 256, 300, 520)
"""What is there, and the checkpoints that the writer adds: one that fills a bundle, one more, one of two bundles."""
SEED = "17" * 32
CALLS = {
    "openat": "openat", "read": "read", "write": "write", "fsync": "fsync", "close": "close", "rename": "rename",
    "mkdir": "mkdir", "newfstatat": "stat", "getdents64": "list a folder", "unlink": "unlink", "rmdir": "rmdir",
    "flock": "lock",
}  # fmt: skip
"""The system calls of the writer that touch files, and what they are for."""
FILLING = ("openat", "write", "fsync", "rename", "mkdir")
"""Those that a full disk lets fail."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Injection:
    """What happens at the ``number``-th call."""

    call: str
    number: int
    what: str

    @property
    def rule(self) -> str:
        happens = "signal=SIGKILL" if self.what == "SIGKILL" else f"error={self.what}"
        return f"inject={self.call}:{happens}:when={self.number}"

    def __str__(self) -> str:
        return f"{self.what} at {self.call} {self.number}"


def why_not() -> str | None:
    """Why strace cannot be used here, or None."""
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, timeout=60)
    return f"strace may not trace here: {done.stderr.strip()[-200:]}" if done.returncode else None


def _writer(folder: Path, sizes: Sequence[int], *before: str) -> subprocess.CompletedProcess[str]:
    words = [*before, sys.executable, "-m", "tests.tiles.crash_writer", str(folder), SEED, *map(str, sizes)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)


class Crashes:
    """Runs of the writer in one folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._work, self._start = folder / "work", folder / "start"
        signer(SEED).folder(self._start, BEFORE)
        reference = folder / "reference"
        shutil.copytree(self._start, reference)
        assert _writer(reference, SIZES).returncode == 0
        self._reference = files(reference)
        self._trace = folder / "trace"

    def counted(self) -> dict[str, range]:
        """Per system call, which of the whole process's are the writer's."""
        self._fresh()
        calls = ",".join(CALLS)
        done = _writer(self._work, SIZES, "strace", "-f", "-o", str(self._trace), "-e", f"trace={calls}")
        assert done.returncode == 0, done.stderr
        seen: Counter[str] = Counter()
        first: dict[str, int] = {}
        marks = 0
        for line in self._trace.read_text().splitlines():
            match = re.match(r"\d+ +(\w+)\((.*)", line)
            if not match:
                continue
            if MARK in match[2]:
                marks += 1
                if marks == 1:
                    seen[match[1]] += 1
                    first = {call: seen[call] + 1 for call in CALLS}
                    continue
                break
            seen[match[1]] += 1
        return {call: range(first[call], seen[call] + 1) for call in CALLS}

    def injections(self) -> Iterator[Injection]:
        """One for each call of the writer and each thing that can happen there."""
        for call, numbers in self.counted().items():
            for what in ("SIGKILL", "EIO", "ENOSPC"):
                if what != "ENOSPC" or call in FILLING:
                    yield from (Injection(call, number, what) for number in numbers)

    def _fresh(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(self._start, self._work)

    def try_one(self, injection: Injection) -> bool:
        """What is published afterwards is sound, and nothing that was said to be published is gone.

        Returns:
            Whether the writer noticed: it was killed, or ended with an error.
        """
        self._fresh()
        done = _writer(self._work, SIZES, "strace", "-f", "-qq", "-o", os.devnull, "-e", injection.rule)
        said = [int(line) for line in done.stdout.split()]
        with_log = signer(SEED)
        # 1. the checkpoint that is there has its data: every entry, each once, in order
        found = with_log.check(DirectorySource(self._work))
        # 2. it is one that was issued, and none that was said to be published is lost
        assert found.head.size in (BEFORE, *SIZES), injection
        assert found.head.size >= max([BEFORE, *said]), injection
        # 3. whoever goes on comes to the same files, to the byte
        again = _writer(self._work, SIZES)
        assert again.returncode == 0, f"{injection}: {again.stderr}"
        assert files(self._work) == self._reference, injection
        assert with_log.check(DirectorySource(self._work)).entries == SIZES[-1], injection
        assert not list((self._work / ".tmp").iterdir()), injection
        return done.returncode != 0


def main() -> int:
    """Every injection; prints the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    tried: Counter[tuple[str, str]] = Counter()
    noticed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        crashes = Crashes(Path(name))
        todo = list(crashes.injections())
        for number, injection in enumerate(todo):
            noticed[injection.what] += crashes.try_one(injection)
            tried[injection.call, injection.what] += 1
            if not number % 100:
                print(f"{number} of {len(todo)}", file=sys.stderr, flush=True)
    print("| system call | SIGKILL | EIO | ENOSPC |\n|---|---|---|---|")
    for call, what in CALLS.items():
        cells = [str(tried[call, w] or "") for w in ("SIGKILL", "EIO", "ENOSPC")]
        print(f"| `{call}` ({what}) | {' | '.join(cells)} |" if call != what else f"| `{call}` | {' | '.join(cells)} |")
    sums = {w: sum(n for (_, x), n in tried.items() if x == w) for w in ("SIGKILL", "EIO", "ENOSPC")}
    print("| all | " + " | ".join(str(n) for n in sums.values()) + " |")
    print("| ended by it | " + " | ".join(str(noticed[w]) for w in sums) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
