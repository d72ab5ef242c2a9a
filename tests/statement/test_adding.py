"""The recipe of docs/optimizers.md, "Adding one", followed with the file that stands there: nothing else is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import rates, statements
from tests.proofs import model
from tests.proofs.enumerating import SOLVED_BY
from tests.proofs.forging import LINEAR
from tests.proofs.proving import Proved, honest_step, prove
from tests.proofs.test_forgeries import ALL_BOUNDS
from tests.statement.recipe import NAME, added, source
from tests.statement.runs import outside, run
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home
from zk_autograd.proofs import setup_cli
from zk_autograd.proofs.base import PROFILES, Profile
from zk_autograd.proofs.ezkl.system import Ezkl, shard_size
from zk_autograd.proofs.store import find_circuit
from zk_autograd.statement import STATEMENTS, Statement

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def st(monkeypatch: pytest.MonkeyPatch) -> Statement:
    """The statement, registered for a test as the line of the recipe does."""
    found = added()
    monkeypatch.setitem(STATEMENTS, found.name, found)
    return found


@pytest.fixture
def proved(st: Statement, tmp_path: Path) -> Proved:
    """A step with a real proof of 2^12 rows. So small a table hides nothing."""
    home = tmp_path / "home"
    circuit = Ezkl().set_up(st, Profile("tiny", 12, 3, 16), Ezkl().dev_srs(home, 12), home)
    return prove(honest_step(circuit))


def test_one_file_and_one_line_are_enough(tmp_path: Path) -> None:
    package = tmp_path / "zk_autograd"
    shutil.copytree(ROOT / "src" / "zk_autograd", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "statement" / f"{NAME}.py").write_text(source())
    line = package / "statement" / "__init__.py"
    text = line.read_text()
    text = text.replace("statement import adafactor,", f"statement import {NAME}, adafactor,", 1)
    line.write_text(text.replace("*sgd.FAMILY,", f"*sgd.FAMILY, *{NAME}.FAMILY,", 1))
    program = "import sys; from zk_autograd.proofs import setup_cli; setup_cli.parser().parse_args(sys.argv[1:])"
    command = [sys.executable, "-c", program, "--optimizer"]
    where = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = [
        subprocess.run([*command, name], cwd=tmp_path, env=where, capture_output=True, text=True, check=False)
        for name in (NAME, "pessimistic")
    ]
    assert [run.returncode for run in found] == [0, 2], found[0].stderr
    assert f"'{NAME}'" in found[1].stderr


def test_the_reference_takes_optimistic_steps(st: Statement) -> None:
    P, lr, rng = 2**16 - 8, 1e-3, np.random.default_rng(1)
    for hyper in (st.defaults, *st.samples):
        fmt = st.choose_format(hyper, lr, 1.0, P)
        gradients = [rng.integers(-fmt.clip, fmt.clip + 1, 50) for _ in range(40)]
        steps = list(run(st, dict(hyper), lr, fmt, P, gradients))
        assert not any(outside(st, step, P).any() for step in steps)
        # In floats, by the paper's formula.
        real = [g / 2.0**fmt.scale_g for g in gradients]
        moved = -lr * sum(real) - lr * hyper["optimism"] * (real[-1] - real[0])
        assert np.abs(steps[-1].post["w"] / 2.0**fmt.scale_w - moved).max() < 40 * 2.0**-fmt.scale_w + 0.01 * lr
    assert moved.any()


def test_a_training_loop_takes_the_same_steps(st: Statement) -> None:
    from zk_autograd.optim import StatementOptimizer

    p = torch.nn.Parameter(torch.linspace(-1, 1, 30))
    optimizer = StatementOptimizer([p], NAME, lr=0.01, optimism=0.5)
    w = optimizer.state_arrays()["w"]
    for _ in range(10):
        optimizer.zero_grad()
        (p.square().sum() / 10).backward()
        before = dict(optimizer.state_arrays())
        optimizer.step()
        record = optimizer.last_step
        assert record is not None
        post, _ = st.advance(before, record.g, record.public[0], 2**16 - 8, None)  # type: ignore[arg-type]
        assert all(np.array_equal(optimizer.state_arrays()[n], post[n]) for n in st.state)
    assert not np.array_equal(optimizer.state_arrays()["w"], w)
    with pytest.raises(UsageError, match="optimistic has no pessimism; it has optimism"):
        StatementOptimizer([p], NAME, pessimism=0.5)


def test_the_circuit_proves_a_step_and_takes_no_other(proved: Proved) -> None:
    circuit, columns = proved.circuit, proved.columns
    with Ezkl().verifier(circuit) as verifier:
        verifier.verify(proved.proof, columns.hyper)
        with pytest.raises(VerificationError):
            verifier.verify(proved.proof, [columns.hyper[0] + 1, *columns.hyper[1:]])
    assert Ezkl().satisfied(circuit, columns)
    for at in (0, circuit.shard):  # a weight, and what is remembered of its gradient
        post = list(columns.post)
        post[at] += 1
        assert not Ezkl().satisfied(circuit, replace(columns, post=post))


def test_every_table_of_the_docs_has_its_row(st: Statement) -> None:
    shard = shard_size(st, PROFILES["default"])
    cells = 3 * 2**16 / shard
    row = f"`StatementOptimizer(statement=…)` | w m | – | A B r | {st.lookups} | {cells:.1f} | {shard:,} |"
    assert f"| `{NAME}` | {row}\n<!-- end -->" in statements.page(statements.PAGE.read_text("utf-8"))
    assert len(re.findall(rf"\| `{NAME}` \| default \|", rates.table())) == 1


def test_the_commands_know_it_and_its_hyper_parameter(
    st: Statement, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from producer import cli
    from tests.producer.training import Training, follow

    monkeypatch.setitem(PROFILES, "small", Profile("small", 12, 3, 1300))
    monkeypatch.setattr(Ezkl, "check_hiding", lambda *_: None)  # no table of 2^12 rows hides anything
    home, line = Home(tmp_path), ["--home", str(tmp_path), "--profile", "small"]
    assert setup_cli.main([*line, "--optimizer", NAME, "--dev"]) == 0
    words = [*line, "--optimizer", NAME, "--steps", "2", "--lr", "0.05", "--run-name", "run"]
    assert cli.main([*words, "--momentum", "0.9"]) == 2
    assert f"--momentum is no option of --optimizer {NAME}" in capsys.readouterr().err
    assert cli.main([*line, "--optimizer", "sgd", "--steps", "2", "--optimism", "0.5"]) == 2
    assert "--optimism is no option of --optimizer sgd" in capsys.readouterr().err
    assert cli.main([*words, "--optimism", "0.5"]) == 0
    circuit = find_circuit(home, NAME, "small")
    assert circuit is not None
    chain = follow(Training(home, circuit, tmp_path / "log.db"))  # each public integer checked
    assert chain is not None
    assert len(chain.steps) == 2
    assert [{h.name: h.value for h in group.hyper} for group in chain.start.groups] == [{"optimism": 0.5}]


def test_the_tests_of_all_statements_take_it_and_once_they_are_told_so_do_the_attacks() -> None:
    """In a process of their own, which has the statement before tests are collected."""
    files = ["tests/statement", "tests/optim", "tests/attacks/test_declared_rates.py", "tests/proofs"]
    # That one asks fresh processes, which have no such file.
    which = f"{NAME} and not adding and not test_the_graph_is_the_same_in_every_process"
    command = [sys.executable, "-m", "tests.statement.recipe", "-q", "-m", "not slow", "-k", which, *files]
    where = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    found = subprocess.run(command, cwd=ROOT, env=os.environ | where, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-4000:]
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed is not None
    assert int(passed[1]) >= 100


@pytest.mark.parametrize(
    ("look", "place"),
    [
        (lambda: LINEAR[NAME], "LINEAR of tests/proofs/forging.py"),
        (lambda: SOLVED_BY[NAME], "SOLVED_BY of tests/proofs/enumerating.py"),
        (lambda: ALL_BOUNDS[NAME], "ALL_BOUNDS of tests/proofs/test_forgeries.py"),
        (lambda: model.step(NAME, {"w": 0, "m": 0}, 1, {"r": 0}, 4088), "tests/proofs/model.py"),
    ],
)
def test_who_has_not_told_the_attacks_of_it_is_told_where(look: Callable[[], object], place: str) -> None:
    with pytest.raises(AssertionError) as told:
        look()
    assert str(told.value) == f"{NAME} is missing in {place}: see docs/optimizers.md, 'Adding one'"
    assert f"`{place.split()[0].removeprefix('tests/proofs/')}`" in statements.PAGE.read_text("utf-8")


def test_a_class_that_there_is_not_is_named(st: Statement, monkeypatch: pytest.MonkeyPatch) -> None:
    from producer import cli, optimizers

    monkeypatch.setattr(st, "optimizer", "Optimist(optimism=…)")
    args = cli.parser().parse_args(["--steps", "1", "--optimizer", "optimist"])
    with pytest.raises(UsageError, match=r"optimistic says that Optimist makes it, and zk_autograd\.optim has no Opti"):
        optimizers.make_optimizer(args, [])
