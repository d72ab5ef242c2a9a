"""Parameter groups mean what they mean in torch; what one circuit cannot cover is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from producer.schedules import declare  # noqa: E402
from schemas.ranges import ITEM_CAPS  # noqa: E402
from tests.optim.models import mlp, parameter, train, weights  # noqa: E402
from tests.statement.runs import OPS, Step, outside  # noqa: E402
from zk_autograd.errors import FormatError, UsageError  # noqa: E402
from zk_autograd.optim import SGD, Adam, AdamW  # noqa: E402

OURS = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Adam", {"lr": 3e-3}, {"lr": 1e-3, "betas": (0.5, 0.99), "eps": 1e-4}),
    ("Adam", {"lr": 3e-3, "weight_decay": 0.05}, {"lr": 5e-3}),
    ("Adam", {"lr": 3e-3, "amsgrad": True}, {"lr": 1e-3, "amsgrad": True, "weight_decay": 0.05}),
    ("AdamW", {"lr": 3e-3, "weight_decay": 0.3}, {"lr": 1e-3, "weight_decay": 0.0}),
    ("SGD", {"lr": 0.03}, {"lr": 0.01}),
    ("SGD", {"lr": 0.03}, {"lr": 0.01, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.02, "momentum": 0.9}, {"lr": 0.01, "momentum": 0.5, "dampening": 0.2}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}, {"lr": 0.01, "momentum": 0.8, "nesterov": True}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "maximize": True}, {"lr": 0.01, "momentum": 0.9, "maximize": True}),
]


def grouped(model: Any, first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    """The first layer, and the second."""
    return [{"params": model[0].parameters(), **first}, {"params": model[2].parameters(), **second}]


@pytest.mark.parametrize(("name", "first", "second"), CASES)
def test_weights_follow_torchs_with_the_same_groups(name: str, first: Any, second: Any) -> None:
    model, twin, swapped = mlp(), mlp(), mlp()
    begun = weights(model)
    train(model, OURS[name](grouped(model, first, second)), range(1, 151))
    train(twin, getattr(torch.optim, name)(grouped(twin, first, second)), range(1, 151))
    train(swapped, getattr(torch.optim, name)(grouped(swapped, second, first)), range(1, 151))
    theirs = weights(twin) - begun
    distance = float((weights(model) - weights(twin)).norm() / theirs.norm())
    assert distance < 0.02
    assert float((weights(swapped) - weights(twin)).norm() / theirs.norm()) > 5 * distance, "groups make no difference"


@pytest.mark.parametrize(("name", "first", "second"), CASES)
def test_every_block_is_the_references_step_with_its_own_integers(name: str, first: Any, second: Any) -> None:
    model = mlp()
    optimizer = OURS[name](grouped(model, {**first, "clip": 0.5}, {**second, "clip": 0.05}))
    st, P, blocks = optimizer.statement, optimizer.P, optimizer.blocks
    assert [(b.group, b.count) for b in blocks] == [(0, 40), (1, 27)]
    assert blocks[0].format != blocks[1].format
    for number in range(1, 5):
        train(model, optimizer, range(number, number + 1))
        done = optimizer.last_step
        assert done is not None
        assert done.rates == (first["lr"], second["lr"])
        image = []
        for i, (block, part) in enumerate(zip(blocks, (slice(0, 40), slice(40, 67)), strict=True)):
            rate = (first, second)[i]["lr"]
            expected = st.public_integers(optimizer.groups[i], rate, number, block.format, P)
            assert done.public[i] == expected
            pre, g = {n: x[part] for n, x in done.pre.items()}, done.g[part]
            post, hints = st.advance(pre, g, expected, P, OPS)
            for got, wanted in ((done.post, post), (done.hints, hints)):
                assert all(np.array_equal(got[n][part], wanted[n]) for n in wanted)
            assert not outside(st, Step(expected, pre, g, post, hints), P).any()
            image.append(post["w"] / 2.0**block.format.scale_w)
        assert np.array_equal(weights(model).numpy(), np.concatenate(image).astype(np.float32))


@pytest.mark.parametrize("make", [AdamW, Adam, SGD])
def test_a_group_without_decay_does_not_decay_beside_one_that_does(make: Any) -> None:
    still, falling = parameter(1.0, -0.5), parameter(1.0, -0.5)
    optimizer = make([{"params": [still], "weight_decay": 0.0}, {"params": [falling], "weight_decay": 0.1}], lr=1e-3)
    for _ in range(200):
        still.grad, falling.grad = torch.zeros(2), torch.zeros(2)
        optimizer.step()
    assert still.tolist() == [1.0, -0.5]
    assert falling[0] < 0.99
    assert optimizer.groups[0]["weight_decay"] == 0.0
    assert all(optimizer.last_step.public[0].get(key, 0) == 0 for key in "WV")


@pytest.mark.parametrize(
    ("make", "first", "second", "said"),
    [
        (Adam, {"amsgrad": True}, {"amsgrad": False}, "group 1 needs the statement 'adam', group 0 'amsgrad'"),
        (SGD, {"momentum": 0.9}, {"momentum": 0.0}, "group 1 needs the statement 'sgd', group 0 'momentum'"),
        (SGD, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9}, "'momentum', group 0 'nesterov'.*one circuit"),
        (SGD, {"momentum": 0.9, "weight_decay": 0.1}, {}, "'sgd-l2', group 0 'momentum-l2'"),
        (Adam, {"maximize": True}, {}, "group 1 has another maximize"),
    ],
)
def test_groups_that_one_circuit_cannot_prove_are_refused(make: Any, first: Any, second: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make([{"params": [parameter(0.0)], **first}, {"params": [parameter(1.0)], **second}])


def test_more_groups_than_a_run_can_declare_are_refused() -> None:
    assert ITEM_CAPS["groups"] == ITEM_CAPS["rates"] == 16
    make = lambda count: SGD([{"params": [parameter(0.0)]} for _ in range(count)])  # noqa: E731
    assert len(make(16).groups) == 16
    with pytest.raises(UsageError, match="at most 16 parameter groups, got 17"):
        make(17)


def test_a_group_of_frozen_parameters_only_is_refused() -> None:
    frozen = torch.nn.Parameter(torch.zeros(3), requires_grad=False)
    with pytest.raises(UsageError, match="group 1 has no parameter that requires a gradient"):
        Adam([{"params": [parameter(0.0)]}, {"params": [frozen]}])


def test_each_group_has_a_largest_rate_of_its_own() -> None:
    a, b = parameter(0.0), parameter(0.0)
    optimizer = SGD([{"params": [a], "max_lr": 0.2}, {"params": [b], "lr": 0.01}], lr=0.1)
    assert optimizer.max_lrs == [0.2, 0.01]
    a.grad, b.grad = torch.ones(1), torch.ones(1)
    optimizer.param_groups[0]["lr"] = 0.2
    optimizer.step()
    optimizer.param_groups[1]["lr"] = 0.02
    with pytest.raises(FormatError, match=r"0\.02 of parameter group 1 is not from 0 to max_lr 0\.01"):
        optimizer.step()
    assert optimizer.step_count == 1
    optimizer.param_groups[1]["lr"], optimizer.param_groups[1]["weight_decay"] = 0.01, 0.5
    with pytest.raises(UsageError, match=r"weight_decay of parameter group 1 is 0\.5 now"):
        optimizer.step()


@pytest.mark.parametrize("one", ["format", "hyper", "max_lr"])
def test_what_a_run_with_one_group_has_once_is_not_made_up_for_several(one: str) -> None:
    optimizer = SGD([{"params": [parameter(0.0)]}, {"params": [parameter(1.0)], "lr": 0.01, "clip": 0.1}])
    with pytest.raises(UsageError, match="it has 2"):
        getattr(optimizer, one)


@pytest.mark.parametrize("kind", ["constant", "cosine", "step"])
def test_one_schedule_a_group_is_declared_with_the_very_rates_that_the_run_uses(kind: str) -> None:
    model = mlp()
    optimizer = Adam(grouped(model, {"lr": 3e-3}, {"lr": 1e-3}))
    schedules, scheduler = declare(kind, optimizer, 8)
    assert [s.max_lr for s in schedules] == [3e-3, 1e-3]
    seen = set()
    for step in range(1, 9):
        train(model, optimizer, range(step, step + 1), scheduler)
        assert optimizer.last_step is not None
        for schedule, rate in zip(schedules, optimizer.last_step.rates, strict=True):
            schedule.check(step, rate)
        seen.add(optimizer.last_step.rates)
    assert (len(seen) > 1) == (kind != "constant")


def test_a_state_with_groups_is_restored_and_one_with_other_groups_refused() -> None:
    model, other = mlp(), mlp(3)
    first, second = {"lr": 3e-3, "clip": 0.2}, {"lr": 1e-3}
    optimizer = Adam(grouped(model, first, second))
    train(model, optimizer, range(1, 5))
    saved = optimizer.state_dict()
    restored = Adam(grouped(other, first, second))
    restored.load_state_dict(saved)
    for m, o in ((model, optimizer), (other, restored)):
        train(m, o, range(5, 8))
    assert torch.equal(weights(model), weights(other))
    with pytest.raises(UsageError, match="saved state has clip"):
        Adam(grouped(mlp(), first, {**second, "clip": 0.1})).load_state_dict(saved)
    with pytest.raises(UsageError, match="saved state has hyper"):
        Adam(grouped(mlp(), first, {**second, "eps": 1e-6})).load_state_dict(saved)
    model = mlp()
    moved = [
        {"params": [model[0].weight], **first},
        {"params": [model[0].bias, *model[2].parameters()], **second},
    ]
    with pytest.raises(UsageError, match=r"formats for \[40, 27\] parameters, expected \[32, 35\]"):
        Adam(moved).load_state_dict(saved)
