"""Numba's kernels, and Triton's under its interpreter, take the reference's steps, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

torch = pytest.importorskip("torch")
pytest.importorskip("numba", reason="numba is not installed: pip install 'zk-autograd[train]'")
pytest.importorskip("triton", reason="triton is not installed: pip install 'zk-autograd[gpu]'")

from tests.kernels.agreeing import NAMES, adam_at_edges, hold, honest, refused  # noqa: E402
from zk_autograd.host_kernels.gradient import TILE  # noqa: E402
from zk_autograd.optim.fused import Kernels  # noqa: E402
from zk_autograd.optim.gpu import TritonKernels  # noqa: E402
from zk_autograd.optim.host import HostKernels  # noqa: E402
from zk_autograd.optim.layout import DIRECT  # noqa: E402

ADAMS = [name for name in NAMES if "adam" in name or "amsgrad" in name]
EDGE_CASES = [(name, A, E) for name in ADAMS for A, E in ((1, 1), (7, 1), (1009, 77), (32771, 1), (131071, 77))]


def kernels(kind: str, n: int, name: str = "adam") -> Kernels:
    return HostKernels(n, means=name in ADAMS) if kind == "numba" else TritonKernels(n, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["numba", "triton"])
@pytest.mark.parametrize("name", NAMES)
@given(data=some.data())
@settings(deadline=None, max_examples=12)
def test_a_step_is_the_references_step_bit_for_bit(kind: str, name: str, data: some.DataObject) -> None:
    rng = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    logrows = data.draw(some.sampled_from([12, 15, 16] + [17] * (kind == "triton")))
    step, n = (
        data.draw(some.sampled_from([1, 2, 3, 50, 5000])),
        data.draw(some.sampled_from([1, 1023, TILE - 1, TILE, TILE + 1, DIRECT, 3 * TILE + 7])),
    )
    dtype = data.draw(some.sampled_from([torch.float32, torch.float64]))
    case = honest(name, logrows, step, dtype, rng, n)
    if not refused(case, kernels(kind, n, name)):
        hold(case, kernels(kind, n, name))


@pytest.mark.parametrize("kind", ["numba", "triton"])
@pytest.mark.parametrize("P", [2**12 - 8, 2**15 - 8, 2**16 - 8])
@pytest.mark.parametrize(("name", "A", "E"), EDGE_CASES)
def test_quotients_and_roots_are_exact_at_every_edge(kind: str, P: int, name: str, A: int, E: int) -> None:
    case = adam_at_edges(name, P, A, E, np.random.default_rng(P + A))
    own = kernels(kind, 4096)
    if not refused(case, own):
        hold(case, own)


@pytest.mark.parametrize("P", [2**17 - 8, 2**20 - 8])
@pytest.mark.parametrize("name", ["adam", "amsgradw"])
def test_quotients_and_roots_of_larger_tables_are_exact_under_triton(P: int, name: str) -> None:
    case = adam_at_edges(name, P, 1009, 77, np.random.default_rng(P))
    own = kernels("triton", 4096)
    if not refused(case, own):
        hold(case, own)


@pytest.mark.parametrize("kind", ["numba", "triton"])
def test_the_edge_cases_are_mostly_steps_that_kernels_decide(kind: str) -> None:
    """Or the tests above would show little."""
    own = kernels(kind, 4096)
    found = [adam_at_edges(*case[:1], 2**16 - 8, *case[1:], np.random.default_rng(1)) for case in EDGE_CASES]
    assert sum(case.decided(own) for case in found) >= len(found) // 2


@pytest.mark.parametrize("kind", ["numba", "triton"])
@pytest.mark.parametrize("name", ["adam", "amsgradw"])
def test_a_step_that_leaves_the_table_by_one_is_left_to_the_reference(kind: str, name: str) -> None:
    own = kernels(kind, 4096)
    within, beyond = (adam_at_edges(name, 2**16 - 8, 65537, 1, np.random.default_rng(3), x) for x in (False, True))
    assert within.decided(own)
    assert not beyond.decided(own)


@pytest.mark.parametrize("kind", ["numba", "triton"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_that_is_not_finite_is_left_to_the_reference(kind: str, bad: float, dtype: str) -> None:
    case: Any = honest("adam", 16, 3, getattr(torch, dtype), np.random.default_rng(0), 2048)
    case.gradients[1500] = bad
    assert not case.decided(kernels(kind, 2048))


@pytest.mark.parametrize("kind", ["numba", "triton"])
@pytest.mark.parametrize(
    ("name", "value"), [("m", 2**31), ("m", -(2**31) - 1), ("v", 2**40), ("v", -(2**31)), ("h", 2**15), ("m", 2**62)]
)
def test_a_state_that_no_run_has_is_left_to_the_reference(kind: str, name: str, value: int) -> None:
    case = honest("amsgrad", 16, 3, torch.float32, np.random.default_rng(0), 1024)
    case.pre[name][77] = value
    assert not case.decided(kernels(kind, 1024))


@pytest.mark.parametrize("name", ["b1", "c1", "b2", "c2", "A"])
def test_public_integers_too_large_for_exact_floats_are_left_to_the_reference(name: str) -> None:
    case = honest("adam", 16, 3, torch.float32, np.random.default_rng(0), 1024)
    assert case.decided(kernels("numba", 1024)) or name == "A"
    case.public[name] = 1 << 36
    assert not case.decided(kernels("numba", 1024))


@pytest.mark.parametrize("name", ["adamw", "adam-l2", "sgd-l2", "momentum-l2", "nesterov-l2"])
def test_weights_whose_decay_is_no_exact_float_are_left_to_the_reference(name: str) -> None:
    case = honest(name, 16, 3, torch.float32, np.random.default_rng(0), 1024)
    for decay in ("V", "W"):
        if decay in case.public:
            case.public[decay] = 1 << 10
    case.pre["w"][:] = 0
    assert case.decided(kernels("numba", 1024))
    case.pre["w"][5] = 1 << 48
    assert not case.decided(kernels("numba", 1024))
