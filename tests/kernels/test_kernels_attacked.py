"""Attacks on the kernels: what a user can do to parameters, gradients and saved states, on either path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba", reason="numba is not installed: pip install 'zk-autograd[train]'")

from tests.kernels.test_paths import path  # noqa: E402
from tests.optim.models import MAKERS  # noqa: E402
from zk_autograd.optim.layout import DIRECT  # noqa: E402

COUNTS = [100, DIRECT + 9]
"""Elements of a parameter whose gradient kernels see a copy of, and of one whose own memory they see."""


def run(by: str, make: Callable[[], Any], steps: Callable[[Any], None]) -> list[Any]:
    """Everything that the last step of a run on this path has to show."""
    with path(by):
        optimizer = make()
    assert optimizer.path.name == by
    steps(optimizer)
    done = optimizer.last_step
    arrays = {**done.post, **done.hints, "g": done.g}
    (p,) = optimizer.param_groups[0]["params"]
    counts = done.saturated, done.underflow, done.limited
    return [{n: x.tolist() for n, x in arrays.items()}, counts, optimizer._largest, p.tolist()]


@pytest.mark.parametrize("count", COUNTS)
def test_gradients_finer_than_their_parameters_are_not_rounded_on_the_way(count: int) -> None:
    """``grad_dtype`` lets a float32 parameter have a float64 gradient: here just below halves, which float32 lacks."""

    def steps(optimizer: Any) -> None:
        (p,) = optimizer.param_groups[0]["params"]
        if not hasattr(p, "grad_dtype"):
            pytest.skip("this torch has no grad_dtype")
        p.grad_dtype = torch.float64
        unit = 2.0 ** -optimizer.blocks[0].format.scale_g
        p.grad = (torch.arange(count, dtype=torch.float64) % 300 + 0.5 - 2.0**-40) * unit
        optimizer.step()

    def make() -> Any:
        return MAKERS["adam"]([torch.nn.Parameter(torch.zeros(count))])

    assert run("numba", make, steps) == run("torch", make, steps)


@pytest.mark.parametrize("clip", [32_767, 32_768, 1 << 20])
def test_a_saved_bound_that_16_bits_do_not_hold_does_not_wrap_gradients_round(clip: int) -> None:
    """Kernels keep gradients in 16 bits. A run's own formats have bounds that fit; a saved state may say anything."""

    def steps(optimizer: Any) -> None:
        (p,) = optimizer.param_groups[0]["params"]
        p.grad = torch.zeros_like(p)
        optimizer.step()
        saved = optimizer.state_dict()
        block = saved["fixed_point"]["blocks"][0]
        block[2], block[5] = 12, clip
        optimizer.load_state_dict(saved)
        p.grad = torch.linspace(-1, 1, len(p)) * (clip + 2) * 2.0 ** -block[3]
        optimizer.step()

    def make() -> Any:
        return MAKERS["adam"]([torch.nn.Parameter(torch.zeros(1000))])

    assert run("numba", make, steps) == run("torch", make, steps)


def test_memory_that_is_not_aligned_is_read_and_written_as_any_other() -> None:
    count = COUNTS[1]

    def steps(optimizer: Any) -> None:
        (p,) = optimizer.param_groups[0]["params"]
        p.grad = torch.frombuffer(bytearray(4 * count + 4), dtype=torch.float32, count=count, offset=1)
        for step in range(3):
            p.grad.copy_(torch.sin(torch.arange(count) * (step + 1.0)))
            optimizer.step()

    def make() -> Any:
        p = torch.frombuffer(bytearray(4 * count + 4), dtype=torch.float32, count=count, offset=3)
        p.copy_(torch.linspace(-1, 1, count))
        return MAKERS["adam"]([torch.nn.Parameter(p)])

    assert run("numba", make, steps) == run("torch", make, steps)


def test_a_gradient_that_is_the_parameters_own_memory_is_read_before_that_is_written() -> None:
    def steps(optimizer: Any) -> None:
        (p,) = optimizer.param_groups[0]["params"]
        for _ in range(3):
            p.grad = p.detach()
            optimizer.step()

    def make() -> Any:
        return MAKERS["adam"]([torch.nn.Parameter(torch.linspace(-1, 1, COUNTS[1]))])

    assert run("numba", make, steps) == run("torch", make, steps)
