"""A run of a million parameters with sampled proving on Apache Kafka, audited, and compared with torch's float run.

    python scripts/large_run.py [--steps 40] [--sample 1]        (needs Java 17 and Maven; about 12 minutes on 2 cores)

Every shard of every step is committed to; of each step the anchor's receipt draws shards, and these are proven. At the
end stand the auditor's verdict, the losses, what a step costs here, and what that makes of 10^9 parameters.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from roles import Roles, auditors_home, is_anchored, say, wait_for

FOLDER = Path(".large-run").absolute()
PORT = 9392
TASK, BATCH, SEED, RATE = "producer.text:gpt", 16, 0, 1e-3
DEADLINE_S = 3600.0
LAST = 5
"""Losses are compared as the mean over so many last steps."""


@contextlib.contextmanager
def kafka() -> Iterator[str]:
    """A broker of the script's own, on loopback."""
    words = ["--dir", str(FOLDER / "kafka"), "--port", str(PORT), "--controller-port", str(PORT + 1)]
    script = str(Path(__file__).parent / "kafka.sh")
    subprocess.run([script, "up", *words], check=True)
    try:
        yield f"kafka://127.0.0.1:{PORT}"
    finally:
        subprocess.run([script, "down", *words], check=True)


def train(roles: Roles, steps: int, sample: int) -> tuple[str, list[float], list[float]]:
    """Run id, loss of each step, and when each step was published, in seconds from the first one's."""
    run_id, losses, times = "", [], []
    options = ["--steps", str(steps), "--task", TASK, "--batch", str(BATCH), "--seed", str(SEED), "--lr", str(RATE)]
    for line in roles.lines("zk-train", *options, "--prove", f"sample:{sample}", "--run-name", "large"):
        run_id = line.get("run_id", run_id)
        if "step" in line:
            losses.append(line["loss"])
            times.append(time.monotonic())
            print(f"  zk-train  | step {line['step']}/{steps}  loss {line['loss']:.4f}", flush=True)
    return run_id, losses, [t - times[0] for t in times]


def float_run(steps: int) -> tuple[list[float], float, int]:
    """Torch's own Adam over the same batches: losses, median seconds of a step, parameters."""
    import torch

    from producer.task import load_task

    task = load_task(TASK, SEED, BATCH)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=RATE)
    losses, seconds = [], []
    for step in range(1, steps + 1):
        began = time.monotonic()
        optimizer.zero_grad()
        loss = task.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        seconds.append(time.monotonic() - began)
    return losses, statistics.median(seconds), sum(p.numel() for p in task.model.parameters())


def published(url: str) -> dict[str, float]:
    """Bytes a step on each topic, and seconds a proof by the provers' own clock (from record to record)."""
    from schemas.wire import open_event_log

    found: dict[str, float] = {}
    with open_event_log(url, create=False) as log:
        for topic in ("steps", "witness", "proofs", "ledger"):
            with log.reader([topic]) as reader:
                found[topic] = float(sum(len(record.value) for record in reader.read_to_end()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="(default: 40)")
    parser.add_argument("--sample", type=int, default=1, help="shards proven of each step (default: 1)")
    args = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    figures: dict[str, Any] = {"steps": args.steps, "sampled": args.sample, "batch": BATCH}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(kafka())
        home = FOLDER / "home"
        roles = Roles(home, "--log", url)
        say("1. Set-up: a circuit for Adam (development: local SRS, simulated enclaves), and the anchor that draws")
        roles.run("zk-setup", "--optimizer", "adam", "--dev")
        roles.run("zk-anchor", "--init")
        say("2. Training; every shard of every step is committed to, the drawn ones are proven")
        began = time.monotonic()
        with contextlib.ExitStack() as running:
            commands = ("zk-ledger",), ("zk-anchor",), ("zk-prove", "--name", "a")
            services = [running.enter_context(roles.service(*words)) for words in commands]
            run_id, losses, times = train(roles, args.steps, args.sample)
            figures["seconds_trained"] = time.monotonic() - began
            wait_for(lambda: is_anchored(url, run_id), services, DEADLINE_S)
            figures["seconds_anchored"] = time.monotonic() - began
        say("3. An auditor, with a home and a policy of its own, who accepts sampled runs")
        (circuit,) = json.loads((home / "policy.json").read_text())["circuits"]
        folder = auditors_home(home, circuit, FOLDER / "auditor", roles, min_sampled=args.sample)
        began = time.monotonic()
        policy = ("--policy", str(folder / "policy.json"))
        roles.run("zk-audit", "--run", run_id, "--home", str(folder), *policy, "--log", url)
        figures["seconds_audit"] = time.monotonic() - began
        figures["bytes"] = published(url)
    say("4. The same training with torch's float Adam")
    peer, seconds, parameters = float_run(args.steps)
    ours, theirs = (statistics.mean(values[-LAST:]) for values in (losses, peer))
    figures |= {
        "parameters": parameters, "loss": ours, "torch_loss": theirs, "difference": ours / theirs - 1,
        "seconds_a_step": statistics.median(b - a for a, b in pairwise(times)),
        "torch_seconds_a_step": seconds, "losses": losses, "torch_losses": peer,
    }  # fmt: skip
    (FOLDER / "figures.json").write_text(json.dumps(figures, indent=1))
    say("Figures (all in .large-run/figures.json)")
    for name, value in figures.items():
        if not isinstance(value, list | dict):
            print(f"  {name:<22} {value:.4g}" if isinstance(value, float) else f"  {name:<22} {value}")
    if abs(figures["difference"]) > 0.03:
        sys.exit("the loss is more than 3 % away from torch's")


if __name__ == "__main__":
    main()
