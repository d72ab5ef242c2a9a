"""The auditor's proof verification: proofs per second on all cores, against EZKL called once per proof."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.circuits import bench_proof
from consumers.audit.proofs import verify_all

PROOFS = 400
PEERS = 50


def run() -> dict[str, Any]:
    """Verifies 400 proofs in parallel as ``zk-audit`` does; the peer is a loop over ``ezkl.verify`` with files.

    The 400 are copies of one: nothing that is computed for one proof is kept for the next. The pairing is what a
    verifier cannot avoid that takes one proof at a time.
    """
    import ezkl
    from zksnake._algebra import ec_bn254

    circuit, columns, proof = bench_proof("adam", "default")
    cores = len(os.sched_getaffinity(0))
    jobs = [(proof, tuple(columns.hyper))] * PROOFS
    ours, theirs, pairings = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        empty = ("protocol", "hex_proof", "split", "pretty_public_inputs", "timestamp", "version")
        path.write_text(json.dumps(dict.fromkeys(empty) | {"instances": [[]], "proof": list(proof)}))
        files = [str(path), *(str(circuit.directory / n) for n in ("settings.json", "vk.key")), str(circuit.srs_path)]

        def peer() -> None:
            if ezkl.verify(files[0], files[1], files[2], files[3], False) is not True:
                raise RuntimeError("the peer refused the proof")

        def pairing() -> None:
            ec_bn254.multi_pairing([ec_bn254.g1()] * 2, [ec_bn254.g2()] * 2)

        for _ in range(3):
            began = time.perf_counter()
            verdicts = verify_all(circuit, jobs, None, lambda: None)
            ours.append(PROOFS / (time.perf_counter() - began))
            if any(v.commitments is None for v in verdicts):
                raise RuntimeError(next(v.reason for v in verdicts if v.commitments is None))
            theirs.append(1 / _seconds(peer, PEERS))
            pairings.append(_seconds(pairing, 200))
    value, peer_value, one = statistics.median(ours), statistics.median(theirs), statistics.median(pairings)
    return {
        "name": "audit", "value": value, "unit": "proofs/s", "peer": "ezkl.verify in a loop, one process",
        "peer_value": peer_value, "ratio": value / peer_value,
        "details": {
            "cores": cores, "proofs": PROOFS, "pairing_ms": 1e3 * one, "floor_of_one_pairing_a_proof": cores / one,
        },
    }  # fmt: skip


def _seconds(call: Callable[[], None], times: int) -> float:
    """Mean time of a call."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times
