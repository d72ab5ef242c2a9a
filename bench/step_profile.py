"""Where a recorded training step's time goes: gradient, optimizer, commitments, encryption, checkpoint, publishing."""

from __future__ import annotations

import functools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bench.circuits import bench_circuit, bench_home
from bench.proving import prove
from producer.recorder import Recorder
from schemas.wire import open_event_log
from zk_autograd.home import Home
from zk_autograd.optim import Adam
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import ShardWitness
from zk_autograd.schedule import Schedule
from zk_autograd.tee import sealing

SIZES = (100_000, 1_000_000)
STEPS = 3
BATCH = 128
PROOFS = 3
PARTS = ("gradient", "optimizer", "commitments", "encryption", "checkpoint", "publishing", "rest")
LR = 1e-3


class _Clock:
    """Adds up the time spent in functions, by part: of the wall clock, and of this process on all cores."""

    def __init__(self) -> None:
        self.wall, self.cpu = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[name] += time.perf_counter() - wall
            self.cpu[name] += time.process_time() - cpu

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def _model(size: int) -> torch.nn.Module:
    """A perceptron of about ``size`` parameters: 256 inputs, one hidden layer, 10 outputs."""
    torch.manual_seed(1)
    width = round((size - 10) / (256 + 1 + 10))
    return torch.nn.Sequential(torch.nn.Linear(256, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))


def _profile(size: int) -> dict[str, Any]:
    """Seconds of one step by part, and how many parameters it had."""
    circuit, model = bench_circuit("adam", "default"), _model(size)
    optimizer = Adam(model.parameters(), lr=LR)
    generator = torch.Generator().manual_seed(2)
    inputs, labels = torch.randn(BATCH, 256, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(bench_home().path / "keys", Path(folder) / "keys")
        home = Home(Path(folder))
        with open_event_log(f"sqlite:///{folder}/log.db") as log:
            recorder = Recorder.start(optimizer, log, home, circuit, "bench", Schedule("constant", (LR,), LR))
            committer, found = recorder._committer, []
            for _ in range(STEPS + 1):
                clock = _Clock()
                optimizer.zero_grad()
                with clock.part("gradient"):
                    torch.nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
                with clock.part("optimizer"):
                    optimizer.step()
                with (
                    mock.patch.object(sealing, "seal", clock.around("encryption", sealing.seal)),
                    mock.patch.object(ShardWitness, "to_bytes", clock.around("encryption", ShardWitness.to_bytes)),
                    mock.patch.object(recorder, "_save", clock.around("checkpoint", recorder._save)),
                    mock.patch.object(recorder, "_publish", clock.around("publishing", recorder._publish)),
                    mock.patch.object(committer, "commit", clock.around("commitments", committer.commit)),
                    clock.part("rest"),
                ):
                    recorder.record()
                for times in (clock.wall, clock.cpu):
                    times["rest"] -= sum(times[name] for name in PARTS[2:-1])
                found.append(clock)
            recorder.close()
    found = found[1:]  # the first compiled
    seconds = {name: statistics.median(clock.wall[name] for clock in found) for name in PARTS}
    cpu = {name: statistics.median(clock.cpu[name] for clock in found) for name in PARTS}
    return {"parameters": optimizer.parameter_count, "path": optimizer.path.name, "seconds": seconds, "cpu": cpu}


def _proven() -> float:
    """Parameters a second that one prover on all cores proves, now."""
    circuit = bench_circuit("adam", "default")
    columns, _ = sample(circuit, 7)
    with tempfile.TemporaryDirectory() as name:
        took = [prove(Ezkl._job(circuit, columns, Path(name)), Path(name)).wall for _ in range(PROOFS)]
    return circuit.shard / statistics.median(took)


def run() -> dict[str, Any]:
    """Parameters a second that are committed to, encrypted and published, against those that are proven."""
    details: dict[str, Any] = {}
    for size in SIZES:
        done = _profile(size)
        whole = sum(done["seconds"].values())
        details[f"{size}"] = done | {"share": {name: round(x / whole, 3) for name, x in done["seconds"].items()}}
    largest = details[f"{SIZES[-1]}"]
    recording_seconds = sum(largest["seconds"][name] for name in PARTS[2:])
    value, proven = largest["parameters"] / recording_seconds, _proven()
    return {
        "name": "step-profile", "value": value, "unit": "parameters/s recorded", "peer": "one prover, all cores",
        "peer_value": proven, "ratio": value / proven, "details": details,
    }  # fmt: skip
