"""LAMB on torch tensors: the reference's integers layer by layer, and a float LAMB after the paper nearby."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

torch = pytest.importorskip("torch")

from bench.float_peers import FloatLamb  # noqa: E402
from tests.optim.models import loss, mlp, parameter, train, weights  # noqa: E402
from tests.statement.runs import OPS, Step, outside  # noqa: E402
from zk_autograd.errors import UsageError  # noqa: E402
from zk_autograd.optim import Lamb, advance  # noqa: E402
from zk_autograd.statement import STATEMENTS, sum_of_squares  # noqa: E402

LAMB = STATEMENTS["lamb"]


OPTIONS: list[dict[str, Any]] = [
    {"lr": 1e-2},
    {"lr": 3e-2, "weight_decay": 0.3, "max_ratio": 1.0},
    {"lr": 3e-2, "weight_decay": 0.0, "max_ratio": 0.2 * 10, "betas": (0.8, 0.99)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights_follow_the_papers_in_floats_far_more_closely_than_without_the_ratio(options: dict[str, Any]) -> None:
    def moved(make: Any) -> Any:
        model = mlp()
        begun = weights(model)
        train(model, make(model.parameters()), range(1, 151))
        return weights(model) - begun

    theirs = moved(lambda p: FloatLamb(p, **options))
    distance = float((moved(lambda p: Lamb(p, **options)) - theirs).norm() / theirs.norm())
    assert distance < 0.02
    without = moved(lambda p: FloatLamb(p, layerwise=False, **options))
    assert float((without - theirs).norm() / theirs.norm()) > 5 * distance


def test_a_cap_that_is_reached_and_norms_of_zero_mean_what_they_say() -> None:
    """A bias that begins at 0 takes its first step at a ratio of 1; a large tensor is held by the cap."""
    values = {"bias": (0.0, 0.0, 0.0), "large": (8.0, -8.0, 8.0), "usual": (0.3, 0.1, -0.2)}
    pairs = [(parameter(*v), parameter(*v, dtype=torch.float64)) for v in values.values()]
    ours = Lamb([p for p, _ in pairs], lr=1e-2, max_ratio=2.0, weight_decay=0.0)
    theirs = FloatLamb([p for _, p in pairs], lr=1e-2, max_ratio=2.0, weight_decay=0.0)
    for step in range(3):
        for p, q in pairs:
            p.grad = torch.tensor([0.5, -0.25, 0.125 * (step + 1)])
            q.grad = p.grad.double()
        ours.step()
        theirs.step()
        if step == 0:
            assert theirs.ratios[0] == 1.0
            assert theirs.ratios[1] == 2.0
            assert theirs.ratios[2] < 1.0
            assert torch.allclose(pairs[0][0].abs(), torch.tensor(0.01), rtol=0.01)
        for p, q in pairs:
            assert torch.allclose(p.double(), q, rtol=5e-3, atol=2e-4)


@given(data=some.data())
@settings(deadline=None, max_examples=20)
def test_every_layer_takes_the_references_step_bit_for_bit(data: some.DataObject) -> None:
    rng = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    shapes = data.draw(some.lists(some.sampled_from([(1,), (3, 5), (2, 2, 2), ()]), min_size=1, max_size=3))
    params = [torch.nn.Parameter(torch.tensor(rng.normal(0, 1, s), dtype=torch.float32)) for s in shapes]
    optimizer = Lamb(params, lr=1e-3, logrows=data.draw(some.sampled_from([12, 15, 16])))
    P, hyper = optimizer.P, optimizer.groups[0]
    assert [b.count for b in optimizer.blocks] == [p.numel() for p in params]
    for number in range(1, data.draw(some.integers(1, 6)) + 1):
        optimizer.param_groups[0]["lr"] = lr = float(rng.uniform(0, 1e-3))
        for p in params:
            p.grad = torch.tensor(rng.normal(0, 10.0 ** rng.uniform(-6, 1), tuple(p.shape)), dtype=torch.float32)
        state = optimizer.state_arrays()
        optimizer.step()
        done = optimizer.last_step
        assert done is not None
        start = 0
        for block, public in zip(optimizer.blocks, done.public, strict=True):
            part = slice(start, start + block.count)
            start += block.count
            assert public == LAMB.public_integers(hyper, lr, number, block.format, P)
            pre = {n: x[part] for n, x in state.items()}
            post, hints = LAMB.advance(pre, done.g[part], public, P, OPS)
            assert all(np.array_equal(done.post[n][part], post[n]) for n in LAMB.state)
            assert all(np.array_equal(done.hints[n][part], hints[n]) for n in LAMB.hints)
            assert not outside(LAMB, Step(public, pre, done.g[part], post, hints), P).any()


def test_a_large_layer_is_worked_on_in_chunks_with_one_sum() -> None:
    count = advance.CHUNK + 5000
    rng = np.random.default_rng(3)
    p = torch.nn.Parameter(torch.tensor(rng.normal(0, 0.05, count), dtype=torch.float32))
    optimizer = Lamb([p], lr=1e-3)
    state = optimizer.state_arrays()
    p.grad = torch.tensor(rng.normal(0, 0.1, count), dtype=torch.float32)
    optimizer.step()
    done = optimizer.last_step
    assert done is not None
    post, hints = LAMB.advance(state, done.g, done.public[0], optimizer.P, OPS)
    assert all(np.array_equal(done.post[n], post[n]) for n in LAMB.state)
    sums = sum_of_squares(torch.tensor(state["w"])), sum_of_squares(done.tensors["hints"]["u"])
    assert sums == tuple(sum(x * x for x in values.tolist()) for values in (state["w"], hints["u"]))


def test_a_saved_state_goes_on_exactly_and_other_layers_are_refused() -> None:
    model, twin = mlp(), mlp()
    optimizer, other = Lamb(model.parameters(), lr=1e-2), Lamb(twin.parameters(), lr=1e-2)
    train(model, optimizer, range(1, 6))
    saved = optimizer.state_dict()
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(saved)
    train(model, optimizer, range(6, 12))
    train(twin, other, range(6, 12))
    assert torch.equal(weights(model), weights(twin))
    first, second, *rest = saved["fixed_point"]["blocks"]
    joined = [first[0], first[1] + second[1], *first[2:]]
    saved["fixed_point"] |= {"blocks": [joined, *rest], "largest": saved["fixed_point"]["largest"][1:]}
    with pytest.raises(UsageError, match="other layers"):
        other.load_state_dict(saved)


def test_calibration_keeps_layers_apart_and_changes_of_scale_are_refused() -> None:
    model = mlp()
    optimizer = Lamb(model.parameters(), lr=1e-2)

    def closure(batch: int) -> None:
        loss(model, batch).backward()

    optimizer.calibrate(closure, 2, block=7)
    assert [b.count for b in optimizer.blocks] == [p.numel() for p in model.parameters()]
    assert len({b.format for b in optimizer.blocks}) > 1
    train(model, optimizer, range(1, 4))
    with pytest.raises(Exception, match="cannot change"):
        optimizer.rescale([1, 0, 0, 0])
    assert not any(optimizer.rescale())
    train(model, optimizer, range(4, 6))


def test_a_layers_weights_move_by_the_rate_times_their_norm() -> None:
    model = mlp()
    optimizer = Lamb(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(1, 20):
        before = [p.detach().clone() for p in model.parameters()]
        train(model, optimizer, range(step, step + 1))
        for old, new in zip(before, model.parameters(), strict=True):
            expected = 1e-2 * float(old.norm())
            assert math.isclose(float((new.detach() - old).norm()), expected, rel_tol=0.02, abs_tol=2e-4)
