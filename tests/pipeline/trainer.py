"""The trainer of the chaos tests, a process of its own: ``python -m tests.pipeline.trainer --help``.

A run that was interrupted goes on, as with ``zk-train --run-name``. Step ``k`` is taken no sooner than ``--from`` plus
``k`` times ``--every`` seconds, so that a run spreads over the time in which processes are killed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from producer.recorder import Recorder
from producer.run_files import run_file, run_folder
from schemas.wire import open_event_log
from tests.producer.saving import SavingOptimizer
from tests.support.pipeline import LR
from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.proofs import DEFAULT_SYSTEM, proof_system
from zk_autograd.schedule import Schedule


def main() -> int:
    p = argparse.ArgumentParser(prog="trainer")
    p.add_argument("--home", type=Path, required=True)
    p.add_argument("--log", required=True)
    p.add_argument("--circuit", required=True, help="circuit id in hex")
    p.add_argument("--run-name", required=True)
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--shards", type=int, default=1)
    p.add_argument("--from", dest="origin", type=float, default=0.0, help="seconds since the epoch")
    p.add_argument("--every", type=float, default=0.0)
    args = p.parse_args()
    home = Home(args.home)
    circuit = proof_system(DEFAULT_SYSTEM).load(bytes.fromhex(args.circuit), home.path)
    # The last shard is half full.
    optimizer = SavingOptimizer(circuit, circuit.shard * (args.shards - 1) + circuit.shard // 2)
    with open_event_log(args.log) as log:
        name = args.run_name
        if (run_folder(home, name) / "run.json").exists():
            try:
                recorder = Recorder.resume(optimizer, log, home, circuit, name, optimizer.restore)
            except UsageError as error:
                if "finished" not in str(error):
                    raise
                print(f"{name} was finished already", flush=True)
                return 0
        else:
            schedule = Schedule("constant", (LR,), LR)
            recorder = Recorder.start(optimizer, log, home, circuit, name, schedule, optimizer.save)
        print(f"{name} stands at step {recorder.step}", flush=True)
        while recorder.step < args.steps:
            time.sleep(max(0.0, args.origin + (recorder.step + 1) * args.every - time.time()))
            optimizer.step()
            recorder.record(optimizer.save)
            print(f"step {recorder.step} published", flush=True)
        recorder.finish()
        recorder.close()
    print(f"finished {run_file(home, name).run_id.hex()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
