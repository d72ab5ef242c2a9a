"""Groups and precision as ``zk-train`` offers them: what is declared, published, and taken up again after a stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="zk-train needs torch: pip install 'zk-autograd[train]'")

from producer.precision import parameter_groups  # noqa: E402
from producer.recorder import Recorder  # noqa: E402
from producer.task import Task  # noqa: E402
from tests.producer import tasks  # noqa: E402
from tests.producer.test_train_command import LINE, published, train  # noqa: E402
from tests.producer.training import Training  # noqa: E402
from tests.support.pipeline import LR  # noqa: E402
from zk_autograd.errors import UsageError  # noqa: E402
from zk_autograd.home import Home  # noqa: E402
from zk_autograd.proofs.base import Circuit  # noqa: E402
from zk_autograd.schedule import Schedule  # noqa: E402

FITTED = ("--calibrate", "2", "--epoch-steps", "2", "--rescale", "--max-rounding", "0.5")


def net() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 1))


def no_loss(step: int) -> torch.Tensor:
    raise AssertionError(step)


def test_parameters_of_one_dimension_get_a_group_without_decay() -> None:
    model = net()
    groups = parameter_groups(Task(model, no_loss), no_decay_on_bias=True)
    assert [[n for n, _ in g["params"]] for g in groups] == [
        ["0.weight", "2.weight"],
        ["0.bias", "1.weight", "1.bias", "2.bias"],
    ]
    assert [g.get("weight_decay") for g in groups] == [None, 0.0]


def test_a_tasks_own_groups_are_taken_if_they_hold_every_parameter_once() -> None:
    model = net()
    first, rest = list(model[0].parameters()), [*model[1].parameters(), *model[2].parameters()]
    own = [{"params": first, "lr": 1e-4}, {"params": iter(rest), "clip": 0.1}]
    made = parameter_groups(Task(model, no_loss, own), no_decay_on_bias=False)
    assert [g["params"] for g in made] == [first, rest]
    assert (made[0]["lr"], made[1]["clip"]) == (1e-4, 0.1)
    for wrong in (
        [{"params": first}],
        [{"params": first}, {"params": first + rest}],
        [{"params": [*first, *rest, net()[0].bias]}],
    ):
        with pytest.raises(UsageError, match="expected each of them once"):
            parameter_groups(Task(model, no_loss, wrong), no_decay_on_bias=False)
    with pytest.raises(UsageError, match="groups of its own"):
        parameter_groups(Task(model, no_loss, own), no_decay_on_bias=True)


def test_groups_are_published_with_their_own_decay_and_schedule(
    fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    home = fresh_home("adam")
    lines, _ = train(
        home, capsys, "--steps", "3", "--lr-schedule", "cosine", *LINE, "--task", "tests.producer.tasks:grouped"
    )
    chain = published(home, real_circuit("adam"))
    assert [g.schedule.max_lr for g in chain.groups] == [1e-3, 1e-4]
    assert [g.hyper["beta1"] for g in chain.groups] == [0.9, 0.5]
    assert [tuple(s.event.rates) for s in chain.steps] == [tuple(line["rates"]) for line in lines[:-1]]
    assert [b.group for b in chain.start.blocks] == [0, 1]


def test_a_calibrated_run_that_changes_scales_goes_on_after_a_stop_as_if_nothing_had_happened(
    fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = ("--steps", "6", "--lr", "0.01", *LINE, *FITTED, "--task", "tests.producer.tasks:fading")
    whole, _ = train(fresh_home("adam"), capsys, *words)
    home = fresh_home("adam")
    monkeypatch.setattr(tasks, "stop_at", 4)
    train(home, capsys, *words, code=130)
    monkeypatch.setattr(tasks, "stop_at", None)
    rest, said = train(home, capsys, *words)
    assert "goes on after step 3" in said
    assert [line["loss"] for line in rest[:-1]] == [line["loss"] for line in whole[3:-1]]
    chain = published(home, real_circuit("adam"))
    assert chain.start.epoch_steps == 2
    assert chain.start.max_rounding == 0.5
    assert any(any(s.event.shifts) for s in chain.steps)
    assert all(s.event.step in (3, 5) for s in chain.steps if s.event.shifts)
    # A bound for gradients of about 2^-6, not for those of size 1.
    assert chain.formats[0].clip / 2.0 ** chain.formats[0].scale_g <= 2.0**-3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--calibrate", "3"), "--calibrate"),
        (("--epoch-steps", "3"), "--epoch-steps"),
        (("--max-rounding", "1"), "--max-rounding"),
    ],
)
def test_a_run_does_not_go_on_with_other_terms(
    changed: tuple[str, ...], said: str, fresh_home: Callable[..., Home], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home = fresh_home("adam")
    monkeypatch.setattr(tasks, "stop_at", 3)
    train(home, capsys, "--steps", "4", *LINE, *FITTED, code=130)
    monkeypatch.setattr(tasks, "stop_at", None)
    _, text = train(home, capsys, "--steps", "4", *LINE, *FITTED, *changed, code=2)
    assert f"began with another {said}" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--calibrate", "-1"), "--calibrate: expected at least 0"),
        (("--rescale",), "give --epoch-steps"),
        (("--no-decay-on-bias",), "nothing decays; give --weight-decay"),
        (("--max-rounding", "1.5"), "--max-rounding: expected"),
        (("--max-rounding", "1e-9"), "rounding error of step 1"),
    ],
)
def test_what_cannot_be_is_refused(
    words: tuple[str, ...], reason: str, fresh_home: Callable[..., Home], capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = train(fresh_home("adam"), capsys, "--steps", "2", *LINE, *words, code=2)
    assert reason in said


def test_a_change_outside_an_epochs_first_step_is_not_recorded(training: Training) -> None:
    with training.start() as job:
        job.step()
        job.optimizer.step()
        last = job.optimizer.last_step
        object.__setattr__(last, "shifts", (1,))
        assert not job.recorder.epoch_begins
        with pytest.raises(UsageError, match=r"does not begin an epoch.*recorder\.epoch_begins"):
            job.recorder.record()


def test_a_run_needs_a_schedule_for_each_group(training: Training) -> None:
    optimizer = training.optimizer()
    with training.open() as log, pytest.raises(UsageError, match="a schedule for each of 1 groups, got 2"):
        Recorder.start(optimizer, log, training.home, training.circuit, "two", [Schedule("constant", (LR,), LR)] * 2)
