"""Roles as real processes through their installed commands: started, killed, restarted, and ended at a test's end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zk_autograd.home import Home

COMMANDS = Path(sys.executable).parent
"""Where the project's commands are installed: beside the interpreter that runs the tests."""

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Service:
    """One process of the pipeline; what it prints goes to ``output``, over all its lives."""

    name: str
    words: list[str]
    output: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    def start(self) -> None:
        assert self.process is None or self.process.poll() is not None, f"{self.name} still runs"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=self.environment, cwd=REPOSITORY
            )

    def kill(self) -> bool:
        """SIGKILL, and wait until it is gone; whether it was still running."""
        assert self.process is not None
        if self.process.poll() is not None:
            return False
        self.process.kill()
        self.process.wait()
        self.kills += 1
        return True

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll() if self.process else None

    @property
    def printed(self) -> str:
        """Everything it printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


@dataclass
class Crew:
    """The processes of one test, over one home and one event log."""

    home: Home
    url: str
    folder: Path
    services: dict[str, Service] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return os.environ | {"ZK_HOME": str(self.home.path), "PYTHONUNBUFFERED": "1"}

    def add(self, name: str, *words: str) -> Service:
        """Starts ``words``; a word that begins with ``zk-`` is an installed command."""
        full = [str(COMMANDS / words[0]) if words[0].startswith("zk-") else words[0], *words[1:]]
        service = Service(name, full, self.folder / f"{name}.out", self.environment())
        self.services[name] = service
        service.start()
        return service

    def ledger(self) -> Service:
        return self.add("ledger", "zk-ledger", "--log", self.url)

    def anchor(self) -> Service:
        return self.add("anchor", "zk-anchor", "--log", self.url, "--anchor", self.anchor_uri)

    def prover(self, name: str) -> Service:
        return self.add(f"prover-{name}", "zk-prove", "--log", self.url, "--name", name)

    def provers(self, name: str, count: int) -> Service:
        """Several in one command."""
        words = ["--log", self.url, "--name", name, "--workers", str(count)]
        return self.add(f"provers-{name}", "zk-prove", *words)

    def trainer(self, circuit: str, steps: int, shards: int, *more: str) -> Service:
        """The numpy trainer, under the run name ``run``."""
        words = ["--home", str(self.home.path), "--log", self.url, "--circuit", circuit, "--run-name", "run"]
        words += ["--steps", str(steps), "--shards", str(shards), *more]
        return self.add("trainer", sys.executable, "-m", "tests.pipeline.trainer", *words)

    @property
    def anchor_uri(self) -> str:
        return f"file:{self.folder}/anchor"

    def ended_early(self) -> list[str]:
        """What ended by itself with an error, and its last words."""
        return [
            f"{s.name} ended with exit code {s.exit_code}:\n{_tail(s.printed)}"
            for s in self.services.values()
            if s.exit_code not in (None, 0)
        ]

    @property
    def ready(self) -> bool:
        """Whether every service has said that it is at work."""
        return all(service.printed for service in self.services.values())

    def last_words(self) -> str:
        """The end of every process's output, for a test that waited in vain."""
        return "\n".join(f"--- {s.name}\n{_tail(s.printed)}" for s in self.services.values())

    def audit(self, run_id: str) -> tuple[int, dict[str, Any]]:
        """``zk-audit --json`` as an auditor runs it: exit code and report."""
        words = ["--log", self.url, "--run", run_id, "--policy", str(self.home.policy_path)]
        words += ["--anchor", self.anchor_uri, "--home", str(self.home.path), "--json"]
        done = subprocess.run(
            [COMMANDS / "zk-audit", *words], capture_output=True, text=True, timeout=300, env=self.environment()
        )
        assert done.stdout, f"zk-audit printed no report (exit code {done.returncode}): {done.stderr}"
        report: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, report


@contextlib.contextmanager
def crew(home: Home, url: str, folder: Path) -> Iterator[Crew]:
    """A crew whose processes end with the block."""
    made = Crew(home, url, folder)
    try:
        yield made
    finally:
        for service in made.services.values():
            if service.process is not None and service.process.poll() is None:
                service.process.send_signal(signal.SIGCONT)
                service.process.kill()
                service.process.wait()


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])
