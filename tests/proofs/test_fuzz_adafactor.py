"""The short form of the fuzz campaign for Adafactor (``python -m tests.fuzz_circuits --statement adafactor-16``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz_circuits import run_round
from tests.proofs import adafactor_model as model
from tests.proofs import adafactor_round
from tests.proofs.adafactor_model import Made
from tests.proofs.adafactor_round import check_block
from tests.proofs.benches import Benches, Found
from tests.proofs.mocking import MockProver
from zk_autograd.proofs.base import Circuit
from zk_autograd.statement import STATEMENTS
from zk_autograd.statement.adafactor import Adafactor

NAME = "adafactor-16"
Rounds = Callable[..., Found]


@pytest.fixture(scope="module")
def benches(mock_prover: MockProver, tmp_path_factory: pytest.TempPathFactory) -> Benches:
    return Benches(mock_prover, tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def rounds(benches: Benches, mock_prover: MockProver, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Rounds on the smallest table, with fewer lies."""
    monkeypatch.setattr(adafactor_round, "ROWS", {n: rows[:1] for n, rows in adafactor_round.ROWS.items()})

    def run(count: int = 8, name: str = NAME, benches: Benches = benches, told: int = 40, mocked: int = 4) -> Found:
        monkeypatch.setattr(adafactor_round, "TOLD", told)
        monkeypatch.setattr(adafactor_round, "MOCKED", mocked)
        found = Found()
        for number in range(count):
            run_round(benches, mock_prover, 7, number, [name], found)
        return found

    return run


@pytest.mark.parametrize(
    ("name", "count"),
    [("adafactor-16", 4), ("adafactor-64", 2), pytest.param("adafactor-256", 2, marks=pytest.mark.slow)],
)
def test_reference_model_bounds_and_circuit_agree(rounds: Rounds, name: str, count: int) -> None:
    found = rounds(count, name)
    assert found.provable >= count
    assert found.refused_look_ups >= 20
    assert found.mocked >= 5 * count
    assert sum(n for kind, n in found.kinds.items() if kind.endswith("which is honest")) >= 3 * count
    assert found.alone


# Mistakes that are planted.


@pytest.fixture
def blocks(mock_circuit: Callable[..., Circuit]) -> Callable[[int], Found]:
    """Honest blocks alone, on the smallest table."""
    logrows = adafactor_round.ROWS[NAME][0]
    circuit = mock_circuit(NAME, logrows=logrows, shard=STATEMENTS[NAME].shard_of(2**logrows - 8))

    def run(count: int) -> Found:
        found = Found()
        for number in range(count):
            check_block(circuit, np.random.default_rng([7, number]), found)
        return found

    return run


def test_honest_blocks_alone_raise_nothing(blocks: Callable[[int], Found]) -> None:
    assert blocks(20).provable >= 20


def test_a_mistake_in_the_rule_is_found(blocks: Callable[[int], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that rounds its moments with an offset one off."""
    true = model.moments
    monkeypatch.setattr(model, "moments", lambda t, p, given: true(t, {**p, "r": p["r"] ^ 1}, given))
    with pytest.raises(AssertionError, match="the reference differs from the model"):
        blocks(100)


def test_a_mistake_in_a_root_is_found(blocks: Callable[[int], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    true = model.column_share
    monkeypatch.setattr(model, "column_share", lambda t, p, c: true(t, p, c + 1))
    with pytest.raises(AssertionError, match=r"the reference differs from the model|the model says that a block fits"):
        blocks(100)


def test_a_range_that_is_one_off_is_found(blocks: Callable[[int], Found], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that leaves ``-P/2`` out, which is taken."""

    def within(made: Made, values: Any) -> None:
        made.fits &= all(abs(2 * x) < made.table.P for x in values)

    monkeypatch.setattr(Made, "within", within)
    with pytest.raises(AssertionError, match=r"the prover takes a shard that does not fit|the model says provable"):
        blocks(200)


def test_a_model_without_running_sums_is_found(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it thinks that sums may be anything, the bounds refuse what it takes."""
    true = adafactor_round.differing
    monkeypatch.setattr(adafactor_round, "differing", lambda scene, made: true(scene, made) - {"after"})
    with pytest.raises(AssertionError, match=r"refused by the bounds: \{.*grows by the shard's sum.*honest: True"):
        rounds()


@pytest.mark.parametrize("bound", ["T is the rounded rate", "k is the rounded product", "least w is right, digit 0"])
def test_a_bound_that_takes_everything_is_found(rounds: Rounds, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    for name in ("bounds", "block_bounds"):
        true = getattr(Adafactor, name)

        def loose(*args: Any, true: Callable[..., dict[str, Any]] = true) -> dict[str, Any]:
            found = true(*args)
            return found | ({bound: found[bound] * 0} if bound in found else {})

        monkeypatch.setattr(Adafactor, name, loose)
    with pytest.raises(AssertionError, match=r"refused by the bounds: set\(\), honest: False"):
        rounds(told=150, mocked=0)


class Forgetful(Adafactor):
    """Looks up the gradient twice and the direction never."""

    def bounds(self, *args: Any) -> dict[str, Any]:
        found = super().bounds(*args)
        return found | {"|u| < P/2": found["|g| < P/2"]}


def test_a_circuit_that_checks_less_than_the_statement_says_is_found(
    rounds: Rounds, mock_prover: MockProver, tmp_path: Path
) -> None:
    forgetful = Benches(mock_prover, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STATEMENTS, NAME, Forgetful(NAME, 16))
        forgetful.get(STATEMENTS[NAME], adafactor_round.ROWS[NAME][0])
    with pytest.raises(AssertionError, match="the mock prover refuses other look-ups"):
        rounds(benches=forgetful)
