"""Scales that change during a run: weights follow torch's at least as closely as without, and nothing is lost."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bench.accuracy import data  # noqa: E402
from tests.optim.models import MAKERS, loss, mlp, parameter, train, weights  # noqa: E402
from zk_autograd.errors import FormatError, UsageError  # noqa: E402
from zk_autograd.optim import SGD, Adam  # noqa: E402
from zk_autograd.optim.rescale import wanted_shift  # noqa: E402
from zk_autograd.statement import STATEMENTS  # noqa: E402

NAMES = [name for name in sorted(MAKERS) if STATEMENTS[name].rescales is not None]


def quiet(name: str, steps: int = 20, **options: Any) -> tuple[Any, Any]:
    """A parameter, and an optimizer that has met gradients far below its bound."""
    p = parameter(*np.linspace(-1, 1, 32).tolist())
    optimizer = MAKERS[name]([p], **options)
    for step in range(steps):
        small(p, step)
        optimizer.step()
    return p, optimizer


def small(p: Any, step: int, size: float = 2.0**-8) -> None:
    generator = torch.Generator().manual_seed(step)
    p.grad = (torch.rand(p.shape, generator=generator) - 0.5) * 2 * size


@pytest.mark.parametrize("name", NAMES)
def test_a_change_is_made_with_the_next_step_and_recorded_with_it(name: str) -> None:
    p, optimizer = quiet(name)
    before = optimizer.format
    (shift,) = optimizer.rescale()
    assert shift > 0
    assert optimizer.format == before
    small(p, 99)
    optimizer.step()
    done = optimizer.last_step
    assert done.shifts == (shift,)
    assert optimizer.format.scale_g == before.scale_g + shift
    assert optimizer.format.scale_w == before.scale_w
    assert 0.99 * before.clip < optimizer.format.clip <= before.clip or "l2" in name
    st, hyper = optimizer.statement, optimizer.hyper
    known = st.resolution(hyper, type(optimizer._spans[0].known)(), 21, shift, optimizer.P)
    assert done.public == (st.step_integers(hyper, done.rates[0], 21, optimizer.format, optimizer.P, shift, known),)
    small(p, 100)
    optimizer.step()
    assert optimizer.last_step.shifts == ()
    assert optimizer.last_step.public != done.public


@pytest.mark.parametrize("name", NAMES)
def test_the_step_is_the_one_that_would_have_been_taken_without_the_change(name: str) -> None:
    moved = []
    for change in (False, True):
        p, optimizer = quiet(name)
        if change:
            assert any(optimizer.rescale())
        before = p.detach().clone()
        small(p, 99)
        optimizer.step()
        moved.append(p.detach() - before)
    assert float((moved[0] - moved[1]).norm()) < 0.2 * float(moved[0].norm())


def test_small_gradients_are_resolved_after_a_change() -> None:
    p, optimizer = quiet("adam", lr=1e-3)
    small(p, 50, 2.0**-15)
    optimizer.step()
    lost = optimizer.last_step.underflow
    optimizer.rescale()
    small(p, 50, 2.0**-15)
    optimizer.step()
    assert lost > 3 * optimizer.last_step.underflow
    assert optimizer.last_step.saturated == 0


@pytest.mark.parametrize("steps", [150])
def test_a_run_whose_gradients_shrink_ends_nearer_to_torchs_with_changes_than_without(steps: int) -> None:
    x, y = data()

    def moved(make: Any, epoch: int = 0) -> tuple[Any, float, int]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
        optimizer, underflow = make(model.parameters()), 0
        for step in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            if epoch and step and step % epoch == 0:
                optimizer.rescale()
            optimizer.step()
            underflow += optimizer.last_step.underflow if epoch >= 0 and hasattr(optimizer, "last_step") else 0
        final = float(torch.nn.functional.cross_entropy(model(x), y).detach())
        return weights(model), final, underflow

    theirs, loss_theirs, _ = moved(lambda p: torch.optim.Adam(p, lr=1e-2))
    plain, loss_plain, lost_plain = moved(lambda p: Adam(p, lr=1e-2))
    changed, loss_changed, lost_changed = moved(lambda p: Adam(p, lr=1e-2), epoch=25)
    assert lost_changed < lost_plain / 2
    assert float((changed - theirs).norm()) < 0.9 * float((plain - theirs).norm())
    assert abs(loss_changed / loss_theirs - 1) < abs(loss_plain / loss_theirs - 1)
    assert abs(loss_changed / loss_theirs - 1) < 0.02


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_gradients_that_were_clipped_ask_for_a_coarser_scale_where_there_is_one(name: str) -> None:
    p, optimizer = quiet(name)
    optimizer.rescale()
    small(p, 1)
    optimizer.step()
    finer = optimizer.format.scale_g
    small(p, 2, 1.0)
    optimizer.step()
    assert optimizer.last_step.saturated > 0
    total = 0
    for seed in range(3, 8):  # a few bits at once, so that the moments keep their memory
        (shift,) = optimizer.rescale()
        assert shift < 0
        total += shift
        small(p, seed, 0.5)
        optimizer.step()
        assert optimizer.format.scale_g == finer + total
        if not optimizer.last_step.saturated:
            return
    pytest.fail("gradients are clipped for ever")


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("amsgrad")])
def test_the_largest_root_forbids_a_coarser_scale(name: str) -> None:
    p, optimizer = quiet(name)
    small(p, 2, 8.0)
    optimizer.step()
    assert optimizer.last_step.saturated > 0
    assert optimizer.rescale() == (0,)
    with pytest.raises(FormatError, match="makes k 0"):
        optimizer.rescale([-1])


def test_roots_that_are_large_still_keep_the_scale_from_growing() -> None:
    p, optimizer = quiet("adam", 0)
    for step in range(3):
        small(p, step, 0.9)
        optimizer.step()
    optimizer.rescale()
    small(p, 5)  # small gradients, but the moments remember
    optimizer.step()
    (shift,) = optimizer.rescale()
    assert 0 <= shift < wanted_shift(2.0**-8, optimizer.format, 4.0)
    with pytest.raises(FormatError, match="out of a table"):
        optimizer.rescale([8])


def test_each_block_changes_on_its_own_and_a_dead_one_does_not() -> None:
    loud, soft, dead = parameter(0.0, 0.1), parameter(0.0, 0.1), parameter(0.0, 0.1)
    optimizer = SGD([{"params": [q]} for q in (loud, soft, dead)], lr=0.01, momentum=0.9)
    for _ in range(3):
        loud.grad, soft.grad, dead.grad = torch.full((2,), 0.5), torch.full((2,), 1e-3), torch.zeros(2)
        optimizer.step()
    before = [b.format.scale_g for b in optimizer.blocks]
    found = optimizer.rescale()
    assert found[0] == found[2] == 0 < found[1]
    optimizer.step()
    assert [b.format.scale_g for b in optimizer.blocks] == [b + k for b, k in zip(before, found, strict=True)]


def test_a_step_that_does_not_fit_with_its_change_is_taken_without() -> None:
    p, optimizer = quiet("adam")
    optimizer.rescale()
    staged = optimizer._shifts
    assert staged
    saved = optimizer.state_dict()
    saved["state"][0]["v"][0] = 2**29  # a root that fits as it is, and not in finer units
    optimizer.load_state_dict(saved)
    small(p, 9)
    optimizer.step()
    assert optimizer.last_step.shifts == ()
    assert optimizer._shifts == ()
    assert optimizer.step_count == 21


def test_a_run_restored_between_the_decision_and_the_step_goes_on_exactly() -> None:
    model, other = mlp(), mlp(5)
    make = lambda m: Adam(m.parameters(), lr=1e-3, clip=8.0)  # noqa: E731
    optimizer, restored = make(model), make(other)
    train(model, optimizer, range(1, 6))
    assert any(optimizer.rescale())
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for m, o in ((model, optimizer), (other, restored)):
        train(m, o, range(6, 12))
        o.rescale()
        train(m, o, range(12, 14))
    assert torch.equal(weights(model), weights(other))
    assert restored.blocks == optimizer.blocks
    assert restored.last_step.public == optimizer.last_step.public


def test_a_new_beginning_forgets_changes() -> None:
    model = mlp()
    optimizer = Adam(model.parameters(), lr=1e-3, clip=8.0)
    train(model, optimizer, range(1, 6))
    optimizer.rescale()
    train(model, optimizer, range(6, 7))
    optimizer.requantize()
    loss(model, 1).backward()
    optimizer.step()
    st = optimizer.statement
    assert optimizer.last_step.public[0] == st.public_integers(optimizer.hyper, 1e-3, 1, optimizer.format, optimizer.P)


@pytest.mark.parametrize(
    ("shifts", "error", "said"),
    [
        ([1, 1], UsageError, "expected changes for 1 blocks, got 2"),
        ([9], FormatError, "at most 8 bits"),
        ([-8], FormatError, "b2"),
        ([30], FormatError, "scale_g"),
    ],
)
def test_changes_that_cannot_be_are_refused_and_none_is_made(shifts: list[int], error: Any, said: str) -> None:
    p, optimizer = quiet("adam")
    with pytest.raises(error, match=said):
        optimizer.rescale(shifts)
    small(p, 7)
    optimizer.step()
    assert optimizer.last_step.shifts == ()


def test_scales_do_not_change_before_the_first_step() -> None:
    with pytest.raises(UsageError, match="see calibrate"):
        Adam([parameter(0.0)]).rescale()
