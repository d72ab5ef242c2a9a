"""The audit's replay without proof verification: steps per second with each way to look at signatures."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.circuits import bench_circuit
from bench.long_run import ORIGIN, write
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit
from consumers.audit.proofs import Verdict
from consumers.audit.workers import Workers
from schemas.wire import open_event_log
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit, Commitments

STEPS = 20_000
WAYS = [(mode, processes) for mode in ("all", "chained") for processes in (1, 2)]


def unproven(circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]]) -> list[Verdict]:
    """Takes every proof for what it begins with."""
    return [Verdict(Commitments.first_in(proof, circuit.statement)) for proof, _ in jobs]


def replay(url: str, circuit: Circuit, run_id: bytes, policy: Policy, mode: str, processes: int) -> Audit:
    """All checks but the proofs' own."""
    with open_event_log(f"{url}?mode=ro", create=False) as log, Workers(processes) as workers:
        found = collect(log, run_id, policy, mode, workers)
        return audit(found, run_id, policy, lambda _: circuit, unproven, [], ORIGIN, workers=workers)


def run() -> dict[str, Any]:
    """Replays a run of 20,000 steps; the peer is the Ed25519 verification of its records alone, on one core."""
    circuit = bench_circuit("adam", "default")
    rates: dict[str, list[float]] = {f"{mode}, {n} process(es)": [] for mode, n in WAYS}
    theirs = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'log.db'}"
        run_id, policy = write(url, circuit, STEPS)
        for _ in range(3):
            for mode, processes in WAYS:
                began = time.perf_counter()
                out = replay(url, circuit, run_id, policy, mode, processes)
                rates[f"{mode}, {processes} process(es)"].append(STEPS / (time.perf_counter() - began))
                if out.proven != STEPS or out.violations:
                    raise RuntimeError(f"replayed {out.proven} of {STEPS} steps: {[c.findings for c in out.checks]}")
            theirs.append(_signatures())
    found = {way: statistics.median(times) for way, times in rates.items()}
    value, peer = found["chained, 2 process(es)"], statistics.median(theirs)
    return {
        "name": "replay", "value": value, "unit": "steps/s without proof verification, signatures chained, 2 processes",
        "peer": "Ed25519 verification of its three records a step, one core", "peer_value": peer,
        "ratio": value / peer, "details": {"steps": STEPS, **found},
    }  # fmt: skip


def _signatures(count: int = 3000) -> float:
    """Steps a second if a step were three signatures and nothing else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, message = Ed25519PrivateKey.generate(), bytes(1000)
    public, signature = key.public_key(), key.sign(message)
    began = time.perf_counter()
    for _ in range(count):
        public.verify(signature, message)
    return count / 3 / (time.perf_counter() - began)
