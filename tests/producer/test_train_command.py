"""``zk-train`` on the digits: what it prints, what it publishes, and what it refuses."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchor.file import FileAnchor
from producer.cli import main
from producer.declaration import Terms
from producer.run_files import RunFile, run_file
from producer.sampling import sampling_terms
from tests.producer import tasks
from tests.producer.training import Training, follow
from zk_autograd.home import Home
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit

pytest.importorskip("torch", reason="zk-train needs torch: pip install 'zk-autograd[train]'")

ZK_TRAIN = Path(sys.executable).with_name("zk-train")
STEPS = 12


@pytest.fixture
def adam_home(fresh_home: Callable[..., Home]) -> Home:
    return fresh_home("adam")


def train(
    home: Home, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0
) -> tuple[list[dict[str, Any]], str]:
    """Runs the command in this process with ``--json``: its lines, and what it said to people."""
    found = main(["--home", str(home.path), "--profile", "small", "--json", *words])
    out, err = capsys.readouterr()
    assert found == code, err
    return [json.loads(line) for line in out.splitlines()], err


def published(home: Home, circuit: Circuit) -> Any:
    """The chain in the home's log, each link and public integer checked."""
    chain = follow(Training(home, circuit, home.path / "log.db"))
    assert chain is not None
    return chain


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ("adam", ()),
        ("sgd", ("--optimizer", "sgd")),
        pytest.param("adafactor-64", ("--optimizer", "adafactor"), marks=pytest.mark.slow),
        pytest.param("lamb", ("--optimizer", "lamb", "--max-ratio", "5"), marks=pytest.mark.slow),
    ],
)
def test_a_run_is_printed_and_published_step_by_step(
    optimizer: str, words: tuple[str, ...], fresh_home: Callable[..., Home],
    real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    home = fresh_home(optimizer)
    lines, _ = train(home, capsys, "--steps", "4", *words)
    *steps, end = lines
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert all(
        set(line) == {"step", "loss", "rates", "rounding", "saturated", "underflow", "limited"} for line in steps
    )
    assert end["loss"] == steps[-1]["loss"]
    assert end["steps"] == 4
    chain = published(home, real_circuit(optimizer))
    assert chain.run_id.hex() == end["run_id"]
    assert [list(opened.event.rates) for opened in chain.steps] == [line["rates"] for line in steps]
    assert chain.finished is not None


@pytest.mark.parametrize("kind", ["cosine", "step"])
def test_a_schedule_is_declared_before_the_run_and_held_to(
    kind: str, adam_home: Home, real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, _ = train(adam_home, capsys, "--steps", "6", "--lr-schedule", kind, "--lr", "0.002")
    chain = published(adam_home, real_circuit("adam"))
    rates = [line["rates"][0] for line in lines[:-1]]
    (group,) = chain.groups
    assert group.schedule.kind == "table"
    assert list(group.schedule.values) == rates
    assert rates[0] == 0.002
    assert rates[-1] < 0.001


def test_a_killed_run_goes_on_where_it_was_and_ends_as_if_nothing_had_happened(
    fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = train(fresh_home("adam"), capsys, "--steps", str(STEPS), "--lr-schedule", "cosine", "--seed", "7")
    home = fresh_home("adam")
    words = ["--steps", str(STEPS), "--lr-schedule", "cosine", "--seed", "7", "--run-name", "killed"]
    process = subprocess.Popen(
        [ZK_TRAIN, "--home", home.path, "--profile", "small", "--json", *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    before = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.kill()
    before += [json.loads(line) for line in process.stdout.read().splitlines() if line.endswith("}")]
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    after, said = train(home, capsys, *words)
    assert f"run killed goes on after step {after[0]['step'] - 1}" in said
    # The step at which it was killed may have been published without being printed.
    losses = {line["step"]: line["loss"] for line in before + after[:-1]}
    expected = {line["step"]: line["loss"] for line in whole[:-1]}
    assert losses == {step: expected[step] for step in losses}
    assert set(expected) - set(losses) <= {after[0]["step"] - 1}
    assert after[-1]["loss"] == whole[-1]["loss"]
    chain = published(home, real_circuit("adam"))
    assert len(chain.steps) == STEPS
    assert chain.finished is not None


LINE = ("--task", "tests.producer.tasks:line", "--run-name", "run")


@pytest.fixture
def interrupted(adam_home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a run of three steps that was stopped after its first, as by Ctrl-C."""
    with monkeypatch.context() as context:
        context.setattr(tasks, "stop_at", 2)
        _, said = train(adam_home, capsys, "--steps", "3", *LINE, code=130)
    assert "zk-train: stopped; run " in said
    assert "goes on with the same options and --run-name" in said
    return adam_home


def test_a_stopped_run_goes_on(
    interrupted: Home, real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    lines, said = train(interrupted, capsys, "--steps", "3", *LINE)
    assert "run run goes on after step 1" in said
    assert [line["step"] for line in lines[:-1]] == [2, 3]
    assert len(published(interrupted, real_circuit("adam")).steps) == 3


def test_fewer_steps_than_were_taken_do_not_end_a_run(
    adam_home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong number must not close for good what was to go on."""
    with monkeypatch.context() as context:
        context.setattr(tasks, "stop_at", 3)
        train(adam_home, capsys, "--steps", "4", *LINE, code=130)
    _, said = train(adam_home, capsys, "--steps", "1", *LINE, code=2)
    assert "run 'run' is at step 2 already, got 1" in said
    lines, _ = train(adam_home, capsys, "--steps", "4", *LINE)
    assert [line["step"] for line in lines[:-1]] == [3, 4]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--lr", "0.002"), "began with another --lr, --lr-schedule or --steps"),
        (("--lr-schedule", "cosine"), "began with another --lr, --lr-schedule or --steps"),
        (("--seed", "1"), "began with another --seed"),
        (("--batch", "16"), "began with another --batch"),
        (("--betas", "0.8", "0.99"), "began with another option of the optimizer"),
        (("--clip", "0.5"), "began with another --clip"),
    ],
)
def test_a_run_does_not_go_on_with_other_options(
    words: tuple[str, ...], reason: str, interrupted: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = train(interrupted, capsys, "--steps", "3", *LINE, *words, code=2)
    assert reason in said
    assert len(said.splitlines()) == 1


def test_a_run_with_a_table_of_rates_does_not_go_on_for_more_steps_than_it_declared(
    adam_home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*LINE, "--lr-schedule", "cosine")
    with monkeypatch.context() as context:
        context.setattr(tasks, "stop_at", 2)
        train(adam_home, capsys, "--steps", "3", *words, code=130)
    _, said = train(adam_home, capsys, "--steps", "4", *words, code=2)
    assert "began with another --lr, --lr-schedule or --steps" in said


def test_a_run_does_not_go_on_with_another_model(
    interrupted: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "inputs", 9)
    _, said = train(interrupted, capsys, "--steps", "3", *LINE, code=2)
    assert "began with another model than --task tests.producer.tasks:line makes now" in said


def test_a_run_does_not_go_on_with_another_circuit(
    interrupted: Home, capsys: pytest.CaptureFixture[str], real_circuit: Callable[[str], Circuit]
) -> None:
    known = run_file(interrupted, "run")
    RunFile(replace(known.start, circuit_id=bytes(32))).write(interrupted.runs / "run")
    _, said = train(interrupted, capsys, "--steps", "3", *LINE, code=2)
    assert "this run uses another circuit" in said


def test_a_finished_runs_name_is_not_taken_again(adam_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    train(adam_home, capsys, "--steps", "1", *LINE)
    _, said = train(adam_home, capsys, "--steps", "2", *LINE, code=2)
    assert "run 'run' is finished; choose another --run-name" in said


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--steps", "0"), "--steps: expected at least 1, got 0"),
        (("--lr", "50"), "largest"),
        (("--lr", "nan"), "learning rate"),
        (("--lr", "-1"), "learning rate"),
        (("--clip", "0"), "clip"),
        (("--max-ratio", "5"), "--max-ratio is no option of --optimizer adam"),
        (("--optimizer", "lamb", "--wide"), "--wide is no option of --optimizer lamb"),
        (("--optimizer", "lamb", "--momentum", "0.9"), "--momentum is no option of --optimizer lamb"),
        (("--optimizer", "lamb", "--max-ratio", "0.5"), "expected 1 <= max_ratio"),
        (("--optimizer", "adafactor", "--eps", "1e-8"), "--eps is no option of --optimizer adafactor"),
        (("--optimizer", "adafactor", "--weight-decay", "0.1"), "--weight-decay is no option of --optimizer adafactor"),
        (("--optimizer", "adafactor", "--wide"), "--wide is no option of --optimizer adafactor"),
        (("--betas", "1", "0.9"), "beta1"),
        (("--lr-schedule", "cosine", "--steps", "5000"), "expected at most 4096 steps for a declared table, got 5000"),
        (("--log", "mqtt://broker"), "starts with one of kafka://, sqlite://; this one has the scheme 'mqtt'"),
        (("--log", "log.db"), "this one has no scheme"),
        (("--log", "kafka://127.0.0.1:9?connect_timeout=1"), "nothing listens there"),
        (("--log", "sqlite:////no/such/folder/log.db"), "the directory /no/such/folder does not exist"),
        (("--task", "producer.digits"), "expected MODULE:FUNCTION, for example producer.digits:mlp"),
        (("--task", "no.such.module:task"), "No module named 'no'"),
        (("--optimizer", "sgd", "--wide"), "--wide is no option of --optimizer sgd"),
        (("--optimizer", "sgd", "--betas", "0.9", "0.99"), "--betas is no option of --optimizer sgd"),
        (("--optimizer", "sgd", "--eps", "1e-8"), "--eps is no option of --optimizer sgd"),
        (("--dampening", "0.5"), "--dampening is no option of --optimizer adam"),
        (("--wide", "--amsgrad"), "wide=True has neither amsgrad nor L2 decay"),
        (("--lr", "0.1"), "profile default (logrows=16) or wide=True (--wide)"),
        (("--task", "producer.digits:none"), "has no attribute 'none'"),
        (("--task", "tests.producer.tasks:nothing"), "expected it to return a producer.task.Task, got NoneType"),
        (("--run-name", "../run"), "run name '../run': expected letters, digits"),
        (("--prove", "sample:2"), "2 shards of a step to be sampled, but a step of this run has 1"),
        (("--prove", "sample:0"), "--prove: expected all, or sample:K with K from 1, got 'sample:0'"),
        (("--prove", "half"), "--prove: expected all, or sample:K"),
        (("--prove", "sample:1", "--window", "0"), "--window: expected at least 1, got 0"),
        (("--prove", "sample:1", "--beacon", "gopher:x"), "expected one of the schemes file:"),
        (
            ("--prove", "sample:1", "--beacon", "file:/no/such/folder/anchor"),
            "no anchor there: make it with zk-anchor --init",
        ),
        (("--beacon", "file:x"), "--beacon goes with --prove sample:K"),
        (("--window", "3"), "--window goes with --prove sample:K"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_in_one_line(
    words: tuple[str, ...], reason: str, adam_home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, said = train(adam_home, capsys, "--steps", "2", *LINE, *words, code=2)
    assert not lines
    assert said.startswith("zk-train: ")
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not (adam_home.path / "runs").exists()


@pytest.mark.parametrize(("optimizer", "statement"), [("adam", "adam-wide"), ("adamw", "adamw-wide")])
def test_wide_asks_for_the_wide_statements_circuit(
    optimizer: str, statement: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    home.policy_path.write_text(Policy().to_json())
    _, said = train(home, capsys, "--steps", "1", "--wide", "--optimizer", optimizer, "--lr", "0.1", code=2)
    assert f"run zk-setup --optimizer {statement} --profile small --srs FILE" in said


@pytest.mark.parametrize("task", ["mlp", "convnet", "transformer"])
def test_every_task_of_the_digits_trains_and_its_batches_depend_on_seed_and_step_only(task: str) -> None:
    import torch

    from producer.task import load_task
    from zk_autograd.optim import Adam

    found = []
    for _ in range(2):
        made = load_task(f"producer.digits:{task}", 3, 64)
        optimizer = Adam(made.model.parameters(), lr=1e-2, wide=True)
        losses = []
        for step in range(1, 31):
            optimizer.zero_grad()
            loss = made.loss(step)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-5:]) < sum(losses[:5]) / 1.5
        found.append(losses[:5])
    assert torch.allclose(*(torch.tensor(x) for x in found))


def test_the_language_model_has_the_documented_size_and_learns_the_text_that_is_shipped() -> None:
    import torch

    from producer.task import load_task
    from zk_autograd.optim import Adam

    made, again = (load_task("producer.text:gpt", 3, 4) for _ in range(2))
    assert sum(p.numel() for p in made.model.parameters()) == 1_011_584
    assert torch.equal(made.loss(7), again.loss(7))
    optimizer = Adam(made.model.parameters(), lr=1e-3)
    losses = []
    for step in range(1, 13):
        optimizer.zero_grad()
        loss = made.loss(step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    characters = made.model.token.weight.shape[0]
    assert losses[0] == pytest.approx(math.log(characters), rel=0.1)  # all are as likely at first
    assert sum(losses[-3:]) / 3 < losses[0] - 0.5


def test_a_sampled_run_declares_how_many_shards_are_drawn_and_by_whom(
    adam_home: Home, real_circuit: Callable[[str], Circuit], capsys: pytest.CaptureFixture[str]
) -> None:
    """The home's file anchor is made for it, and the same whether it is named by its address or its identity."""
    _, said = train(adam_home, capsys, "--steps", "2", *LINE, "--prove", "sample:1")
    start = published(adam_home, real_circuit("adam")).start
    identity = FileAnchor(adam_home.path / "anchor").identity()
    assert (start.sampled, start.beacon, start.window) == (1, identity, 8)
    assert f"1 of them drawn by {identity} and proven" in said
    for number, beacon in enumerate((identity, f"file:{adam_home.path}/anchor")):
        assert beacon is not None
        options = Namespace(prove="sample:3", beacon=beacon, window=number + 1)
        assert sampling_terms(options, adam_home) == Terms(3, identity, number + 1)
    assert sampling_terms(Namespace(prove="all", beacon=None, window=None), adam_home) == Terms()


def test_a_sampled_run_does_not_go_on_under_other_terms(
    adam_home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "stop_at", 2)
    train(adam_home, capsys, "--steps", "2", *LINE, "--prove", "sample:1", code=130)
    monkeypatch.setattr(tasks, "stop_at", None)
    for words in ((), ("--prove", "sample:1", "--window", "9")):
        _, said = train(adam_home, capsys, "--steps", "2", *LINE, *words, code=2)
        assert "began with another --prove, --beacon or --window" in said
    train(adam_home, capsys, "--steps", "2", *LINE, "--prove", "sample:1")


def test_without_a_circuit_a_home_for_real_use_makes_no_development_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    home.policy_path.write_text(Policy().to_json())
    _, said = train(home, capsys, "--steps", "1", code=2)
    assert "no adam circuit of profile small" in said
    assert "run zk-setup --optimizer adam --profile small --srs FILE" in said


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    # In a process of its own, where importing torch fails as it does where there is none.
    program = (
        "import sys; sys.modules['torch'] = None; from producer.cli import main; "
        "sys.exit(main(['--steps', '1', '--home', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "zk-train: zk-train needs torch: pip install 'zk-autograd[train]'\n"
