"""Memory is used again only when nobody can see it any more."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.optim.models import MAKERS  # noqa: E402
from zk_autograd.optim.buffers import LEAST, Buffers  # noqa: E402


def address(x: Any) -> int:
    found: int = x.data_ptr()
    return found


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x[5:9],
        lambda x: x.view(2, -1)[1],
        lambda x: x.numpy(),
        lambda x: x.numpy()[3:4].view(np.uint8),
        lambda x: x.detach(),
        lambda x: memoryview(x.numpy()),
    ],
    ids=["tensor", "slice", "view", "array", "bytes", "detached", "memoryview"],
)
def test_memory_with_a_view_is_not_lent_again(view: Any) -> None:
    buffers = Buffers(LEAST)
    first = buffers.empty(torch.int64)
    where, held = address(first), view(first)
    del first
    gc.collect()
    second = buffers.empty(torch.int64)
    assert address(second) != where
    del held
    gc.collect()
    assert address(buffers.empty(torch.int64)) == where


def test_a_record_stays_as_it_is_while_steps_go_on_in_used_memory() -> None:
    pytest.importorskip("numba")
    p = torch.nn.Parameter(torch.linspace(-1, 1, LEAST))
    optimizer = MAKERS["momentum"]([p], lr=1e-3)
    assert optimizer.path.name == "numba"
    kept = []
    for step in range(8):
        p.grad = torch.full_like(p, 0.01 * (step - 3))
        optimizer.step()
        done = optimizer.last_step
        assert done is not None
        kept.append((done, {n: x.clone() for n, x in done.tensors["post"].items()}, done.tensors["work"]["g"].clone()))
        if step % 3 == 2:
            del kept[0]
    for done, post, g in kept:
        assert all(torch.equal(done.tensors["post"][n], x) for n, x in post.items())
        assert torch.equal(done.tensors["work"]["g"], g)
