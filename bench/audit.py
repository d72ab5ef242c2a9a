"""The auditor's proof verification: proofs per second on all cores, against EZKL called once per proof."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.circuits import bench_proof
from consumers.audit.proofs import verify_all

PROOFS = 100


def run() -> dict[str, Any]:
    """Verifies 100 proofs in parallel as ``zk-audit`` does; the peer is a loop over ``ezkl.verify`` with files."""
    import ezkl

    circuit, columns, proof = bench_proof("adam", "default")
    jobs = [(proof, tuple(columns.hyper))] * PROOFS
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proof.json"
        empty = ("protocol", "hex_proof", "split", "pretty_public_inputs", "timestamp", "version")
        path.write_text(json.dumps(dict.fromkeys(empty) | {"instances": [[]], "proof": list(proof)}))
        files = [str(path), *(str(circuit.directory / n) for n in ("settings.json", "vk.key")), str(circuit.srs_path)]
        for _ in range(3):
            began = time.perf_counter()
            verdicts = verify_all(circuit, jobs, None, lambda: None)
            ours.append(PROOFS / (time.perf_counter() - began))
            if any(v.commitments is None for v in verdicts):
                raise RuntimeError(next(v.reason for v in verdicts if v.commitments is None))
            began = time.perf_counter()
            for _ in range(PROOFS):
                if ezkl.verify(files[0], files[1], files[2], files[3], False) is not True:
                    raise RuntimeError("the peer refused the proof")
            theirs.append(PROOFS / (time.perf_counter() - began))
    value, peer = statistics.median(ours), statistics.median(theirs)
    return {
        "name": "audit", "value": value, "unit": "proofs/s", "peer": "ezkl.verify in a loop, one process",
        "peer_value": peer, "ratio": value / peer, "details": {"cores": len(os.sched_getaffinity(0)), "proofs": PROOFS},
    }  # fmt: skip
