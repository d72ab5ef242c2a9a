"""For the scripts beside it: commands and services of one home, each a process of its own, their lines passed on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    """A heading."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


class Roles:
    """The commands of a home.

    Args:
        folder: the home.
        log: options that name the event log; none for the home's own.
    """

    def __init__(self, folder: Path, *log: str) -> None:
        self.folder, self.log = folder, log
        self._environment = os.environ | {"ZK_HOME": str(folder), "PYTHONUNBUFFERED": "1"}

    def run(self, *words: str, expect: int = 0) -> None:
        """Runs a command to its end; ends the script if its exit code is not ``expect``."""
        print("$ " + " ".join(words), flush=True)
        done = subprocess.run(self._command(words), env=self._environment)
        if done.returncode != expect:
            sys.exit(f"{words[0]} ended with exit code {done.returncode}, expected {expect}")

    def lines(self, *words: str) -> Iterator[dict[str, Any]]:
        """Runs a command with --json and gives its lines as they come."""
        words = (*words, *self.log, "--json")
        print("$ " + " ".join(words), flush=True)
        process = subprocess.Popen(self._command(words), env=self._environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        if process.wait() != 0:
            sys.exit(f"{words[0]} failed")

    @contextlib.contextmanager
    def service(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Runs a command as long as the block does."""
        words = (*words, *self.log)
        print("$ " + " ".join(words) + " &", flush=True)
        process = subprocess.Popen(self._command(words), env=self._environment, stderr=subprocess.PIPE, text=True)

        def forward() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                print(f"  {words[0]:<10}| {line.rstrip()}", flush=True)

        thread = threading.Thread(target=forward)
        thread.start()
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)
            thread.join()

    @staticmethod
    def _command(words: tuple[str, ...]) -> list[str]:
        return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def wait_for(done: Callable[[], bool], services: list[subprocess.Popen[str]], seconds: float) -> None:
    """Waits until ``done``; ends the script if a service ends before, or after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        for process in services:
            if process.poll() is not None:
                sys.exit(f"a service ended early with exit code {process.returncode}")
        if done():
            return
    sys.exit(f"not done within {seconds:g} s")


def is_anchored(url: str, run_id: str) -> bool:
    """Whether the run's closing entry is in the log and an anchor covers it."""
    from schemas.events import Anchored, RunClosed
    from schemas.signing import decode_unverified
    from schemas.wire import open_event_log

    with open_event_log(url, create=False) as log:
        closed, anchored = 0, 0
        with log.reader(["ledger"]) as reader:
            for number, record in enumerate(reader.read_to_end(), start=1):
                event = decode_unverified("ledger", record.value).event
                if isinstance(event, RunClosed) and event.run_id.hex() == run_id:
                    closed = number
        with log.reader(["anchors"]) as reader:
            for record in reader.read_to_end():
                event = decode_unverified("anchors", record.value).event
                anchored = max(anchored, event.size if isinstance(event, Anchored) else 0)
    return 0 < closed <= anchored


def auditors_home(operator: Path, circuit: str, folder: Path, roles: Roles, **policy: Any) -> Path:
    """A home that holds what an auditor needs and no more, and a policy that pins everything it can.

    Args:
        policy: further entries of the policy file.
    """
    from anchor import open_anchor
    from zk_autograd.home import Home

    uri, home = f"file:{operator}/anchor", Home(operator)
    roles.run("zk-setup", "--export", circuit, str(folder))
    chosen = json.loads(home.policy_path.read_text())
    chosen |= {"ledger_keys": [home.signing_key("LEDGER").public_key.hex()]}
    chosen |= {"anchors": {open_anchor(uri).identity(): uri}}
    (folder / "policy.json").write_text(json.dumps(chosen | policy, indent=1))
    return folder
