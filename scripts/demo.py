"""The demo: every role a process of its own, on the embedded event log, ending in an auditor's verdict.

Three steps of real training on real data; each is proven shard by shard, folded, anchored and audited from the
published topics alone. Then one byte of a copy of the log is changed, and the copy is audited.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from pathlib import Path

from roles import Roles, auditors_home, is_anchored, say, wait_for

FOLDER = Path(".demo").absolute()
LOG = f"sqlite:///{FOLDER}/log.db"
STEPS = 3
DEADLINE_S = 900


def train(roles: Roles) -> str:
    run_id = ""
    for line in roles.lines("zk-train", "--steps", str(STEPS), "--profile", "small", "--run-name", "demo"):
        run_id = line.get("run_id", run_id)
        if "step" in line:
            print(f"  zk-train  | step {line['step']}/{STEPS}  loss {line['loss']:.4f}", flush=True)
    return run_id


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


def main() -> None:
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    roles = Roles(FOLDER)
    say("1. Set-up: a circuit for Adam and its keys (development: local SRS, simulated enclaves)")
    roles.run("zk-setup", "--optimizer", "adam", "--profile", "small", "--dev")
    say("2. Provers, ledger and anchor wait for events; the training job publishes them")
    with contextlib.ExitStack() as stack:
        commands = ("zk-ledger",), ("zk-anchor",), ("zk-prove", "--name", "a")
        services = [stack.enter_context(roles.service(*words)) for words in commands]
        run_id = train(roles)
        wait_for(lambda: is_anchored(f"{LOG}?mode=ro", run_id), services, DEADLINE_S)
    say("3. An auditor replays the published topics, with a home and a policy of its own")
    (circuit,) = json.loads((FOLDER / "policy.json").read_text())["circuits"]
    home = auditors_home(FOLDER, circuit, FOLDER / "auditor", roles)
    audit = ("zk-audit", "--run", run_id, "--home", str(home), "--policy", str(home / "policy.json"))
    roles.run(*audit, "--log", LOG)
    say("4. Someone changes the log: one bit of one proof, in a copy")
    roles.run(*audit, "--log", f"sqlite:///{tamper()}?mode=ro", expect=1)
    say(f"Done in {time.monotonic() - began:.0f} s: the run is sound, the altered copy was caught. See .demo/")


if __name__ == "__main__":
    main()
