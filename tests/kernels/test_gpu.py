"""On a real GPU: a hundred million parameters, and several devices. Skipped, saying so, where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parent.parent.parent
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

COUNT = 10**8


def in_a_process(code: str) -> None:
    """Runs code without Triton's interpreter, which this process has."""
    environment = {n: x for n, x in os.environ.items() if n != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]


AGREEMENT = """
import numpy as np, torch
from tests.kernels import agreeing
from zk_autograd.optim.gpu import TritonKernels
name, count = {name!r}, {count}
device, n = torch.device("cuda"), 10**7
for part in range(count // n):
    case = agreeing.honest(name, 16, 7, torch.float32, np.random.default_rng(part), n)
    here = agreeing.Case(
        case.statement, case.P, case.format, case.public,
        {{k: x.to(device) for k, x in case.pre.items()}}, case.gradients.to(device),
    )
    kernels = TritonKernels(n, device)
    if not agreeing.refused(here, kernels):
        agreeing.hold(here, kernels)
"""


@GPU
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("name", ["adam", "adam-l2", "adamw", "amsgrad", "sgd", "momentum", "nesterov-l2"])
def test_a_hundred_million_steps_are_the_references(name: str) -> None:
    in_a_process(AGREEMENT.format(name=name, count=COUNT))


WHOLE = """
import torch
from zk_autograd.optim import Adam
def run(switch):
    import os
    os.environ["USE_TRITON"] = switch
    p = torch.nn.Parameter(torch.linspace(-1, 1, 10**8, device="cuda"))
    optimizer = Adam([p], lr=1e-3)
    for step in range(3):
        p.grad = torch.sin(p.detach() * (step + 3))
        optimizer.step()
        p.grad = None
    return optimizer.path.name, {n: x.to(torch.int64) for n, x in optimizer.last_step.tensors["post"].items()}
(a, kernels), (b, reference) = run("1"), run("0")
assert (a, b) == ("triton", "torch"), (a, b)
assert all(torch.equal(kernels[n], x) for n, x in reference.items())
"""


@GPU
@pytest.mark.timeout(1000)
def test_a_model_of_a_hundred_million_parameters_trains_as_by_the_reference() -> None:
    in_a_process(WHOLE)


DEVICES = """
import torch
from zk_autograd.optim import Adam
def run(devices):
    ps = [torch.nn.Parameter(torch.linspace(-1, 1, 3000).to(device)) for device in devices]
    optimizer = Adam(ps, lr=1e-3)
    for step in range(3):
        for p in ps:
            p.grad = torch.sin(p.detach().cpu() * (step + 3)).to(p.device)
        optimizer.step()
    return [p.detach().cpu() for p in ps]
assert all(torch.equal(x, y) for x, y in zip(run(["cuda", "cpu", "cuda"]), run(["cpu"] * 3)))
"""


@GPU
def test_parameters_on_several_devices_are_one_run() -> None:
    in_a_process(DEVICES)


@GPU
def test_zk_train_takes_its_steps_on_the_gpu(tmp_path: Path) -> None:
    environment = {n: x for n, x in os.environ.items() if n != "TRITON_INTERPRET"} | {"USE_TRITON": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "producer.cli", "--home", tmp_path, "--profile", "small", "--steps", "100", "--json"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"path": "triton"' in done.stdout
