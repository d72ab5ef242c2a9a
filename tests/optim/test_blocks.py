"""Blocks: each stretch of parameters in a format of its own, calibrated on the first batches."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from schemas.ranges import ITEM_CAPS  # noqa: E402
from tests.optim.models import MAKERS, loss, mlp, parameter, train, weights  # noqa: E402
from zk_autograd.errors import FormatError, UsageError  # noqa: E402
from zk_autograd.fixed_point import Format  # noqa: E402
from zk_autograd.optim import SGD, Adam, blocks  # noqa: E402
from zk_autograd.proofs import shard_size  # noqa: E402
from zk_autograd.proofs.base import PROFILES  # noqa: E402

NAMES = sorted(MAKERS)


def uneven(scales: tuple[float, ...] = (1.0, 2.0**-6, 2.0**-12), size: int = 8) -> tuple[Any, Any]:
    """A parameter of some stretches whose gradients are of these sizes, and what computes them."""
    p = torch.nn.Parameter(torch.zeros(len(scales) * size))
    factors = torch.tensor(scales).repeat_interleave(size)

    def closure(batch: int) -> None:
        generator = torch.Generator().manual_seed(batch)
        p.grad = (torch.rand(len(p), generator=generator) - 0.5) * factors

    return p, closure


@pytest.mark.parametrize("name", NAMES)
def test_calibration_gives_every_block_the_format_its_gradients_need(name: str) -> None:
    p, closure = uneven()
    optimizer = MAKERS[name]([p])
    assert len(optimizer.blocks) == 1
    optimizer.calibrate(closure, 5, headroom=2.0, block=8)
    assert [b.count for b in optimizer.blocks] == [8, 8, 8]
    largest = torch.zeros(24)
    for batch in range(1, 6):
        closure(batch)
        largest = torch.maximum(largest, p.grad.abs())
    for i, block in enumerate(optimizer.blocks):
        most = float(largest[8 * i : 8 * i + 8].max())
        assert 1.99 * most <= block.format.clip / 2.0**block.format.scale_g <= 4 * most
    if "l2" not in name:  # the decay of weights needs room in the gradient's range
        finer = [b.format.scale_g - a.format.scale_g for a, b in pairwise(optimizer.blocks)]
        assert finer == ([6, 1] if "wide" in name else [6, 6])  # there is no finer scale than 2^30
    closure(1)
    optimizer.step()
    assert optimizer.last_step.underflow == 0
    assert len(optimizer.last_step.public) == 3


def test_without_blocks_small_gradients_round_to_zero_and_with_blocks_they_do_not() -> None:
    lost = []
    for block in (None, 8):
        p, closure = uneven()
        optimizer = Adam([p], lr=1e-3)
        optimizer.calibrate(closure, 5, block=block)
        closure(1)
        optimizer.step()
        lost.append((optimizer.last_step.underflow, optimizer.last_step.rounding))
    assert lost[0][0] > 0
    assert lost[1][0] == 0
    assert 0 < lost[1][1] <= lost[0][1]


def test_neighbours_of_one_format_are_one_block_and_groups_stay_apart() -> None:
    p, closure = uneven((1.0, 0.9, 0.95, 2.0**-8, 2.0**-8, 1.0))
    other = parameter(*[0.0] * 5)

    def both(batch: int) -> None:
        closure(batch)
        other.grad = torch.full((5,), 0.4)

    optimizer = SGD([{"params": [p]}, {"params": [other]}], lr=0.01)
    optimizer.calibrate(both, 2, block=8)
    assert [(b.group, b.count) for b in optimizer.blocks] == [(0, 24), (0, 16), (0, 8), (1, 5)]
    assert optimizer.blocks[2].format == optimizer.blocks[3].format


def test_the_same_batches_give_the_same_formats_and_no_step_is_taken() -> None:
    made = []
    for _ in range(2):
        model = mlp()
        optimizer = Adam(model.parameters(), lr=1e-3)
        begun = weights(model)
        optimizer.calibrate(lambda batch, model=model: loss(model, batch).backward(), 3, block=16)
        assert optimizer.step_count == 0
        assert not optimizer.state_arrays()["m"].any()
        assert torch.allclose(weights(model), begun, atol=2.0**-18)
        assert all(p.grad is None for p in model.parameters())
        made.append(optimizer.blocks)
    assert made[0] == made[1]
    assert sum(b.count for b in made[0]) == 67
    assert all(b.count % 16 == 0 for b in made[0][:-1])


def test_a_block_without_gradients_keeps_the_declared_bound() -> None:
    p, closure = uneven((0.0, 0.01))
    optimizer = SGD([p], lr=0.01, clip=0.25)
    declared = optimizer.format
    optimizer.calibrate(closure, 2, block=8)
    assert optimizer.blocks[0].format == declared
    assert optimizer.blocks[1].format.scale_g > declared.scale_g


def test_gradients_above_the_declared_bound_get_room() -> None:
    p, closure = uneven((40.0,))
    optimizer = SGD([p], lr=1e-3)
    optimizer.calibrate(closure, 3)
    closure(1)
    optimizer.step()
    assert optimizer.last_step.saturated == 0


def test_vanishing_gradients_do_not_ask_for_more_than_the_finest_scale() -> None:
    p, closure = uneven((1e-30,))
    for make, finest in ((Adam, 30), (SGD, 29)):
        optimizer = make([p], lr=1e-3)
        optimizer.calibrate(closure, 1)
        assert optimizer.format.scale_g == finest  # SGD's rate would have too few units
        assert optimizer.format.clip > 1000


def test_formats_are_chosen_before_the_first_step_only() -> None:
    model = mlp()
    optimizer = Adam(model.parameters())
    train(model, optimizer, range(1, 2))
    with pytest.raises(UsageError, match="before the first step"):
        optimizer.calibrate(lambda _: None, 1)


@pytest.mark.parametrize("change", [{"batches": 0}, {"headroom": 0.5}, {"headroom": float("inf")}, {"block": 0}])
def test_arguments_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    p, closure = uneven()
    with pytest.raises(UsageError, match="expected batches and block of at least 1"):
        Adam([p]).calibrate(closure, **{"batches": 1, **change})


def test_a_gradient_that_is_not_finite_is_no_measure() -> None:
    p, _ = uneven()

    def closure(batch: int) -> None:
        p.grad = torch.full_like(p, float("nan"))

    optimizer = Adam([p])
    before = optimizer.blocks
    with pytest.raises(FormatError, match="not finite"):
        optimizer.calibrate(closure, 1)
    assert optimizer.blocks == before


def test_a_state_brings_its_calibrated_formats_and_goes_on_exactly() -> None:
    p, closure = uneven()
    q, closure_q = uneven()
    optimizer, restored = Adam([p], lr=1e-3), Adam([q], lr=1e-3)
    optimizer.calibrate(closure, 3, block=8)
    for step in range(1, 4):
        closure(step)
        optimizer.step()
    restored.load_state_dict(optimizer.state_dict())
    assert restored.blocks == optimizer.blocks
    for step in range(4, 7):
        closure(step)
        closure_q(step)
        optimizer.step()
        restored.step()
    assert torch.equal(p, q)
    assert restored.last_step.public == optimizer.last_step.public


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f["blocks"].pop(),
        lambda f: f["blocks"].reverse() or f["blocks"][0].__setitem__(0, 3),
        lambda f: f["blocks"][0].__setitem__(3, 99),
        lambda f: f["blocks"][0].append(1),
        lambda f: f["blocks"].append([0, 0, *f["blocks"][0][2:]]),
        lambda f: f["largest"].pop(),
        lambda f: f.pop("blocks"),
        lambda f: f["blocks"].__setitem__(0, 7),
    ],
)
def test_saved_formats_that_cannot_be_are_refused(change: Any) -> None:
    p, closure = uneven()
    optimizer = Adam([p], lr=1e-3)
    optimizer.calibrate(closure, 1, block=8)
    saved = optimizer.state_dict()
    change(saved["fixed_point"])
    with pytest.raises(UsageError, match="saved state has"):
        optimizer.load_state_dict(saved)


# How many blocks there may be.


def chosen(group: int, clip: float) -> Format:
    return Format(20, 20 - int(np.log2(clip)), 0, 1000)


def test_the_limits_are_those_of_the_events() -> None:
    assert (ITEM_CAPS["blocks"], ITEM_CAPS["public"]) == (blocks.MAX_BLOCKS, blocks.MAX_PUBLIC)
    assert ITEM_CAPS["shifts"] >= blocks.MAX_BLOCKS


@pytest.mark.parametrize("integers", [1, 2, 7, 9])
def test_more_blocks_than_a_run_may_declare_are_merged_to_the_coarser_format(integers: int) -> None:
    rng = np.random.default_rng(4)
    found = [blocks.Piece(i // 2500, 10, 2.0 ** -int(rng.integers(0, 8))) for i in range(5000)]
    made = blocks.merged(found, integers, chosen)
    limit = min(1024, 8192 // integers)
    assert limit / 8 < len(made) <= limit
    start = 0
    for block in made:
        inside = found[start // 10 : (start + block.count) // 10]
        assert {piece.group for piece in inside} == {block.group}
        assert block.format == chosen(block.group, max(piece.clip for piece in inside))
        start += block.count
    assert start == 50_000


def test_few_blocks_are_not_merged() -> None:
    found = [blocks.Piece(0, 10, 2.0 ** (i % 3)) for i in range(30)]
    assert [b.count for b in blocks.merged(found, 7, chosen)] == [10] * 30


def test_groups_alone_may_be_too_many() -> None:
    with pytest.raises(UsageError, match="1100 parameter groups"):
        blocks.merged([blocks.Piece(i, 1, 1.0) for i in range(1100)], 2, chosen)


# The statistics.


def test_the_rounding_error_is_the_share_of_the_gradients_norm_that_was_lost_over_all_blocks() -> None:
    p, closure = uneven(size=2000)
    optimizer = Adam([p], lr=1e-3)
    optimizer.calibrate(closure, 2, block=2000, headroom=1.0)
    closure(7)
    p.grad[5], p.grad[4500], p.grad[4501] = 3.0, 1e-9, 0.0
    real = p.grad.double().numpy().copy()
    optimizer.step()
    done = optimizer.last_step
    kept = np.concatenate(
        [done.g[2000 * i : 2000 * (i + 1)] / 2.0**b.format.scale_g for i, b in enumerate(optimizer.blocks)]
    )
    assert done.rounding == pytest.approx(np.linalg.norm(real - kept) / np.linalg.norm(real), rel=1e-9)
    assert 0.05 < done.rounding < 0.2
    assert done.saturated == 1
    assert done.underflow == np.count_nonzero((kept == 0) & (real != 0)) > 0


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.0], 0.0), ([1e-30, 0.0], 1.0), ([0.5, 0.25], 0.0), ([1e300, 1e300], 1.0)]
)
def test_the_rounding_error_is_from_0_to_1(values: list[float], expected: float) -> None:
    p = parameter(0.0, 0.0, dtype=torch.float64)
    optimizer = SGD([p], lr=0.01)
    p.grad = torch.tensor(values, dtype=torch.float64)
    optimizer.step()
    assert optimizer.last_step.rounding == expected


def test_the_shard_size_is_known_without_a_circuit() -> None:
    assert shard_size("adam") > shard_size("adam", "small") > 1000
    assert shard_size("sgd", "small") > shard_size("adam", "small")
    with pytest.raises(UsageError, match="unknown optimizer"):
        shard_size("none")
    assert set(PROFILES) >= {"small", "default"}
