"""A long run, audited without its proofs: how fast, in how much memory, with how much of the disk beside.

``scripts/big_audit.py [--steps 20000 100000] [--others N] [--signatures MODE] [--workers N] [--folder DIR] [--json]``.
The run is real but for its proofs, which are short and prove nothing: what is measured is everything else. Each audit
runs in a process of its own. ``make big-audit`` runs it.

An audit reads all of the shared ledger, other runs' entries too: ``--steps 100000 --others 9899998`` is a log of ten
million entries.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.circuits import bench_circuit  # noqa: E402
from bench.long_run import write  # noqa: E402
from bench.replay import replay  # noqa: E402
from consumers.audit.spill import spilled  # noqa: E402
from zk_autograd.policy import Policy  # noqa: E402

PROOF_BYTES = 256


def build(url: str, steps: int, others: int) -> tuple[bytes, Policy]:
    """Writes the run, after so many entries of another."""
    began = time.monotonic()

    def tick(done: int) -> None:
        if done % 50_000 == 0:
            spent = time.monotonic() - began
            print(f"  {done:,} of {others + steps:,} entries written, {spent:.0f} s", file=sys.stderr, flush=True)

    return write(url, bench_circuit("adam", "default"), steps, PROOF_BYTES, tick, others)


def measure(url: str, steps: int, run_id: bytes, policy: Policy, mode: str, workers: int, spill: str) -> dict[str, Any]:
    """Audits; the peak is this process's, and that of the largest of its helpers."""
    tempfile.tempdir = spill
    circuit = bench_circuit("adam", "default")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    out = replay(url, circuit, run_id, policy, mode, workers)
    seconds = time.perf_counter() - began
    if out.proven != steps or out.violations:
        raise RuntimeError(f"audited {out.proven} of {steps} steps: {[c.findings[:3] for c in out.checks]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "steps": steps, "entries": out.size, "signatures": mode, "workers": workers, "seconds": round(seconds, 1),
        "steps_a_second": round(steps / seconds), "entries_a_second": round(out.size / seconds),
        "start_kib": before, "peak_kib": peak, "helper_kib": children,
        "spilled_mb": spilled() >> 20,
    }  # fmt: skip


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Runs in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> int:
    """Writes and audits runs of each size; then how memory grows from the first to the last."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--steps", type=int, nargs="+", default=[20_000, 100_000])
    p.add_argument("--others", type=int, default=0, help="entries of another run in the same ledger (default: none)")
    p.add_argument("--signatures", choices=("all", "chained"), default="chained")
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--folder", type=Path, help="where logs and temporary files go (default: a temporary one)")
    p.add_argument("--json", action="store_true", help="print JSON, one object a size")
    args = p.parse_args()
    home = Path(tempfile.mkdtemp(prefix="zk-big-audit-", dir=args.folder))
    bench_circuit("adam", "default")
    rows = []
    try:
        for steps in args.steps:
            path = home / f"{steps}.db"
            run_id, policy = apart(build, f"sqlite:///{path}", steps, args.others)
            facts = apart(
                measure, f"sqlite:///{path}", steps, run_id, policy, args.signatures, args.workers, str(home)
            )  # fmt: skip
            facts["log_mb"] = path.stat().st_size >> 20
            rows.append(facts)
            line = ", ".join(
                f"{k.replace('_', ' ')} {v:,}" if isinstance(v, (int, float)) else v for k, v in facts.items()
            )
            print(json.dumps(facts) if args.json else line, flush=True)
            path.unlink()
    finally:
        shutil.rmtree(home)
    if len(rows) > 1:
        more = rows[-1]["steps"] - rows[0]["steps"]
        slope = 1024 * (rows[-1]["peak_kib"] - rows[0]["peak_kib"]) / more
        facts = {"bytes_of_memory_a_step": round(slope, 1), "from": rows[0]["steps"], "to": rows[-1]["steps"]}
        print(json.dumps(facts) if args.json else f"memory grows by {slope:.1f} bytes a step", flush=True)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    sys.exit(main())
