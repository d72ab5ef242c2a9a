"""Proving rate by cores and provers: ``python -m bench.scaling [--profile default]``; prints a Markdown table.

Each prover is a process of its own that makes one proof after the other, with an equal share of the cores as threads,
as ``zk-prove --workers`` starts them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.circuits import bench_circuit, say
from bench.proving import prove
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl


def rate(optimizer: str, profile: str, cores: int, provers: int, proofs: int) -> tuple[float, int]:
    """Parameters a second and the largest peak memory (bytes) of one prover."""
    circuit = bench_circuit(optimizer, profile)
    columns, _ = sample(circuit, 7)
    allowed = sorted(os.sched_getaffinity(0))

    def work(_: int) -> int:
        os.sched_setaffinity(0, allowed[:cores])  # of this thread, and so of the process that it starts
        peak = 0
        with tempfile.TemporaryDirectory() as name:
            for _ in range(proofs):
                peak = max(peak, prove(Ezkl._job(circuit, columns, Path(name)), Path(name)).memory)
        return peak

    os.environ["RAYON_NUM_THREADS"] = str(max(1, cores // provers))
    began = time.perf_counter()
    with ThreadPoolExecutor(provers) as pool:
        peaks = list(pool.map(work, range(provers)))
    return provers * proofs * circuit.shard / (time.perf_counter() - began), max(peaks)


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m bench.scaling", description="Proving rate by cores and provers.")
    p.add_argument("--optimizer", default="adam")
    p.add_argument("--profile", default="default")
    p.add_argument("--proofs", type=int, default=2, help="of each prover (default: %(default)s)")
    args = p.parse_args()
    most = len(os.sched_getaffinity(0))
    print("| cores | provers | threads each | parameters/s | memory of each |\n|---|---|---|---|---|")
    for cores, provers in sorted({(1, 1), (most, 1), (most, 2), (most, most)}):
        say(f"{cores} cores, {provers} provers")
        found, peak = rate(args.optimizer, args.profile, cores, provers, args.proofs)
        threads = max(1, cores // provers)
        print(f"| {cores} | {provers} | {threads} | {found:.0f} | {peak / 2**30:.2f} GiB |", flush=True)


if __name__ == "__main__":
    main()
