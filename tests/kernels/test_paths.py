"""Which code takes a run's steps, that it is said, and that the integers do not depend on it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba", reason="numba is not installed: pip install 'zk-autograd[train]'")
pytest.importorskip("triton", reason="triton is not installed: pip install 'zk-autograd[gpu]'")

from producer.cli import main  # noqa: E402
from tests.optim.models import MAKERS, loss, mlp, parameter  # noqa: E402
from tests.producer.training import Training, follow  # noqa: E402
from zk_autograd.errors import FormatError, UsageError  # noqa: E402
from zk_autograd.home import Home  # noqa: E402
from zk_autograd.optim import Lamb, fused, paths  # noqa: E402
from zk_autograd.optim.layout import DIRECT  # noqa: E402
from zk_autograd.optim.paths import choose_path  # noqa: E402
from zk_autograd.proofs.base import Circuit  # noqa: E402

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@contextmanager
def path(name: str) -> Iterator[None]:
    """Optimizers that are made here take their steps by this path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USE_TRITON", "1" if name == "triton-interpreter" else "0")
        patch.setattr(paths, "LEAST_PARAMETERS", 1 << 40 if name == "torch" else 1)
        yield


def steps_of(name: str, make: Callable[[Any], Any], model: Any, steps: int) -> list[dict[str, Any]]:
    """What a short run publishes of its steps, and its states, on one path."""
    with path(name):
        optimizer = make(model)
    assert optimizer.path.name == name
    found = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()
        done = optimizer.last_step
        arrays = {**done.pre, **{f"{n}'": x for n, x in done.post.items()}, **done.hints, "g": done.g}
        found.append(
            {
                "public": done.public,
                "counts": (done.saturated, done.underflow, done.limited),
                "integers": {n: x.tolist() for n, x in arrays.items()},
                "dtypes": {x.dtype for x in arrays.values()},
                "weights": [p.tolist() for p in model.parameters()],
            }
        )
        if step == 2:  # the state moves on to a new optimizer, as after a crash
            saved = optimizer.state_dict()
            with path(name):
                optimizer = make(model)
            optimizer.load_state_dict(saved)
    return found


def one_group(name: str) -> Callable[[Any], Any]:
    return lambda model: MAKERS[name](model.parameters())


def two_groups(model: Any) -> Any:
    flat = [p for p in model.parameters() if p.ndim < 2]
    rest = [p for p in model.parameters() if p.ndim == 2]
    return MAKERS["adamw"]([{"params": rest}, {"params": flat, "weight_decay": 0.0, "lr": 2e-3, "clip": 0.25}])


def calibrated(model: Any) -> Any:
    optimizer = MAKERS["momentum"](model.parameters())
    optimizer.calibrate(lambda batch: loss(model, batch).backward(), batches=2, block=7)
    assert len(optimizer.blocks) > 1
    return optimizer


RUNS: dict[str, Callable[[Any], Any]] = {name: one_group(name) for name in fused.VARIANTS} | {
    "two groups": two_groups,
    "calibrated blocks": calibrated,
    "missing gradients": lambda model: MAKERS["adam"](
        [*model.parameters(), parameter(0.5, -0.5)], missing_grad="zero", maximize=True
    ),
}


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_runs_integers_do_not_depend_on_the_path(name: str) -> None:
    reference = steps_of("torch", RUNS[name], mlp(), 4)
    for other in ("numba", "triton-interpreter"):
        assert steps_of(other, RUNS[name], mlp(), 4) == reference


def test_a_compiled_models_run_is_that_of_the_model() -> None:
    def compiled() -> Any:
        return torch.compile(mlp(), backend="aot_eager")

    reference = steps_of("torch", one_group("adam"), compiled(), 4)
    for other in ("numba", "triton-interpreter"):
        assert steps_of(other, one_group("adam"), compiled(), 4) == reference


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_parameters_of_several_precisions_hold_the_same_floats(dtype: str) -> None:
    def run(name: str) -> list[Any]:
        with path(name):
            p, q = parameter(0.1, -0.7, 3e-6), parameter(0.3, 1 / 3, 1e-7, dtype=getattr(torch, dtype))
            optimizer = MAKERS["adam"]([p, q])
        for step in range(4):
            p.grad, q.grad = torch.full_like(p, 10.0**-step), torch.full_like(q, -(10.0**-step))
            optimizer.step()
        return [p.tolist(), q.tolist(), {n: x.tolist() for n, x in optimizer.state_arrays().items()}]

    assert run("numba") == run("torch")
    assert run("triton-interpreter") == run("torch")


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("block", [None, 9_000])
def test_large_gradients_are_read_where_they_are_and_left_as_they_are(maximize: bool, block: int | None) -> None:
    """Large, small, none, transposed, of two groups, over blocks that cut through them."""

    def gradient(p: Any, step: int) -> Any:
        place = torch.arange(p.numel())
        return (torch.sin(place * (1.0 + step)) * 0.25 ** (place // 9_000) * 10.0 ** (step - 2)).reshape(p.shape)

    def run(by: str) -> tuple[list[Any], list[Any]]:
        shapes = [(40_000,), (10,), (3, 1), (200, 200), (33_000,), (7,)]
        ps = [torch.nn.Parameter(torch.linspace(-1, 1, math.prod(shape)).reshape(shape)) for shape in shapes]
        groups = [{"params": ps[:3]}, {"params": ps[3:], "clip": 0.1}]
        with path(by):
            optimizer = MAKERS["adam"](groups, lr=1e-3, missing_grad="zero", maximize=maximize)

        def backward(step: int) -> None:
            for i, p in enumerate(ps):
                g = gradient(p, step)
                p.grad = None if i == 1 else g.t().contiguous().t() if i == 3 else g

        if block:
            optimizer.calibrate(backward, 1, block=block)
            assert len(optimizer.blocks) > 2
        found = []
        for step in range(3):
            backward(step)
            optimizer.step()
            assert all(torch.equal(p.grad, gradient(p, step)) for i, p in enumerate(ps) if i != 1)
            done = optimizer.last_step
            found.append({n: x.tolist() for n, x in {**done.post, **done.hints, "g": done.g}.items()})
            found.append([done.saturated, done.underflow, optimizer._largest])
        return found, [p.tolist() for p in ps]

    assert run("numba") == run("torch")


@pytest.mark.parametrize("name", ["numba", "triton-interpreter"])
def test_a_step_that_leaves_the_table_is_taken_as_the_reference_takes_it(name: str) -> None:
    def run(by: str) -> tuple[list[int], list[Any]]:
        with path(by):
            optimizer = MAKERS["momentum"]([parameter(*[0.0] * 40)])
        (p,) = optimizer.param_groups[0]["params"]
        limited, found = [], []
        for step in range(4):
            p.grad = torch.linspace(-1.0, 1.0, 40)
            if step == 1:  # a state from elsewhere: without a gradient the next step just fits, with a positive one not
                state, pub, P = optimizer.state_dict(), optimizer.last_step.public[0], optimizer.P
                state["state"][0]["m"][20:] = (P // 2 - 2) * P // pub.A * 10 // 9
                optimizer.load_state_dict(state)
            optimizer.step()
            done = optimizer.last_step
            limited.append(done.limited)
            found.append([{n: x.tolist() for n, x in done.post.items()}, done.g.tolist(), p.tolist()])
        return limited, found

    limited, found = run(name)
    assert limited[0] == 0 < limited[1]
    assert (limited, found) == run("torch")


COUNTS = [50, DIRECT + 9]
"""Elements of a parameter that kernels see a copy of, and of one whose own memory they see."""


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["numba", "triton-interpreter"])
def test_a_refused_step_changes_nothing(name: str, count: int) -> None:
    with path(name):
        p = parameter(*np.linspace(-1, 1, count))
        optimizer = MAKERS["adam"]([p])
    p.grad = torch.ones_like(p)
    optimizer.step()
    before, weights = optimizer.state_arrays(), p.detach().clone()
    p.grad[7] = float("nan")
    with pytest.raises(FormatError, match="element 7"):
        optimizer.step()
    assert all(np.array_equal(x, before[n]) for n, x in optimizer.state_arrays().items())
    assert torch.equal(p.detach(), weights)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert optimizer.step_count == 2


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["numba", "triton-interpreter"])
def test_a_weight_that_was_changed_by_one_bit_is_noticed(name: str, count: int) -> None:
    with path(name):
        p, other = parameter(*np.linspace(-1, 1, count)), parameter(0.5)
        optimizer = MAKERS["adam"]([other, p])
    for index in (0, count - 1):
        p.grad, other.grad = torch.ones_like(p), torch.ones_like(other)
        optimizer.step()
        kept, before = p.detach().clone(), optimizer.state_arrays()
        with torch.no_grad():
            p.view(torch.int32)[index] ^= 1
        changed = p.detach().clone()
        with pytest.raises(UsageError, match=r"parameter 1 of shape .* was changed outside"):
            optimizer.step()
        assert torch.equal(p.detach(), changed)
        assert all(np.array_equal(x, before[n]) for n, x in optimizer.state_arrays().items())
        with torch.no_grad():
            p.copy_(kept)


def test_a_zero_of_the_other_sign_is_no_change() -> None:
    with path("numba"):
        p = parameter(*[0.0] * COUNTS[1])
        optimizer = MAKERS["sgd"]([p])
    p.grad = torch.zeros_like(p)
    optimizer.step()
    with torch.no_grad():
        p[7] = -0.0
    optimizer.step()


@pytest.mark.parametrize("count", COUNTS)
def test_a_parameter_is_watched_whether_or_not_its_memory_was_seen_before(count: int) -> None:
    """Gradients that kernels read where they are take turns with others that are copied."""

    def run(by: str) -> list[Any]:
        with path(by):
            p = parameter(*np.linspace(-1, 1, 2 * count))
            optimizer = MAKERS["adam"]([p])
        found = []
        for step in range(6):
            g = torch.sin(torch.arange(4 * count) * (step + 1.0))
            p.grad = g[::2] if step % 2 else g[: 2 * count].clone()
            if step == 3:
                p.grad[0] = float("nan")
                with pytest.raises(FormatError):
                    optimizer.step()
                continue
            optimizer.step()
            found.append([p.tolist(), {n: x.tolist() for n, x in optimizer.last_step.post.items()}])
            with torch.no_grad():
                p[3] += 1e-3
            with pytest.raises(UsageError, match="was changed outside"):
                optimizer.step()
            with torch.no_grad():
                p[3] = float(found[-1][0][3])
        return found

    assert run("numba") == run("torch")


@pytest.mark.parametrize("count", COUNTS)
def test_integers_that_outgrow_their_arrays_go_on_in_wider_ones(count: int) -> None:
    def run(by: str) -> tuple[Any, list[Any]]:
        with path(by):
            optimizer = MAKERS["adam"]([parameter(*[0.0] * count)])
        (p,) = optimizer.param_groups[0]["params"]
        found = []
        for step in range(5):
            p.grad = torch.where(torch.arange(count) % 2 == 0, 1e-2, -1e-2)
            if step == 1:  # weights that are about to leave 32 bits, at both ends
                state = optimizer.state_dict()
                state["state"][0]["w"][:] = torch.where(p.grad < 0, 2**31 - 1, -(2**31))
                optimizer.load_state_dict(state)
                if by == "numba":
                    assert optimizer.path.kernels.stored("w", optimizer.P) == torch.int32
            if step == 3:  # and means that 16 bits do not hold
                state = optimizer.state_dict()
                state["state"][0]["m"][5], state["state"][0]["v"][5] = 40_000, 30_000**2
                optimizer.load_state_dict(state)
            optimizer.step()
            found.append([{n: x.tolist() for n, x in optimizer.last_step.post.items()}, p.tolist()])
        return optimizer, found

    optimizer, found = run("numba")
    assert [str(optimizer.path.kernels.stored(n, optimizer.P)) for n in "wm"] == ["torch.int64", "torch.int32"]
    assert max(found[1][0]["w"]) > 2**31
    assert min(found[1][0]["w"]) < -(2**31)
    assert found == run("torch")[1]


def test_small_models_and_statements_without_a_kernel_take_the_references_path_and_say_so() -> None:
    model = mlp()
    assert str(MAKERS["adam"](model.parameters()).path).startswith("torch (numba's kernels are for models of 32768")
    assert str(Lamb(model.parameters()).path) == "torch (lamb has no kernel)"
    assert choose_path("adam-wide", 2**16 - 8, CPU, 10**6).name == "torch"
    assert choose_path("adam", 2**16 - 8, CPU, 10**6).name == "numba"
    assert choose_path("adam", 2**17 - 8, CPU, 10**6).why.startswith("a table of 131064 is too large")


@NO_GPU
def test_triton_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_TRITON", "1")
    assert str(choose_path("adam", 2**16 - 8, CPU, 10)) == "triton-interpreter"
    monkeypatch.delenv("TRITON_INTERPRET")
    found = choose_path("adam", 2**16 - 8, CPU, 10**6)
    assert (found.name, found.why) == ("numba", "Triton's kernels need a GPU, and there is none")


def test_without_numba_the_reference_takes_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    found = paths.importlib.util.find_spec
    monkeypatch.setattr(paths.importlib.util, "find_spec", lambda name: None if name == "numba" else found(name))
    assert str(choose_path("sgd", 2**16 - 8, CPU, 10**6)).startswith("torch (numba is not installed")


def test_another_value_of_the_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_TRITON", "yes")
    with pytest.raises(UsageError, match="USE_TRITON: expected 0 or 1"):
        MAKERS["adam"](mlp().parameters())


def test_the_command_says_which_path_it_took_and_publishes_the_same_integers(
    fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    published = []
    for name in ("torch", "triton-interpreter", "numba"):
        home = fresh_home("adam")
        with path(name):
            assert main(["--home", str(home.path), "--profile", "small", "--json", "--steps", "4"]) == 0
        out, err = capsys.readouterr()
        *lines, end = [json.loads(line) for line in out.splitlines()]
        assert end["path"] == name
        assert f"optimizer steps: {name}" in err
        chain = follow(Training(home, real_circuit("adam"), home.path / "log.db"))
        assert chain is not None
        events = [opened.event for opened in chain.steps]
        published.append(
            [[(e.step, e.rates, e.public, e.shifts, e.saturated, e.underflow, e.limited) for e in events],
             [line["loss"] for line in lines]]
        )  # fmt: skip
    assert published[1] == published[0]
    assert published[2] == published[0]
