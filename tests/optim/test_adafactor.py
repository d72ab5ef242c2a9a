"""Adafactor on torch tensors: the reference's integers tensor by tensor, torch's own nearby, and where tensors lie."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.optim.models import loss, mlp, train, weights  # noqa: E402
from tests.statement.runs import OPS  # noqa: E402
from zk_autograd.errors import FormatError, UsageError  # noqa: E402
from zk_autograd.optim import Adafactor  # noqa: E402
from zk_autograd.optim.layout import FlatParameters  # noqa: E402
from zk_autograd.statement import STATEMENTS  # noqa: E402

OPTIONS: list[dict[str, Any]] = [
    {"lr": 1e-2},
    {"lr": 3e-2, "beta2_decay": -0.5, "d": 2.0},
    {"lr": 1e-2, "eps": (1e-3, 1e-2)},
    {"lr": 1e-2, "maximize": True},
]


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, generator=generator) / 4) for s in shapes]


def graded(params: list[Any], seed: int, size: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = size * torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights_follow_torchs(options: dict[str, Any]) -> None:
    """A matrix in two shards, one that lies transposed, vectors as a row and as a column; also a mean below eps1."""
    shapes = (500, 16), (10, 30), (16,), (40,)

    def moved(make: Callable[[Any], Any]) -> list[Any]:
        params = tensors(*shapes)
        begun, optimizer = [p.detach().clone() for p in params], make(params)
        for step in range(60):
            graded(params, step, 0.1 if step < 30 else 0.01)
            optimizer.step()
        return [p.detach() - b for p, b in zip(params, begun, strict=True)]

    theirs = moved(lambda p: torch.optim.Adafactor(p, **options))
    ours = moved(lambda p: Adafactor(p, **options))
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 0.02
    # Moments of each element, as Adam's are, end elsewhere: the matrices' rows and columns are seen.
    adams = moved(lambda p: torch.optim.RMSprop(p, lr=1e-3, maximize=options.get("maximize", False)))
    for a, b in zip(adams[:2], theirs, strict=False):
        assert float((a / a.norm() - b / b.norm()).norm()) > 0.1


def test_weights_are_the_same_but_for_rounding_whatever_the_length_of_a_row() -> None:
    """docs/accuracy.md shows one row length for all three."""

    def moved(length: int) -> Any:
        model = mlp()
        begun = weights(model)
        groups = [{"params": list(model.parameters()), "row_length": length}]
        optimizer = Adafactor(groups, lr=1e-2)
        assert optimizer.statement.name == f"adafactor-{length}"
        train(model, optimizer, range(1, 61))
        return weights(model) - begun

    shortest = moved(16)
    assert all(float((moved(n) - shortest).norm() / shortest.norm()) < 1e-3 for n in (64, 256))


def test_gradients_below_eps1_are_scaled_as_torchs() -> None:
    params, others = tensors((20, 16)), tensors((20, 16))
    eps = (1e-5, 1e-3)  # 1e-3 is below its root, and above its power of 3/4
    ours = Adafactor(params, lr=1e-2, eps=eps, clip=0.01, d=16.0)
    theirs = torch.optim.Adafactor(others, lr=1e-2, eps=eps, d=16.0)
    begun = params[0].detach().clone()
    for step in range(20):
        for p, optimizer in ((params, ours), (others, theirs)):
            graded(p, step, 1e-3)
            optimizer.step()
    moved, expected = params[0].detach() - begun, others[0].detach() - begun
    assert float((moved - expected).norm() / expected.norm()) < 0.02


def test_every_tensor_takes_the_references_step_bit_for_bit() -> None:
    params = tensors((50, 16), (3, 5, 2), (16,), (16,), ())
    optimizer = Adafactor(params, lr=1e-2, logrows=12)
    P, st = optimizer.P, optimizer.statement
    assert st.name == "adafactor-16"
    assert [b.count % st.shard_of(P) for b in optimizer.blocks] == [0] * 5  # type: ignore[operator]
    assert [b.count // st.shard_of(P) for b in optimizer.blocks] == [3, 1, 1, 1, 1]  # type: ignore[operator]
    for number in range(1, 5):
        graded(params, number)
        pre = optimizer.state_arrays()
        optimizer.step()
        done = optimizer.last_step
        assert done is not None
        start = 0
        for block, public in zip(optimizer.blocks, done.public, strict=True):
            part = slice(start, start + block.count)
            start += block.count
            post, hints = st.advance({n: x[part] for n, x in pre.items()}, done.g[part], public, P, OPS)
            assert all(np.array_equal(post[n], done.post[n][part]) for n in st.state)
            assert all(np.array_equal(hints[n], done.hints[n][part]) for n in st.hints)


def test_tensors_lie_in_rows_and_padding_stays_zero() -> None:
    params = tensors((4, 3), (3, 40), (2, 2, 2), (20,), ())
    optimizer = Adafactor(params, lr=1e-2, logrows=12)
    graded(params, 1)
    optimizer.step()
    w, start = optimizer.state_arrays()["w"], 0
    for block, group in zip(optimizer.blocks, [g["params"] for g in optimizer.param_groups], strict=True):
        (p,) = group
        rows = w[start : start + block.count].reshape(-1, 16)
        start += block.count
        matrix = p.detach().reshape(p.shape[0], -1) if p.ndim > 1 else p.detach().reshape(1, -1)
        if matrix.shape[1] > 16:
            matrix = matrix.T
        held = rows[: matrix.shape[0], : matrix.shape[1]] / 2.0**block.format.scale_w
        assert np.array_equal(held.astype(np.float32), matrix.numpy())
        rest = rows.copy()
        rest[: matrix.shape[0], : matrix.shape[1]] = 0
        assert not rest.any()
        assert block.count % 336 == 0
    assert optimizer.parameter_count == sum(p.numel() for p in params)


def test_the_row_length_is_the_shortest_that_takes_every_tensor() -> None:
    for shapes, name in (
        (((8, 16), (500,)), "adafactor-16"), (((17, 99),), "adafactor-64"), (((16, 999), (65, 80)), "adafactor-256"),
    ):  # fmt: skip
        assert Adafactor(tensors(*shapes), lr=1e-3).statement.name == name
    with pytest.raises(UsageError, match="a side of up to 256, got 257"):
        Adafactor(tensors((300, 257)), lr=1e-3)


def test_groups_are_split_by_size_and_say_it() -> None:
    params = tensors((4, 4), (16,), (4, 4), (2, 8), (5,))
    frozen = tensors((9, 9))[0].requires_grad_(False)
    optimizer = Adafactor(
        [{"params": [*params[:4], frozen]}, {"params": params[4:], "lr": 2e-3}], lr=1e-3, max_lr=1e-2, logrows=12
    )
    assert [[tuple(p.shape) for p in g["params"]] for g in optimizer.param_groups] == [
        [(4, 4), (4, 4), (2, 8), (9, 9)], [(16,)], [(5,)],
    ]  # fmt: skip
    assert [h["size"] for h in optimizer.groups] == [16.0, 16.0, 5.0]
    assert [h["eps1"] for h in optimizer.groups] == [2.0**-23, 0.0, 0.0], "torch clamps no vector's mean"
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3, 1e-3, 2e-3]
    optimizer.param_groups[0]["size"] = 17
    graded(params, 1)
    with pytest.raises(UsageError, match="size of parameter group 0 is 17"):
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": 0.1}, "has no weight decay"), ({"d": 99.0}, "<= d <="),
        ({"eps": (None, 0.0)}, "eps2 above 0"),
        ({"beta2_decay": 0.8}, "beta2_decay <= 0"), ({"lr": 10.0}, "expected above 0, and at most"),
        ({"logrows": 9}, "too small for rows of 16"),
    ],
)  # fmt: skip
def test_what_it_cannot_express_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, FormatError), match=message):
        Adafactor(tensors((4, 4)), **options)


def test_more_sizes_than_groups_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 16 parameter groups, got 17"):
        Adafactor(tensors(*((i,) for i in range(1, 18))), lr=1e-3, logrows=12)


def test_a_restored_run_goes_on_with_the_same_integers(tmp_path: Any) -> None:
    def made() -> tuple[Any, Any]:
        model = mlp()
        return model, Adafactor(model.named_parameters(), lr=1e-2, logrows=12)

    model, optimizer = made()
    train(model, optimizer, range(1, 6))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    train(model, optimizer, range(6, 9))
    other, again = made()
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(other, again, range(6, 9))
    assert torch.equal(weights(model), weights(other))
    assert all(np.array_equal(x, again.state_arrays()[n]) for n, x in optimizer.state_arrays().items())
    wrong = Adafactor(tensors((8, 4), (8,), (3, 9), (3,)), lr=1e-2, logrows=12)
    with pytest.raises(UsageError, match="the saved state has hyper"):
        wrong.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))


def test_a_gradient_whose_step_leaves_the_table_is_dropped_and_counted() -> None:
    """A row that was silent for long, and one gradient in it: 200 times what the table takes."""
    (p,) = params = tensors((200, 16))
    optimizer = Adafactor(params, lr=1e-2, clip=0.5)
    for step in range(3):
        graded(params, step, 0.05)
        p.grad[7] = 0
        optimizer.step()
        assert optimizer.last_step is not None
        assert optimizer.last_step.limited == 0
    optimizer._step = 10**6  # so that one gradient hardly moves a moment
    graded(params, 9, 0.05)
    p.grad[7] = 0
    p.grad[7, 3] = 0.5
    before = p.detach().clone()
    optimizer.step()
    done = optimizer.last_step
    assert done is not None
    assert done.limited == 1
    assert torch.equal(p.detach()[7], before[7])
    assert not torch.equal(p.detach()[8], before[8])


def test_a_tensor_without_a_gradient_stays_where_it_is_if_that_counts_as_zero() -> None:
    params = tensors((4, 4), (3,))
    optimizer = Adafactor(params, lr=1e-2, logrows=12, missing_grad="zero")
    graded(params[:1], 1)
    before = params[1].detach().clone()
    optimizer.step()
    assert torch.equal(params[1].detach(), before)


def test_calibrated_formats_are_as_fine_as_the_gradients_allow() -> None:
    model = mlp()
    optimizer = Adafactor(model.named_parameters(), lr=1e-2, clip=64.0, logrows=12)
    coarse = [b.format.scale_g for b in optimizer.blocks]
    optimizer.calibrate(lambda batch: loss(model, batch).backward(), 3)
    assert all(b.format.scale_g > c for b, c in zip(optimizer.blocks, coarse, strict=True))
    train(model, optimizer, range(1, 4))


def test_flat_parameters_without_regions_are_as_they_were() -> None:
    params = [("a", torch.nn.Parameter(torch.ones(2, 3))), ("b", torch.nn.Parameter(torch.ones(4)))]
    flat = FlatParameters(params)
    assert flat.sizes == [6, 4]
    assert [tuple(x.shape) for x in flat.whole(torch.arange(10))] == [(2, 3), (4,)]
    assert STATEMENTS["adam"].region((2, 3), 100) is None
