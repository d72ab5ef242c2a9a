"""Attacks on an optimizer by tensors that are not what they seem: no error but the project's own, and no other step."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from zk_autograd.errors import UsageError  # noqa: E402
from zk_autograd.optim.rules import Adam  # noqa: E402

COUNT = 1 << 16
"""Enough for the kernels of the CPU."""


def test_a_gradient_that_has_yet_to_be_negated() -> None:
    """What: a lazily negated view as a gradient. Why: it is contiguous, and its memory holds the other sign; reading it
    for the kernels ended in torch's RuntimeError. Where: ``FlatParameters._readable``."""
    found = []
    for lazy in (False, True):
        p = torch.nn.Parameter(torch.linspace(-1, 1, COUNT))
        optimizer = Adam([p], lr=1e-3)
        gradient = torch.linspace(-0.01, 0.02, COUNT)
        p.grad = torch._neg_view(gradient) if lazy else -gradient
        assert p.grad.is_neg() == lazy
        optimizer.step()
        found.append(p.detach().clone())
    assert torch.equal(*found)


def test_a_parameter_whose_elements_are_one() -> None:
    """What: an expanded tensor as a parameter. Why: writing to it ended in torch's RuntimeError. Where:
    ``FlatParameters``, when the optimizer is made."""
    with pytest.raises(UsageError, match="share memory"):
        Adam([torch.nn.Parameter(torch.zeros(1).expand(8))], lr=1e-3)
