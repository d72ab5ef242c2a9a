"""Parameters proved per second, against the graph that one would write for EZKL without a second thought.

The peer computes the step with the operations of torch's optimizers, in EZKL's own fixed point, and commits to the same
state; its prover runs in the same child process with the same limits. Its settings are EZKL's defaults but for the
visibilities, 2^15 rows and input range checks, which are off: they would only make it slower. Both fill their columns.

* Adam: ``Mul``, ``Add``, ``Sqrt``, ``Div``, with the learning rate folded into the scale of the weights. Bias
  corrections are left out, in the peer's favour.
* SGD: ``w - lr*g``. Its second peer, ``sgd-once``, is the same graph without EZKL's rescaling: a tenth of the cells,
  but the new weights have another scale than the old ones, and no second step can follow the first.

The peer does not hide anything and its results are approximate; ours does and are exact.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ezkl
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bench.circuits import bench_circuit, bench_home, say
from zk_autograd.field import to_hex_list
from zk_autograd.proofs.base import PROFILES, Limits
from zk_autograd.proofs.ezkl.process import run_child
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl

ROUNDS = 3
LOGROWS, COLUMNS, SCALE = 15, 2, 10
_LIMITS = Limits(seconds=1800, memory=0)

Job = dict[str, Any]


@dataclass(frozen=True)
class Direct:
    """A step as a graph that computes it.

    Attributes:
        size: parameters a proof, as many as fit.
        inputs: name -> mean and deviation of the values to prove it with.
        constants: name -> value.
        nodes: the operations; results are the names that end in ``'``.
        rescaled: whether EZKL brings results back to the scale of the inputs, as it does by default.
    """

    name: str
    size: int
    inputs: dict[str, tuple[float, float]]
    constants: dict[str, float]
    nodes: Callable[[], list[NodeProto]]
    rescaled: bool = True


def _adam() -> list[NodeProto]:
    node = helper.make_node
    return [
        node("Mul", ["m", "beta1"], ["kept"]),
        node("Mul", ["g", "1-beta1"], ["new"]),
        node("Add", ["kept", "new"], ["m'"]),
        node("Mul", ["v", "beta2"], ["kept2"]),
        node("Mul", ["g", "g"], ["g2"]),
        node("Mul", ["g2", "1-beta2"], ["new2"]),
        node("Add", ["kept2", "new2"], ["v'"]),
        node("Sqrt", ["v'"], ["root"]),
        node("Add", ["root", "eps"], ["divisor"]),
        node("Div", ["m'", "divisor"], ["step"]),
        node("Sub", ["w", "step"], ["w'"]),
    ]


def _sgd() -> list[NodeProto]:
    return [helper.make_node("Mul", ["g", "lr"], ["step"]), helper.make_node("Sub", ["w", "step"], ["w'"])]


DIRECT = {
    "adam": Direct(
        "adam", 126,
        {"w": (0.0, 0.5), "m": (0.0, 0.3), "v": (0.6, 0.1), "g": (0.0, 0.5)},
        {"beta1": 0.9, "1-beta1": 0.1, "beta2": 0.999, "1-beta2": 0.001, "eps": 1e-3},
        _adam,
    ),
    "sgd": Direct("sgd", 1300, {"w": (0.0, 0.5), "g": (0.0, 0.5)}, {"lr": 0.01}, _sgd),
    "sgd-once": Direct("sgd-once", 13000, {"w": (0.0, 0.5), "g": (0.0, 0.5)}, {"lr": 0.01}, _sgd, rescaled=False),
}  # fmt: skip


def _model(direct: Direct) -> onnx.ModelProto:
    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [direct.size])

    nodes = direct.nodes()
    results = [name for node in nodes for name in node.output if name.endswith("'")]
    constants = [numpy_helper.from_array(np.array([x], dtype=np.float32), n) for n, x in direct.constants.items()]
    inputs, outputs = [value(n) for n in direct.inputs], [value(n) for n in results]
    graph = helper.make_graph(nodes, f"direct-{direct.name}", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model


@cache
def _peer(name: str) -> Job:
    """The proving job of the direct graph; its keys are made at first use."""
    direct, folder = DIRECT[name], bench_home().path / f"direct-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    files = ("model", "settings", "compiled", "vk", "pk")
    job: Job = {n: str(folder / n) for n in files} | {"srs": str(Ezkl().dev_srs(bench_home().path, LOGROWS, say))}
    if not (folder / "done").exists():
        say(f"making keys for EZKL's direct {name} graph of {direct.size} parameters")
        onnx.save(_model(direct), job["model"])
        args: Any = ezkl.PyRunArgs()
        args.input_visibility, args.output_visibility, args.param_visibility = "polycommit", "private", "fixed"
        args.input_scale = args.param_scale = SCALE
        args.logrows, args.num_inner_cols = LOGROWS, COLUMNS
        args.ignore_range_check_inputs_outputs = True
        if not direct.rescaled:
            args.scale_rebase_multiplier = 1000
        ezkl.gen_settings(job["model"], job["settings"], args)
        for verb in ("compile", "setup"):
            run_child(job | {"verb": verb}, _LIMITS, secret=False)
        (folder / "done").touch()
    rng = np.random.default_rng(1)
    drawn = [np.clip(rng.normal(mean, deviation, direct.size), -2, 2) for mean, deviation in direct.inputs.values()]
    return job | {"columns": [to_hex_list(np.rint(x * 2**SCALE).astype(int).tolist()) for x in drawn]}


@dataclass(frozen=True)
class Cost:
    """Of one proof, from the start of the prover's process to its end: seconds, seconds of all cores, peak bytes."""

    wall: float
    cpu: float
    memory: int


def prove(job: Job, folder: Path) -> Cost:
    """Runs a proving job, with its secrets in ``folder``, where the proof is left as ``proof.json``."""
    own = {"verb": "prove", "folder": str(folder), "proof": str(folder / "proof.json")}
    began = time.perf_counter()
    answer = run_child(job | own, _LIMITS, secret=True)
    return Cost(time.perf_counter() - began, float(answer["cpu_seconds"]), int(answer["peak_memory"]))


def _compare(optimizer: str, quick: bool) -> dict[str, Any]:
    profile = PROFILES["small" if quick else "default"]
    circuit, direct = bench_circuit(optimizer, profile.name), DIRECT[optimizer]
    columns, _ = sample(circuit, 7)
    peer = _peer(optimizer)
    second = f"{optimizer}-once" if f"{optimizer}-once" in DIRECT else ""
    ours, theirs, seconds_of_second = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(1 if quick else ROUNDS):
            say(f"round {i + 1}: {circuit.shard} parameters here, {direct.size} there")
            ours.append(prove(Ezkl._job(circuit, columns, folder), folder))
            proof = bytes(json.loads((folder / "proof.json").read_text())["proof"])
            theirs.append(prove(peer, folder))
            if not ezkl.verify(str(folder / "proof.json"), peer["settings"], peer["vk"], peer["srs"], False):
                raise RuntimeError("the peer's proof does not verify")
            if second:
                seconds_of_second.append(prove(_peer(second), folder).wall)
    with Ezkl().verifier(circuit) as verifier:
        verifier.verify(proof, columns.hyper)
    seconds, peer_seconds = (statistics.median(c.wall for c in runs) for runs in (ours, theirs))
    cpu, peer_cpu = (statistics.median(c.cpu for c in runs) for runs in (ours, theirs))
    value, peer_value = circuit.shard / seconds, direct.size / peer_seconds
    details = {
        "profile": profile.name, "rows": 2**profile.logrows, "peer_rows": 2**LOGROWS,
        "parameters_a_proof": circuit.shard, "peer_parameters_a_proof": direct.size,
        "seconds_a_proof": seconds, "peer_seconds_a_proof": peer_seconds,
        # What other load on the machine changes less.
        "cpu_seconds_a_proof": cpu, "peer_cpu_seconds_a_proof": peer_cpu,
        "ratio_in_cpu_seconds": circuit.shard / cpu / (direct.size / peer_cpu),
        "peak_memory_mb": max(c.memory for c in ours) >> 20, "peer_peak_memory_mb": max(c.memory for c in theirs) >> 20,
        "proof_bytes": len(proof),
    }  # fmt: skip
    if second:
        other = DIRECT[second]
        other_value = other.size / statistics.median(seconds_of_second)
        details |= {
            "second_peer": f"{second}: not rescaled, no second step can follow", "second_peer_value": other_value,
            "second_ratio": value / other_value, "second_peer_cells": COLUMNS * 2**LOGROWS / other.size,
        }  # fmt: skip
    return {
        "name": f"prove-{optimizer}", "value": value, "unit": "parameters/s",
        "peer": f"direct {optimizer} graph in EZKL", "peer_value": peer_value, "ratio": value / peer_value,
        "cells": profile.columns * 2**profile.logrows / circuit.shard,
        "cells_peer": COLUMNS * 2**LOGROWS / direct.size, "details": details,
    }  # fmt: skip


def run_adam(quick: bool = False) -> dict[str, Any]:
    """Adam, default profile; ``quick`` takes the small one and a single round."""
    return _compare("adam", quick)


def run_sgd(quick: bool = False) -> dict[str, Any]:
    """SGD, default profile; ``quick`` takes the small one and a single round."""
    return _compare("sgd", quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.proving", description="Both proving benchmarks, as JSON.")
    parser.add_argument("--quick", action="store_true", help="small profile, one round")
    chosen = parser.parse_args()
    for run in (run_adam, run_sgd):
        print(json.dumps(run(chosen.quick)), flush=True)
