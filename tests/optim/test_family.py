"""Every option of torch's optimizers that is offered means what it means there."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.optim.models import mlp, parameter, train, weights  # noqa: E402
from zk_autograd.optim import SGD, Adam, AdamW  # noqa: E402

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {"lr": 3e-3}),
    ("Adam", {"lr": 3e-3, "weight_decay": 0.05}),
    ("Adam", {"lr": 3e-3, "amsgrad": True, "betas": (0.5, 0.9)}),
    ("Adam", {"lr": 3e-3, "amsgrad": True, "betas": (0.5, 0.9), "weight_decay": 0.05}),
    ("Adam", {"lr": 3e-3, "maximize": True}),
    ("AdamW", {"lr": 3e-3, "weight_decay": 0.3}),
    ("Adam", {"lr": 3e-3, "wide": True}),
    ("AdamW", {"lr": 3e-3, "weight_decay": 0.3, "wide": True}),
    ("AdamW", {"lr": 3e-3, "weight_decay": 0.3, "amsgrad": True, "betas": (0.5, 0.9)}),
    ("SGD", {"lr": 0.03}),
    ("SGD", {"lr": 0.03, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.02, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "maximize": True}),
]
OURS = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD}


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda x: x if isinstance(x, str) else ",".join(x))
def test_weights_follow_torchs_far_more_closely_than_without_the_option(name: str, options: dict[str, Any]) -> None:
    def moved(make: Any, **used: Any) -> Any:
        model = mlp()
        begun = weights(model)
        train(model, make(model.parameters(), **used), range(1, 151))
        return weights(model) - begun

    torchs = {word: value for word, value in options.items() if word != "wide"}
    theirs = moved(getattr(torch.optim, name), **torchs)
    distance = float((moved(OURS[name], **options) - theirs).norm() / theirs.norm())
    assert distance < 0.02
    for word in torchs.keys() - {"lr", "momentum", "betas"}:
        without = moved(getattr(torch.optim, name), **{**torchs, word: 0.0 if word != "nesterov" else False})
        assert float((without - theirs).norm() / theirs.norm()) > 3 * distance, f"the test does not see {word}"


@pytest.mark.parametrize(
    ("make", "per_step"),
    [
        (lambda p: AdamW(p, lr=1e-3, weight_decay=0.01), 1e-5),
        (lambda p: AdamW(p, lr=1e-3, weight_decay=0.3, amsgrad=True), 3e-4),
        (lambda p: SGD(p, lr=0.05, weight_decay=1e-3), 5e-5),
        (lambda p: SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-3), 1e-4),
        (lambda p: SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-3), 1e-4),
    ],
)
def test_a_weight_without_a_gradient_decays_at_the_declared_rate_however_small_its_share_of_a_unit(
    make: Any, per_step: float
) -> None:
    p = parameter(1.0, -0.5, 0.05)
    optimizer = make([p])
    for _ in range(2000):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    left = p.detach() / torch.tensor([1.0, -0.5, 0.05])
    # The moving average of a buffer lags ten steps behind.
    expected = math.exp(-2000 * per_step)
    assert torch.all((left - expected).abs() < 0.02 * (1 - expected) + 0.003)


def test_amsgrad_goes_on_dividing_by_the_largest_root_it_has_met() -> None:
    optimizer = Adam([parameter(0.0)], lr=1e-3, betas=(0.5, 0.9), amsgrad=True)
    (p,) = optimizer.param_groups[0]["params"]
    roots = []
    for step in range(60):
        p.grad = torch.tensor([0.9 if step == 3 else 0.001])
        optimizer.step()
        assert optimizer.last_step is not None
        roots.append(int(optimizer.last_step.hints["s"][0]))
        assert int(optimizer.state_arrays()["h"][0]) == max(roots)
    assert roots[-1] < max(roots) // 10
