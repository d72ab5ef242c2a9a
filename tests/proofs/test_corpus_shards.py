"""Every malicious witness of the corpus against Adafactor's three circuits, whose shards are matrices.

A lie is about one parameter, its row, its column or what the layer has once, with a whole shard's sums following. The
bounds judge every lie for itself; the circuit is given many in one witness, of which no look-up depends on two, and has
to refuse exactly the look-ups that the bounds refuse. In every test run an attack takes a share of the values, another
in each, and only some of the witnesses reach the mock prover; the slow version takes all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import pytest

from tests.proofs.adafactor_scenes import Scene
from tests.proofs.corpus import HONEST, LIES, NO_MEANING, WITNESSES, lies
from tests.proofs.mocking import MockProver
from tests.proofs.packing import Lie, assert_refused, covering, flat, judged, packed
from tests.proofs.shards import ShardCase, ShardRule
from zk_autograd.proofs.base import Circuit
from zk_autograd.statement import STATEMENTS
from zk_autograd.statement.adafactor import FAMILY

LOGROWS = {"adafactor-16": 11, "adafactor-64": 12, "adafactor-256": 14}
"""The smallest tables that hold rows of these lengths."""

NAMES = [st.name for st in FAMILY]
SHORT = [("adafactor-16", 8, 25), ("adafactor-64", 16, 15), ("adafactor-256", 32, 8)]
"""Of each attack every so manyth value is lied about, and so many witnesses reach the mock prover, or what each attack
needs."""

COLUMNS = [n if n == "adafactor-16" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
CaseOf: TypeAlias = Callable[[str], ShardCase]


@pytest.fixture(scope="module")
def shard_of(mock_circuit: Callable[..., Circuit]) -> CaseOf:
    """An honest shard in the middle of its block, on the smallest circuit of each."""

    def make(name: str) -> ShardCase:
        logrows = LOGROWS[name]
        circuit = mock_circuit(name, logrows, STATEMENTS[name].shard_of(2**logrows - 8))
        scene = Scene.honest(circuit)
        assert scene.violated() == set()
        return ShardCase(scene)

    return cache(make)


def told(c: ShardCase, attack: str, number: int, step: int) -> list[Lie]:
    """An attack's lies about every ``step``th value, from a parameter that is another for each attack."""
    C, R = c.rule.st.length, c.rule.st.rows(c.rule.P)
    rule = ShardRule(c.scene, number * 7 % R * C + number * 5 % C, (number % step, step))
    honest = flat(c.scene)
    return [judged(rule, honest, attack, lie) for lie in lies(attack, rule, rule.honest)]


def every(c: ShardCase, step: int) -> list[Lie]:
    found = [lie for number, attack in enumerate(LIES) for lie in told(c, attack, number, step)]
    assert {lie.attack for lie in found if not lie.failed} == set(), "the bounds take a lie"
    assert {lie.attack for lie in found} == LIES.keys() - NO_MEANING.keys()
    return found


@pytest.mark.parametrize(("name", "step", "most"), SHORT)
def test_lies_of_every_kind_are_refused_where_they_stand(
    shard_of: CaseOf, mock_prover: MockProver, name: str, step: int, most: int
) -> None:
    c = shard_of(name)
    packs = covering(packed(every(c, step)), most)
    assert {lie.attack for pack in packs for lie in pack} == LIES.keys() - NO_MEANING.keys()
    assert assert_refused(c.rule, mock_prover, packs) > 100


@pytest.mark.slow
def test_one_lie_of_each_kind_alone_is_refused(shard_of: CaseOf, mock_prover: MockProver) -> None:
    c = shard_of("adafactor-16")
    firsts = [told(c, attack, number, 8)[:1] for number, attack in enumerate(LIES) if attack not in NO_MEANING]
    verdicts = mock_prover.verdicts(c.circuit, [c.rule.told(lie.changes).columns() for (lie,) in firsts])
    assert [lie.attack for (lie,), taken in zip(firsts, verdicts, strict=True) if taken] == []


@pytest.mark.parametrize("name", COLUMNS)
def test_every_lie_about_whole_columns_is_refused(shard_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = shard_of(name)
    listed = [(attack, columns) for attack in WITNESSES for columns in WITNESSES[attack].make(c)]
    assert {attack for attack, _ in listed} == set(WITNESSES)
    verdicts = mock_prover.verdicts(c.circuit, [columns for _, columns in listed])
    assert [attack for (attack, _), taken in zip(listed, verdicts, strict=True) if taken] == []


@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_no_lie_is_taken_by_the_same_circuit(shard_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = shard_of(name)
    listed = [(attack, columns) for attack in HONEST for columns in HONEST[attack].make(c)]
    verdicts = mock_prover.verdicts(c.circuit, [columns for _, columns in listed])
    assert [attack for (attack, _), taken in zip(listed, verdicts, strict=True) if not taken] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_shard_is_lied_about(shard_of: CaseOf, name: str) -> None:
    """The shares of the attacks together, in every test run: no value is left out."""
    rule, step = shard_of(name).rule, next(step for n, step, _ in SHORT if n == name)
    shares = [ShardRule(rule.scene, 0, (number % step, step)).targets for number in range(len(LIES))]
    assert {t for targets in shares for t in targets} == set(rule.every_target)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", NAMES)
def test_every_lie_about_every_value_is_refused(shard_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = shard_of(name)
    packs = packed(every(c, 1))
    assert assert_refused(c.rule, mock_prover, packs) > 10_000
