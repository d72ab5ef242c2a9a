"""Arguments that make no sense end in one of ``zk_autograd.errors``."""

from __future__ import annotations

import math

import pytest
import torch

from zk_autograd.errors import ZkAutogradError
from zk_autograd.optim import Adam


def made() -> tuple[torch.nn.Linear, Adam]:
    model = torch.nn.Linear(3, 1).double()
    return model, Adam(model.parameters(), lr=1e-3)


@pytest.mark.parametrize("headroom", [0.0, -1.0, math.nan])
def test_rescale_with_a_headroom_that_is_none(headroom: float) -> None:
    model, optimizer = made()
    (model(torch.ones(1, 3).double()).sum() * 1e-3).backward()
    optimizer.step()
    with pytest.raises(ZkAutogradError):
        optimizer.rescale(headroom=headroom)


def test_calibrate_with_a_finite_gradient_that_is_huge() -> None:
    model, optimizer = made()

    def closure(_: int) -> None:
        model(torch.full((1, 3), 1e308, dtype=torch.float64)).sum().backward()

    with pytest.raises(ZkAutogradError):
        optimizer.calibrate(closure, 1)
