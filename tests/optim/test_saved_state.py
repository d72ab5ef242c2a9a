"""Saving and restoring: exact to the last integer, or refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.optim.models import MAKERS, mlp, parameter, train, weights  # noqa: E402
from zk_autograd.errors import UsageError  # noqa: E402

NAMES = sorted(MAKERS)


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """``state`` through a file, as a checkpoint does it: no pickled code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_a_run_restored_half_way_equals_the_uninterrupted_run_bit_for_bit(name: str) -> None:
    model = mlp()
    optimizer = MAKERS[name](model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    train(model, optimizer, range(1, 6), scheduler)
    saved = stored({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
    train(model, optimizer, range(6, 11), scheduler)

    other = mlp(seed=99)
    restored = MAKERS[name](other.parameters())
    again = torch.optim.lr_scheduler.StepLR(restored, step_size=3, gamma=0.5)
    restored.load_state_dict(saved["optimizer"])
    again.load_state_dict(saved["scheduler"])
    assert restored.step_count == 5
    train(other, restored, range(6, 11), again)
    assert torch.equal(weights(other), weights(model))
    mine, theirs = restored.state_arrays(), optimizer.state_arrays()
    assert all(np.array_equal(mine[n], theirs[n]) for n in theirs)
    assert restored.last_step.public == optimizer.last_step.public


def test_the_saved_integers_are_exact_where_floats_are_not() -> None:
    p = parameter(1.0)
    optimizer = MAKERS["adam"]([p], lr=1e-6)
    for _ in range(3):
        p.grad = torch.tensor([0.3])
        optimizer.step()
    entry = optimizer.state_dict()["state"][0]
    assert {n: x.dtype for n, x in entry.items()} == dict.fromkeys("wmv", torch.int64)
    assert entry["w"].item() == optimizer.state_arrays()["w"][0]
    assert int(p.double().item() * 2**optimizer.format.scale_w) != entry["w"].item()


def test_a_saved_state_does_not_change_with_the_optimizer() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer, range(1, 3))
    saved = optimizer.state_dict()
    before = saved["state"][0]["w"].clone()
    train(model, optimizer, range(3, 5))
    assert torch.equal(saved["state"][0]["w"], before)


def test_frozen_parameters_have_no_saved_state_and_covered_ones_keep_theirs() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer, range(1, 3))
    saved = optimizer.state_dict()
    assert set(saved["state"]) == {2, 3}
    optimizer.load_state_dict(stored(saved))
    train(model, optimizer, range(3, 4))
    assert optimizer.step_count == 3


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("clip", 0.25, "clip"),
        ("logrows", 15, "logrows"),
        ("max_lr", 2e-2, "max_lr"),
        ("betas", (0.8, 0.999), "hyper"),
    ],
)
def test_the_state_of_another_format_is_refused(option: str, value: Any, said: str) -> None:
    saved = MAKERS["adam"](mlp().parameters()).state_dict()
    with pytest.raises(UsageError, match=f"the saved state has {said}"):
        MAKERS["adam"](mlp().parameters(), **{option: value}).load_state_dict(saved)


def test_the_state_of_another_statement_is_refused() -> None:
    saved = MAKERS["sgd"](mlp().parameters()).state_dict()
    with pytest.raises(UsageError, match="statement 'sgd', this optimizer has 'momentum'"):
        MAKERS["momentum"](mlp().parameters()).load_state_dict(saved)


def test_the_state_of_torchs_own_optimizer_is_refused() -> None:
    with pytest.raises(UsageError, match="no fixed-point optimizer's state"):
        MAKERS["adam"](mlp().parameters()).load_state_dict(torch.optim.Adam(mlp().parameters()).state_dict())


def test_the_state_of_other_parameters_is_refused_and_changes_nothing() -> None:
    saved = MAKERS["adam"]([parameter(1.0, 2.0), parameter(3.0)]).state_dict()
    for params in (
        [parameter(1.0, 2.0)],
        [parameter(1.0), parameter(3.0, 2.0)],
        [parameter(0.0)] * 0 + [parameter(9.0)],
    ):
        optimizer = MAKERS["adam"](params)
        before = optimizer.state_arrays()["w"].copy()
        with pytest.raises(UsageError, match="saved state"):
            optimizer.load_state_dict(saved)
        assert np.array_equal(optimizer.state_arrays()["w"], before)


def test_floats_in_the_place_of_integers_are_refused() -> None:
    optimizer = MAKERS["adam"]([parameter(1.0)])
    saved = optimizer.state_dict()
    saved["state"][0]["m"] = saved["state"][0]["m"].double()
    with pytest.raises(UsageError, match="has no m of shape"):
        optimizer.load_state_dict(saved)
