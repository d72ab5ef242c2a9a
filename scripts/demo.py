"""The demo: every role a process of its own, on the embedded event log, ending in an auditor's verdict.

Three steps of real training on real data; each is proven shard by shard, folded, anchored and audited from the
published topics alone. Then one byte of a copy of the log is changed, and the copy is audited.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(".demo").absolute()
STEPS = 3
DEADLINE_S = 900


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def command(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def environment() -> dict[str, str]:
    return os.environ | {"ZK_HOME": str(FOLDER), "PYTHONUNBUFFERED": "1"}


def run(*words: str, expect: int = 0) -> None:
    print("$ " + " ".join(words), flush=True)
    done = subprocess.run([command(words[0]), *words[1:]], env=environment())
    if done.returncode != expect:
        sys.exit(f"{words[0]} ended with exit code {done.returncode}, expected {expect}")


@contextlib.contextmanager
def service(*words: str) -> Iterator[subprocess.Popen[str]]:
    print("$ " + " ".join(words) + " &", flush=True)
    process = subprocess.Popen([command(words[0]), *words[1:]], env=environment(), stderr=subprocess.PIPE, text=True)

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


def train() -> str:
    words = ["zk-train", "--steps", str(STEPS), "--profile", "small", "--run-name", "demo", "--json"]
    print("$ " + " ".join(words), flush=True)
    process = subprocess.Popen([command(words[0]), *words[1:]], env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last: dict[str, Any] = {}
    for line in process.stdout:
        last = json.loads(line)
        if "step" in last:
            print(f"  zk-train  | step {last['step']}/{STEPS}  loss {last['loss']:.4f}", flush=True)
    if process.wait() != 0:
        sys.exit("zk-train failed")
    return str(last["run_id"])


def wait_until_anchored(run_id: str, services: list[subprocess.Popen[str]]) -> None:
    """Ends when the run's closing entry is in the log and the anchor covers it."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        time.sleep(1)
        for process in services:
            if process.poll() is not None:
                sys.exit(f"a service ended early with exit code {process.returncode}")
        if progress(run_id):
            return
    sys.exit(f"the run was not anchored within {DEADLINE_S} s")


def progress(run_id: str) -> bool:
    from schemas.events import Anchored, RunClosed
    from schemas.signing import decode_unverified
    from zk_autograd.eventlog import open_log

    with open_log(f"sqlite:///{FOLDER}/log.db?mode=ro") as log:
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


def tamper() -> Path:
    """Copies the log and flips one bit in the middle of a published proof."""
    copy = FOLDER / "tampered.db"
    with (
        contextlib.closing(sqlite3.connect(FOLDER / "log.db")) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        topic, partition, offset, value = target.execute(
            "SELECT topic, partition, offset, value FROM records WHERE topic = 'proofs' "
            "ORDER BY partition, offset LIMIT 1"
        ).fetchone()
        changed = bytearray(value)
        changed[len(changed) // 2] ^= 1
        target.execute(
            "UPDATE records SET value = ? WHERE topic = ? AND partition = ? AND offset = ?",
            (bytes(changed), topic, partition, offset),
        )
        target.commit()
    print(f"flipped one bit of {topic}/{partition}@{offset} in a copy of the log", flush=True)
    return copy


def auditors_home(circuit: str) -> Path:
    """A home that holds what an auditor needs and no more, and a policy that pins everything it can."""
    from anchor import open_anchor
    from zk_autograd.home import Home

    folder, uri, operator = FOLDER / "auditor", f"file:{FOLDER}/anchor", Home(FOLDER)
    run("zk-setup", "--export", circuit, str(folder))
    policy = json.loads(operator.policy_path.read_text())
    policy |= {"ledger_keys": [operator.signing_key("LEDGER").public_key.hex()]}
    policy |= {"anchors": {open_anchor(uri).identity(): uri}}
    (folder / "policy.json").write_text(json.dumps(policy, indent=1))
    return folder


def main() -> None:
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    say("1. Set-up: a circuit for Adam and its keys (development: local SRS, simulated enclaves)")
    run("zk-setup", "--optimizer", "adam", "--profile", "small", "--dev")
    say("2. Provers, ledger and anchor wait for events; the training job publishes them")
    with contextlib.ExitStack() as stack:
        services = [
            stack.enter_context(service(*w)) for w in (("zk-ledger",), ("zk-anchor",), ("zk-prove", "--name", "a"))
        ]
        run_id = train()
        wait_until_anchored(run_id, services)
    say("3. An auditor replays the published topics, with a home and a policy of its own")
    (circuit,) = json.loads((FOLDER / "policy.json").read_text())["circuits"]
    home = auditors_home(circuit)
    audit = ("zk-audit", "--run", run_id, "--home", str(home), "--policy", str(home / "policy.json"))
    run(*audit, "--log", f"sqlite:///{FOLDER}/log.db")
    say("4. Someone changes the log: one bit of one proof, in a copy")
    copy = tamper()
    run(*audit, "--log", f"sqlite:///{copy}?mode=ro", expect=1)
    say(f"Done in {time.monotonic() - began:.0f} s: the run is sound, the altered copy was caught. See .demo/")


if __name__ == "__main__":
    main()
