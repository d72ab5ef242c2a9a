"""The short form of the fuzz campaign over circuits (``python -m tests.fuzz_circuits`` is the long one)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import fuzz_circuits
from tests.fuzz_circuits import NAMES, campaign, columns, run_round
from tests.proofs import model
from tests.proofs.benches import Benches, Found
from tests.proofs.drawing import draw_elements, draw_public
from tests.proofs.forging import Rule
from tests.proofs.mocking import MockProver
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.statement import STATEMENTS
from zk_autograd.statement.adam import Adam

PLAIN = [n for n in NAMES if not STATEMENTS[n].shaped]
"""The others are in test_fuzz_adafactor.py."""


@pytest.fixture(scope="module")
def benches(mock_prover: MockProver, tmp_path_factory: pytest.TempPathFactory) -> Benches:
    return Benches(mock_prover, tmp_path_factory.mktemp("fuzz"), 240)


@pytest.mark.parametrize("name", PLAIN)
def test_reference_model_bounds_and_circuit_agree(benches: Benches, mock_prover: MockProver, name: str) -> None:
    found = Found()
    for number in (0, 3):  # a small table and one of the real size
        run_round(benches, mock_prover, 7, number, [name], found)
    assert found.provable >= 20
    assert found.refused_look_ups >= 50


@pytest.mark.parametrize("name", ["adam", "nesterov-l2"])
def test_provable_steps_fill_a_witness_that_the_circuit_takes(mock_circuit: Callable[..., Circuit], name: str) -> None:
    """The same verdict from the prover's own entrance, in a process of its own."""
    circuit, rng = mock_circuit(name), np.random.default_rng(3)
    rule = Rule(circuit.statement, draw_public(rng, circuit.statement, circuit.P)[1], circuit.P)
    elements, _ = draw_elements(rng, rule, 400)
    good = [e for e in elements if fuzz_circuits.true_step(rule, e)[1]][: circuit.shard]
    bad = next(e for e in elements if not fuzz_circuits.true_step(rule, e)[1])
    assert len(good) == circuit.shard
    assert Ezkl().satisfied(circuit, columns(circuit, rule, good))
    assert not Ezkl().satisfied(circuit, columns(circuit, rule, [*good[:-1], bad]))


def rounds(benches: Benches, prover: MockProver, name: str) -> None:
    for number in range(4):
        run_round(benches, prover, 7, number, [name], Found())


def test_a_mistake_in_the_rule_is_found(
    benches: Benches, mock_prover: MockProver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset that is one off rounds few steps otherwise: those at the ends of a remainder."""
    true = model.step
    monkeypatch.setattr(model, "step", lambda name, pre, g, p, P: true(name, pre, g, {**p, "r": p["r"] ^ 1}, P))
    with pytest.raises(AssertionError, match="the reference differs from the model"):
        rounds(benches, mock_prover, "adam")


def test_a_range_that_is_one_off_is_found(
    benches: Benches, mock_prover: MockProver, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = model.provable
    monkeypatch.setattr(model, "provable", lambda *a: true(*a) and 2 * a[3] != -a[-1])  # g = -P/2 left out
    with pytest.raises(AssertionError, match="the model says provable"):
        rounds(benches, mock_prover, "momentum")


def test_a_mistake_in_a_blocks_rate_is_found(
    benches: Benches, mock_prover: MockProver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that has one more in the sum of directions than there is."""
    true = model.lamb_scalars
    monkeypatch.setattr(model, "lamb_scalars", lambda sw, su, p, P: true(sw, su + 1, p, P))
    with pytest.raises(AssertionError, match=r"the block differs from the model|the model says that a block fits"):
        rounds(benches, mock_prover, "lamb")


def test_a_blocks_bound_that_holds_too_much_is_found(
    benches: Benches, mock_prover: MockProver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way round: where the model thinks that sums may be anything, the bounds refuse what it takes."""
    monkeypatch.setattr(model, "lamb_place", lambda before, sums, after, first, last: True)
    with pytest.raises(AssertionError, match="refused by the block's bounds"):
        rounds(benches, mock_prover, "lamb")


class Forgetful(Adam):
    """Looks up the gradient twice and the step never."""

    def bounds(self, *args: Any) -> dict[str, Any]:
        found = super().bounds(*args)
        return found | {"|dw| < P/2": found["|g| < P/2"]}


def test_a_circuit_that_checks_less_than_the_statement_says_is_found(mock_prover: MockProver, tmp_path: Path) -> None:
    benches = Benches(mock_prover, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STATEMENTS, "adam", Forgetful("adam"))
        benches.get(STATEMENTS["adam"], 12)
    with pytest.raises(AssertionError, match="the mock prover refuses other look-ups"):
        rounds(benches, mock_prover, "adam")


def test_a_campaign_says_what_it_did(tmp_path: Path) -> None:
    said: list[str] = []
    found = campaign(5, 2000, ["sgd"], said.append)
    assert found.cases >= 2000
    assert "of them" in said[-3]
    assert "of 3 bounds" in said[-2]
    assert "lie: a fraction" in said[-1]
