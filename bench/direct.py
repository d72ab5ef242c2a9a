"""The peer of the proving benchmarks: the optimizer as a user would write it for EZKL, in floats, with ONNX's own ops.

Built with ``onnx.helper`` so that no torch is needed; a torch export gives the same operations. It is inexact: EZKL
quantizes at scale 13, and its square root and reciprocal are rounded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_ADAM = (
    ("Mul", "m b1", "t1"), ("Mul", "g c1", "t2"), ("Add", "t1 t2", "m1"), ("Mul", "g g", "gg"), ("Mul", "gg c2", "t3"),
    ("Mul", "v b2", "t4"), ("Add", "t3 t4", "v1"), ("Sqrt", "v1", "s"), ("Add", "s eps", "d"), ("Div", "m1 d", "u"),
    ("Mul", "u lr", "dw"), ("Sub", "w dw", "w1"),
)  # fmt: skip
_SGD = (("Mul", "g lr", "dw"), ("Sub", "w dw", "w1"))
_CONSTANTS = {"b1": 0.9, "c1": 0.1, "b2": 0.999, "c2": 0.001, "lr": 0.001, "eps": 1e-8}
LOGROWS, COLUMNS, SCALE = 15, 2, 13
PARAMETERS = {"adam": 108, "sgd": 2000}
"""What fills two inner columns of 2^15 rows."""


def model(name: str, count: int) -> onnx.ModelProto:
    """The graph of one step over ``count`` parameters."""
    ops, inputs, outputs = (_ADAM, "wmvg", ("w1", "m1", "v1")) if name == "adam" else (_SGD, "wg", ("w1",))
    used = {word for _, words, _ in ops for word in words.split()}
    constants = [
        numpy_helper.from_array(np.array([v], dtype=np.float32), k) for k, v in _CONSTANTS.items() if k in used
    ]
    graph = helper.make_graph(
        [helper.make_node(op, words.split(), [out]) for op, words, out in ops],
        f"direct-{name}",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [count]) for n in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [count]) for n in outputs],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    return made


class Direct:
    """A direct graph, set up once; :meth:`prove` proves in a process of its own, as ours does."""

    def __init__(self, name: str, srs: Path) -> None:
        self.name, self.count = name, PARAMETERS[name]
        self._folder, self._srs = tempfile.TemporaryDirectory(prefix="zk-bench-"), srs
        self._files = {n: str(Path(self._folder.name) / n) for n in ("model", "settings", "compiled", "vk", "pk")}
        self._files |= {n: str(Path(self._folder.name) / n) for n in ("data", "witness", "proof")} | {"srs": str(srs)}
        onnx.save(model(name, self.count), self._files["model"])
        rng = np.random.default_rng(0)
        columns = {"w": rng.normal(0, 1, self.count), "m": rng.normal(0, 0.1, self.count)}
        columns |= {"v": rng.uniform(0.01, 0.3, self.count), "g": rng.normal(0, 0.1, self.count)}
        names = "wmvg" if name == "adam" else "wg"
        Path(self._files["data"]).write_text(json.dumps({"input_data": [columns[n].tolist() for n in names]}))
        self.cells = self._child("setup")["cells"] / self.count

    def prove(self) -> float:
        """Parameters proved per second, start of the process included."""
        began = time.perf_counter()
        self._child("prove")
        return self.count / (time.perf_counter() - began)

    def _child(self, verb: str) -> dict[str, Any]:
        env = os.environ | {"EZKL_REPO_PATH": self._folder.name}
        done = subprocess.run(
            [sys.executable, "-m", "bench.direct"], input=json.dumps({"verb": verb, **self._files}), text=True, env=env,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result


def _main() -> None:
    import ezkl

    from zk_autograd.proofs.ezkl.child import _call

    job = json.load(sys.stdin)
    if job["verb"] == "setup":
        args: Any = ezkl.PyRunArgs()
        args.input_visibility = args.output_visibility = "polycommit"
        args.param_visibility = "fixed"
        args.input_scale = args.param_scale = SCALE
        args.logrows, args.num_inner_cols = LOGROWS, COLUMNS
        _call(ezkl.gen_settings, job["model"], job["settings"], args)
        settings = json.loads(Path(job["settings"]).read_text())
        settings["run_args"]["logrows"] = LOGROWS
        Path(job["settings"]).write_text(json.dumps(settings))
        _call(ezkl.compile_circuit, job["model"], job["compiled"], job["settings"])
        _call(ezkl.setup, job["compiled"], job["vk"], job["pk"], job["srs"])
        print(json.dumps({"cells": settings["total_assignments"]}))
        return
    _call(ezkl.gen_witness, job["data"], job["compiled"], job["witness"])
    _call(ezkl.prove, job["witness"], job["compiled"], job["pk"], job["proof"], job["srs"])
    print(json.dumps({"ok": True}))


if __name__ == "__main__":
    _main()
