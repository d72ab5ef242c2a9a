"""The torch optimizers' integers are those of the integer reference, bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

torch = pytest.importorskip("torch")

from tests.optim.models import MAKERS, mlp, parameter, train, weights  # noqa: E402
from tests.statement.runs import OPS, Step, outside  # noqa: E402
from zk_autograd.fixed_point import rounding_offset  # noqa: E402
from zk_autograd.optim import advance  # noqa: E402
from zk_autograd.statement import STATEMENTS  # noqa: E402

NAMES = sorted(MAKERS)


@pytest.mark.parametrize("name", NAMES)
@given(data=some.data())
@settings(deadline=None, max_examples=30)
def test_every_step_is_the_references_step_bit_for_bit(name: str, data: some.DataObject) -> None:
    rng = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    shapes = data.draw(some.lists(some.sampled_from([(1,), (3, 5), (2, 2, 2), ()]), min_size=1, max_size=3))
    logrows = data.draw(some.sampled_from([12, 15, 16]))
    params = [torch.nn.Parameter(torch.tensor(rng.normal(0, 2, s), dtype=torch.float32)) for s in shapes]
    optimizer = MAKERS[name](params, lr=1e-3, logrows=logrows)
    st, P, fmt, hyper = optimizer.statement, optimizer.P, optimizer.format, optimizer.hyper
    state = optimizer.state_arrays()
    for number in range(1, data.draw(some.integers(1, 8)) + 1):
        optimizer.param_groups[0]["lr"] = lr = float(rng.uniform(0, 1e-3))
        for p in params:
            p.grad = torch.tensor(rng.normal(0, 10.0 ** rng.uniform(-6, 1), tuple(p.shape)), dtype=torch.float32)
        optimizer.step()
        done = optimizer.last_step
        assert done is not None

        real = np.concatenate([p.grad.numpy().reshape(-1) for p in params]).astype(np.float64) * 2.0**fmt.scale_g
        g = np.floor(real + 0.5).clip(-fmt.clip, fmt.clip).astype(np.int64)
        assert np.array_equal(done.g, g)
        public = st.public_integers(hyper, lr, number, fmt, P)
        post, hints = st.advance(state, g, public, P, OPS)
        assert (done.step, done.rates, done.public) == (number, (lr,), (public,))
        for got, expected in ((done.pre, state), (done.post, post), (done.hints, hints)):
            assert set(got) == set(expected)
            assert all(got[n].dtype == np.int64 and np.array_equal(got[n], expected[n]) for n in expected)
        assert not outside(st, Step(public, done.pre, done.g, done.post, done.hints), P).any()
        state = post


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_the_image_of_the_integers(name: str) -> None:
    model = mlp()
    optimizer = MAKERS[name](model.parameters())
    for first in (1, 6):
        image = optimizer.state_arrays()["w"] / 2.0**optimizer.format.scale_w
        assert np.array_equal(weights(model).numpy(), image.astype(np.float32))
        train(model, optimizer, range(first, first + 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_of_other_precisions_hold_the_image_rounded_to_theirs(dtype: torch.dtype) -> None:
    wide, other = parameter(0.1, -0.7), parameter(0.3, 1 / 3, dtype=dtype)
    optimizer = MAKERS["adam"]([wide, other])
    for _ in range(3):
        wide.grad, other.grad = torch.ones_like(wide), -torch.ones_like(other)
        optimizer.step()
    w = torch.tensor(optimizer.state_arrays()["w"]) / 2.0**optimizer.format.scale_w
    assert torch.equal(other.detach(), w.double()[2:].to(dtype))
    assert torch.equal(wide.detach(), w[:2].float())


def test_initial_weights_are_rounded_to_the_format_with_halves_up() -> None:
    scale = MAKERS["adam"]([parameter(0.0)]).format.scale_w
    unit = 2.0**-scale
    p = parameter(2.5 * unit, -2.5 * unit, 2.49 * unit, 0.0)
    assert MAKERS["adam"]([p]).state_arrays()["w"].tolist() == [3, -2, 2, 0]
    assert p.tolist() == [3 * unit, -2 * unit, 2 * unit, 0.0]


def test_the_state_is_flat_in_the_order_of_the_groups() -> None:
    a, b, c = parameter(1.0, 2.0), parameter(3.0), parameter(4.0)
    optimizer = MAKERS["sgd"]([{"params": [b]}, {"params": [a, c]}])
    assert (optimizer.state_arrays()["w"] / 2.0 ** optimizer.blocks[0].format.scale_w).tolist() == [3.0, 1.0, 2.0, 4.0]
    assert optimizer.parameter_count == 4


def test_a_parameter_that_is_not_contiguous_keeps_its_elements_in_their_places() -> None:
    straight = torch.arange(6.0).reshape(2, 3)
    turned = torch.nn.Parameter(straight.t().contiguous().t())
    assert not turned.is_contiguous()
    plain = torch.nn.Parameter(straight.clone())
    optimizers = [MAKERS["adam"]([p]) for p in (plain, turned)]
    for p, optimizer in zip((plain, turned), optimizers, strict=True):
        p.grad = torch.arange(6.0).reshape(2, 3) - 2
        optimizer.step()
    assert torch.equal(plain.detach(), turned.detach())
    assert np.array_equal(optimizers[0].state_arrays()["w"], optimizers[1].state_arrays()["w"])


def test_a_record_stays_as_it_is_when_the_optimizer_goes_on_and_cannot_be_written() -> None:
    model = mlp()
    optimizer = MAKERS["adam"](model.parameters())
    train(model, optimizer, range(1, 3))
    record = optimizer.last_step
    assert record is not None
    post = {n: x.copy() for n, x in record.post.items()}
    train(model, optimizer, range(3, 5))
    later = optimizer.last_step
    assert later is not None
    assert later.step == 4
    assert all(np.array_equal(record.post[n], post[n]) for n in post)
    with pytest.raises(ValueError, match="read-only"):
        record.post["w"][0] = 1


def test_one_steps_state_after_is_the_next_steps_state_before() -> None:
    model = mlp()
    optimizer = MAKERS["momentum"](model.parameters())
    train(model, optimizer, range(1, 2))
    first = optimizer.last_step
    train(model, optimizer, range(2, 3))
    second = optimizer.last_step
    assert first is not None and second is not None  # noqa: PT018
    assert all(np.shares_memory(first.post[n], second.pre[n]) for n in first.post)


@pytest.mark.parametrize("name", NAMES)
def test_working_in_chunks_changes_nothing(name: str) -> None:
    st, P = STATEMENTS[name], 2**16 - 8
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, P)
    generator = torch.Generator().manual_seed(3)
    size = advance.CHUNK * 2 + 17
    g = torch.randint(-fmt.clip, fmt.clip + 1, (size,), generator=generator)
    pre = {n: torch.randint(-999, 999, (size,), generator=generator) for n in st.state}
    if "v" in pre:
        pre["v"] = torch.randint(10**5, 10**8, (size,), generator=generator)
    pub = st.public_integers(st.defaults, 1e-3, 5, fmt, P)
    done = advance.advance(st, pre, g, pub, P)
    post, hints = st.advance(pre, g, pub, P, advance.OPS)
    assert all(torch.equal(done.post[n], post[n]) for n in post)
    assert all(torch.equal(done.hints[n], hints[n]) for n in hints)


@given(root=some.integers(0, 2**26 - 1), around=some.sampled_from([-1, 0, 1]))
@settings(deadline=None, max_examples=300)
def test_square_roots_are_exact_on_both_sides_of_every_square(root: int, around: int) -> None:
    x = max(0, root * root + around)
    assert advance.isqrt(torch.tensor([x])).tolist() == [math.isqrt(x)]


@pytest.mark.parametrize("top", [2**16, 2**24, 2**26])
def test_square_roots_are_exact_for_a_long_run_of_the_largest_squares(top: int) -> None:
    k = torch.arange(top - 200_000 if top > 200_000 else 1, top)
    for around, expected in ((-1, k - 1), (0, k), (1, k)):
        wrong = advance.isqrt(k * k + around) != expected
        assert not bool(wrong[k > 1].any())


def test_a_rate_of_zero_leaves_weights_as_they_are_under_plain_sgd() -> None:
    model = mlp()
    optimizer = MAKERS["sgd"](model.parameters(), lr=0.0, max_lr=0.1)
    before = weights(model)
    train(model, optimizer, range(1, 4))
    assert torch.equal(weights(model), before)


def test_offsets_of_the_record_follow_the_step_number() -> None:
    model = mlp()
    optimizer = MAKERS["sgd"](model.parameters())
    for step in (1, 2, 3):
        train(model, optimizer, range(step, step + 1))
        assert optimizer.last_step is not None
        assert optimizer.last_step.public[0].r == rounding_offset(step, optimizer.P)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_definition_says_makes_the_statement_makes_it(name: str) -> None:
    assert MAKERS[name](mlp().parameters()).statement.name == name
