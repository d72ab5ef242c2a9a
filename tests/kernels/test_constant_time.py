"""The experiment on time finds differences where there are some; on a GPU it is run for every kernel."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from bench.constant_time import THRESHOLD, largest_t, run, welch  # noqa: E402
from zk_autograd.optim.fused import VARIANTS  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def sample(mean: float, seed: int, count: int = 400) -> list[float]:
    generator = random.Random(seed)
    # Timings have a long tail.
    return [mean + generator.gauss(0, 1) + (50 if generator.random() < 0.05 else 0) for _ in range(count)]


def test_a_difference_of_half_a_deviation_is_found_and_none_where_there_is_none() -> None:
    t, where = largest_t({"a": sample(100, 1), "b": sample(100.5, 2), "c": sample(100, 3)})
    assert t > THRESHOLD
    assert "b" in where
    assert largest_t({"a": sample(100, 1), "b": sample(100, 4), "c": sample(100, 3)})[0] < THRESHOLD


def test_the_statistic_is_welchs() -> None:
    assert welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(-2 / (1 / 3 + 4 / 3) ** 0.5)
    assert welch([1.0, 1.0], [1.0, 1.0]) == 0.0
    assert welch([1.0, 1.0], [2.0, 2.0]) == -float("inf")


def test_the_experiment_runs_on_the_host() -> None:
    """What it finds there is printed by the bench, not asserted: the host's path promises less (docs/gpu.md)."""
    pytest.importorskip("numba")
    found = run("adam", 1 << 15, 4, torch.device("cpu"))
    assert found["path"] == "numba"
    assert set(found["median_us"]) == {"zero", "saturated", "alternating", "random", "sparse"}


@GPU
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_on_a_gpu_no_difference_is_seen(name: str) -> None:
    environment = {n: x for n, x in os.environ.items() if n != "TRITON_INTERPRET"} | {"USE_TRITON": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.constant_time", "--statement", name, "--device", "cuda"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert "by triton," in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout
