"""Dropped into a training loop, the optimizers behave as torch's do, and refuse what no proof could cover."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.optim.models import MAKERS, loss, mlp, parameter, train, weights  # noqa: E402
from zk_autograd.errors import FormatError, UsageError  # noqa: E402
from zk_autograd.optim import SGD, Adam, AdamW  # noqa: E402
from zk_autograd.statement import Ops  # noqa: E402

NAMES = sorted(MAKERS)


def unchanged(optimizer: Any, act: Any) -> None:
    """Calls ``act`` and holds that it left integers, weights, step count and record as they were."""
    flat = [p for group in optimizer.param_groups for p in group["params"]]
    before, record = {n: x.copy() for n, x in optimizer.state_arrays().items()}, optimizer.last_step
    seen, count = [p.detach().clone() for p in flat], optimizer.step_count
    act()
    assert all(np.array_equal(x, before[n]) for n, x in optimizer.state_arrays().items())
    assert all(torch.equal(p, old) for p, old in zip(flat, seen, strict=True))
    assert (optimizer.step_count, optimizer.last_step) == (count, record)


def refuses(optimizer: Any, error: type[Exception], said: str) -> None:
    """A step raises ``error`` and changes nothing."""

    def act() -> None:
        with pytest.raises(error, match=said):
            optimizer.step()

    unchanged(optimizer, act)


# Gradients.


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_finite_is_refused_by_name_and_changes_nothing(name: str, bad: float) -> None:
    model = mlp()
    optimizer = MAKERS[name](model.named_parameters())
    train(model, optimizer, range(1, 3))
    loss(model, 3).backward()
    model[2].weight.grad[1, 4] = bad
    refuses(optimizer, FormatError, r"gradient of 2\.weight is not finite \(element 12\)")
    model[2].weight.grad[1, 4] = 0.0
    optimizer.step()
    assert optimizer.step_count == 3


def test_large_gradients_are_clipped_and_counted() -> None:
    p = parameter(0.0, 0.0, 0.0, 0.0, 0.0)
    optimizer = MAKERS["adam"]([p], clip=0.5)
    unit = 2.0**-optimizer.format.scale_g
    top = optimizer.format.clip
    p.grad = torch.tensor([1e30, -0.6, top * unit, (top + 0.4) * unit, -(top + 0.6) * unit])
    optimizer.step()
    record = optimizer.last_step
    assert record is not None
    assert record.g.tolist() == [top, -top, top, top, -top]
    assert (record.saturated, record.underflow, record.limited) == (3, 0, 0)


def test_gradients_that_round_to_zero_are_counted_and_true_zeros_are_not() -> None:
    p = parameter(0.0, 0.0, 0.0, 0.0, 0.0)
    optimizer = MAKERS["adam"]([p])
    unit = 2.0**-optimizer.format.scale_g
    p.grad = torch.tensor([0.0, 0.49 * unit, -0.5 * unit, 0.5 * unit, 1e-40])
    optimizer.step()
    record = optimizer.last_step
    assert record is not None
    assert record.g.tolist() == [0, 0, 0, 1, 0]
    assert (record.saturated, record.underflow, record.limited) == (0, 3, 0)


def far_moments(optimizer: Any, m: int) -> None:
    """Loads a state whose first element has a large moment over a root of zero, as no run of the format makes."""
    saved = optimizer.state_dict()
    saved["state"][0]["m"][0], saved["state"][0]["v"][0] = m, 0
    optimizer.load_state_dict(saved)


def test_a_step_that_would_leave_the_table_takes_a_zero_gradient_and_is_counted() -> None:
    p = parameter(0.5, 0.5)
    optimizer = MAKERS["adam"]([p])
    p.grad = torch.zeros(2)
    optimizer.step()
    # The smallest moment that fits alone, but not with the gradient on top of it, which v does not feel yet.
    fmt, P = optimizer.format, optimizer.P
    public = optimizer.statement.public_integers(optimizer.hyper, 1e-2, 2, fmt, P)

    def fits(m: int, g: int) -> bool:
        post, _ = optimizer.statement.advance({"w": 0, "m": m, "v": 0}, g, public, P, Ops(math.isqrt, max))
        return -(P // 2) <= -post["w"] < P // 2

    m = next(m for m in range(P) if fits(m, 0) and not fits(m, 9))
    far_moments(optimizer, m)
    p.grad = torch.tensor([9.0, 9.0]) * 2.0**-optimizer.format.scale_g
    optimizer.step()
    record = optimizer.last_step
    assert record is not None
    assert (record.limited, record.g.tolist()) == (1, [0, 9])
    assert abs(int((record.post["w"] - record.pre["w"])[0])) < optimizer.P // 2


def test_a_step_that_does_not_fit_even_without_gradients_is_refused_and_changes_nothing() -> None:
    p = parameter(0.5, 0.5)
    optimizer = MAKERS["adam"]([p])
    p.grad = torch.zeros(2)
    optimizer.step()
    far_moments(optimizer, optimizer.P)
    refuses(optimizer, FormatError, "1 parameters do not fit a table of 65528")


def test_gradients_add_up_over_several_backward_passes() -> None:
    once, twice = mlp(), mlp()
    optimizers = [MAKERS["adam"](m.parameters()) for m in (once, twice)]
    (loss(once, 1) + loss(once, 2)).backward()
    loss(twice, 1).backward()
    loss(twice, 2).backward()
    for optimizer in optimizers:
        optimizer.step()
    records = [optimizer.last_step for optimizer in optimizers]
    assert np.abs(records[0].g - records[1].g).max() <= 1
    assert np.abs(records[0].g).max() > 100


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    model, twin = mlp(), mlp()
    optimizer, other = MAKERS["adam"](model.parameters()), MAKERS["adam"](twin.parameters())

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss(model, 1)
        value.backward()
        return value

    returned = optimizer.step(closure)
    train(twin, other, range(1, 2))
    assert returned.item() == loss(mlp_at_start(), 1).item()
    assert torch.equal(weights(model), weights(twin))


def mlp_at_start() -> Any:
    """The model as the optimizer first saw it: rounded to the format."""
    model = mlp()
    MAKERS["adam"](model.parameters())
    return model


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad_works_as_in_torch(to_none: bool) -> None:
    model = mlp()
    optimizer = MAKERS["sgd"](model.parameters())
    loss(model, 1).backward()
    optimizer.zero_grad(set_to_none=to_none)
    grads = [p.grad for p in model.parameters()]
    assert all(g is None for g in grads) if to_none else not any(bool(g.any()) for g in grads)


# Missing gradients and frozen parameters.


def test_a_missing_gradient_is_an_error_that_says_what_to_do() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.named_parameters())
    loss(model, 1).backward()
    model[0].bias.grad = None
    refuses(optimizer, UsageError, r'0\.bias has no gradient.*requires_grad=False.*missing_grad="zero"')


def test_a_missing_gradient_may_be_taken_as_zero() -> None:
    given, missing = parameter(1.0, -1.0), parameter(1.0, -1.0)
    optimizers = [MAKERS["adam"]([given]), MAKERS["adam"]([missing], missing_grad="zero")]
    for step in range(4):
        given.grad = torch.ones(2) if step == 0 else torch.zeros(2)
        missing.grad = torch.ones(2) if step == 0 else None
        for optimizer in optimizers:
            optimizer.step()
    assert all(np.array_equal(x, optimizers[1].state_arrays()[n]) for n, x in optimizers[0].state_arrays().items())


def test_frozen_parameters_are_no_part_of_the_state() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    before = model[0].weight.detach().clone()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer, range(1, 4))
    assert optimizer.parameter_count == 27
    assert torch.equal(model[0].weight, before)


def test_a_parameter_unfrozen_later_is_refused() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = MAKERS["adam"](model.named_parameters())
    model[0].requires_grad_(True)
    loss(model, 1).backward()
    refuses(optimizer, UsageError, r"0\.weight was frozen when the optimizer was made")


def test_a_parameter_frozen_later_is_refused_as_missing() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.named_parameters())
    model[0].requires_grad_(False)
    loss(model, 1).backward()
    refuses(optimizer, UsageError, r"0\.weight has no gradient")


def test_sparse_gradients_are_refused() -> None:
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = MAKERS["sgd"](table.parameters())
    table(torch.tensor([1, 2])).sum().backward()
    refuses(optimizer, UsageError, "sparse")


# Learning rates and hyper-parameters.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=6),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (step + 1)),
    ],
    ids=["step", "cosine", "lambda"],
)
def test_schedulers_set_the_rate_of_each_step(name: str, schedule: Any) -> None:
    model, twin = mlp(), mlp()
    optimizer, peer = (
        MAKERS[name](model.parameters()),
        torch.optim.SGD(twin.parameters(), lr=MAKERS[name]([parameter(0.0)]).max_lr),
    )
    scheduler, other = schedule(optimizer), schedule(peer)
    rates = []
    for step in range(1, 6):
        rates.append(float(peer.param_groups[0]["lr"]))
        train(model, optimizer, range(step, step + 1), scheduler)
        peer.step()
        other.step()
        record = optimizer.last_step
        assert record is not None
        assert record.rates == (rates[-1],)
        args = (optimizer.hyper, rates[-1], step, optimizer.format, optimizer.P)
        assert record.public[0].A == optimizer.statement.public_integers(*args).A
    assert len(set(rates)) > 2


def test_a_rate_above_the_largest_declared_is_refused_with_both_named() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.parameters(), lr=1e-3, max_lr=2e-3)
    optimizer.param_groups[0]["lr"] = 2e-3
    train(model, optimizer, range(1, 2))
    optimizer.param_groups[0]["lr"] = 2.1e-3
    refuses(optimizer, FormatError, r"0\.0021.*max_lr 0\.002")


@pytest.mark.parametrize("lr", [-1e-3, math.nan, math.inf])
def test_what_is_no_rate_is_refused(lr: float) -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.parameters())
    loss(model, 1).backward()
    optimizer.param_groups[0]["lr"] = lr
    refuses(optimizer, FormatError, "learning rate")


def test_a_tensor_may_be_the_rate() -> None:
    model, twin = mlp(), mlp()
    a, b = Adam(model.parameters(), lr=torch.tensor(0.5**10)), Adam(twin.parameters(), lr=0.5**10)
    train(model, a, range(1, 3))
    train(twin, b, range(1, 3))
    assert torch.equal(weights(model), weights(twin))


def test_groups_with_one_set_of_hyper_parameters_are_one_run() -> None:
    model, twin = mlp(), mlp()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-2}]
    a, b = MAKERS["adam"](groups), MAKERS["adam"](twin.parameters())
    for optimizer, m in ((a, model), (b, twin)):
        train(m, optimizer, range(1, 4), torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5))
    assert torch.equal(weights(model), weights(twin))


def test_hyper_parameters_that_change_under_way_are_refused() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.parameters())
    loss(model, 1).backward()
    optimizer.param_groups[0]["betas"] = (0.85, 0.999)
    refuses(optimizer, UsageError, "betas is .*cycle_momentum=False")


def test_one_cycle_works_without_cycling_momentum() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.parameters(), max_lr=1e-2)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=8, cycle_momentum=False)
    train(model, optimizer, range(1, 7), one_cycle)
    assert optimizer.step_count == 6


# What a proof cannot cover.


def test_weights_changed_by_hand_are_noticed_and_may_begin_a_new_run() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.named_parameters())
    train(model, optimizer, range(1, 4))
    model[2].bias.data[0] += 2.0**-15
    loss(model, 4).backward()
    with pytest.raises(UsageError, match=r"2\.bias was changed outside.*requantize"):
        optimizer.step()
    optimizer.requantize()
    assert optimizer.step_count == 0
    assert optimizer.last_step is None
    assert not optimizer.state_arrays()["m"].any()
    optimizer.step()
    assert optimizer.last_step.step == 1


def test_a_model_converted_after_the_optimizer_was_made_is_noticed() -> None:
    model = mlp()
    optimizer = MAKERS["sgd"](model.named_parameters())
    model.double()
    loss_of = model(torch.zeros(1, 4, dtype=torch.float64)).sum()
    loss_of.backward()
    with pytest.raises(UsageError, match=r"0\.weight is now torch\.float64.*before making the optimizer"):
        optimizer.step()


def test_parameters_cannot_be_added_later() -> None:
    optimizer = MAKERS["adam"]([parameter(0.0)])
    with pytest.raises(UsageError, match="make a new one"):
        optimizer.add_param_group({"params": [parameter(1.0)]})


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (lambda: [torch.zeros(2)], "no parameter requires a gradient"),
        (lambda: [torch.nn.Parameter(torch.zeros(0))], "no parameter requires a gradient"),
        (lambda: [torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))], "real numbers"),
    ],
)
def test_parameters_that_cannot_be_trained_are_refused(params: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        MAKERS["adam"](params())


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**40])
def test_an_initial_weight_that_does_not_fit_is_refused_by_name(value: float) -> None:
    with pytest.raises(FormatError, match=r"parameter 0 of shape \(2,\) holds a weight .*element 1"):
        MAKERS["adam"]([parameter(1.0, value)])


@pytest.mark.parametrize("word", ["foreach", "capturable", "differentiable", "fused"])
@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_options_of_torch_that_no_statement_covers_are_unknown(kind: Any, word: str) -> None:
    with pytest.raises(TypeError, match=word):
        kind([parameter(0.0)], **{word: True})


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_without_momentum_or_with_dampening_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="nesterov"):
        SGD([parameter(0.0)], nesterov=True, **options)


def test_dampening_without_momentum_is_refused() -> None:
    with pytest.raises(UsageError, match="without momentum"):
        SGD([parameter(0.0)], dampening=0.5)


@pytest.mark.parametrize(("option", "value"), [("missing_grad", "skip"), ("logrows", 30), ("logrows", 4)])
def test_options_outside_their_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=option):
        MAKERS["adam"]([parameter(0.0)], **{option: value})


def test_a_rate_that_no_format_fits_is_refused_with_the_largest_that_fits() -> None:
    with pytest.raises(FormatError, match="the largest that fits"):
        Adam([parameter(0.0)], lr=5.0)


def test_what_a_run_declares_can_be_read_off() -> None:
    adam, sgd, momentum = (MAKERS[n]([parameter(0.0)], logrows=15) for n in ("adam", "sgd", "momentum"))
    assert [o.statement.name for o in (adam, sgd, momentum)] == ["adam", "sgd", "momentum"]
    assert adam.hyper == {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert (sgd.hyper, momentum.hyper) == ({}, {"momentum": 0.9, "dampening": 0.0})
    assert adam.P == 2**15 - 8
    assert adam.format == adam.statement.choose_format(adam.hyper, 1e-2, 1.0, adam.P)
