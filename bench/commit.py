"""Commitments in the enclave: parameters per second on one core, against ``ezkl.kzg_commit`` on the same columns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import ezkl
import numpy as np

from bench.circuits import bench_circuit
from zk_autograd.field import to_hex_list
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import SALT

ROUNDS = 7


def _milliseconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - began)


def run() -> dict[str, Any]:
    """Each step commits to one state column and one work column a shard: Adam, default profile."""
    circuit = bench_circuit("adam", "default")
    columns, _ = sample(circuit, 7)
    committer = Ezkl().committer(circuit)
    files = [str(circuit.directory / n) for n in ("vk.key", "settings.json")] + [str(circuit.srs_path)]
    ours: dict[str, list[float]] = {"state": [], "work": []}
    theirs: dict[str, list[float]] = {"state": [], "work": []}
    for name, column in (("state", columns.post), ("work", columns.work)):
        values, salt = np.array(column[:-SALT], dtype=np.int64), column[-SALT:]
        strings = to_hex_list(column)
        committer.commit(values, salt)  # the constant of this length is computed once in a run
        for _ in range(ROUNDS):
            ours[name].append(_milliseconds(lambda v=values, s=salt: committer.commit(v, s)))  # type: ignore[misc]
            theirs[name].append(_milliseconds(lambda s=strings: ezkl.kzg_commit(s, *files)))  # type: ignore[misc]
    ms, peer_ms = ({n: statistics.median(t) for n, t in side.items()} for side in (ours, theirs))
    value, peer = (1000 * circuit.shard / sum(side.values()) for side in (ms, peer_ms))
    return {
        "name": "commit", "value": value, "unit": "parameters/s", "peer": "ezkl.kzg_commit", "peer_value": peer,
        "ratio": value / peer,
        "details": {
            "parameters": circuit.shard,
            "state_elements": len(columns.post), "state_ms": ms["state"], "peer_state_ms": peer_ms["state"],
            "work_elements": len(columns.work), "work_ms": ms["work"], "peer_work_ms": peer_ms["work"],
        },
    }  # fmt: skip
