"""Every malicious witness of the corpus against every circuit: refused, and the honest ones beside them taken.

Lies about one parameter stand side by side in one witness, one in each parameter; the mock prover says which look-ups
fail, so each is seen to be refused at its own place. The first of every attack also stands alone among honest elements.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest

from tests.proofs.corpus import HONEST, LIES, WITNESSES, lies
from tests.proofs.forging import Case
from tests.proofs.mocking import MockProver
from tests.proofs.refusing import assert_refused
from zk_autograd.statement import STATEMENTS

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
CaseOf = Callable[[str], Case]


@pytest.mark.parametrize("name", NAMES)
def test_every_lie_about_a_parameter_is_refused_where_it_stands(
    case_of: CaseOf, mock_prover: MockProver, name: str
) -> None:
    c = case_of(name)
    elements = [c.honest["ordinary 0"], c.honest["low w'"]]
    forged = [(attack, lie) for attack in LIES for e in elements for lie in lies(attack, c.rule, e)]
    assert assert_refused(c, mock_prover, forged) > 100


@pytest.mark.parametrize("name", NAMES)
def test_one_lie_of_each_kind_alone_is_refused(case_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = case_of(name)
    firsts = {a: next(lies(a, c.rule, c.honest["ordinary 1"]), None) for a in LIES}
    there = {attack: lie for attack, lie in firsts.items() if lie is not None}
    verdicts = mock_prover.verdicts(c.circuit, [c.columns({"ordinary 1": lie}) for lie in there.values()])
    assert [attack for attack, taken in zip(there, verdicts, strict=True) if taken] == []
    assert len(there) >= 14


@pytest.mark.parametrize("name", NAMES)
def test_every_lie_about_whole_columns_is_refused(case_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = case_of(name)
    listed = [(attack, columns) for attack in WITNESSES for columns in WITNESSES[attack].make(c)]
    verdicts = mock_prover.verdicts(c.circuit, [columns for _, columns in listed])
    assert [attack for (attack, _), taken in zip(listed, verdicts, strict=True) if taken] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_lie_is_taken_by_the_same_circuit(case_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = case_of(name)
    listed = [(attack, columns) for attack in HONEST for columns in HONEST[attack].make(c)]
    verdicts = mock_prover.verdicts(c.circuit, [columns for _, columns in listed])
    assert [attack for (attack, _), taken in zip(listed, verdicts, strict=True) if not taken] == []


def test_every_attack_meets_a_statement(case_of: CaseOf) -> None:
    made = [(case_of(n), a) for n in ("amsgradw", "momentum", "nesterov") for a in LIES]
    met = {a for c, a in made if any(True for _ in lies(a, c.rule, c.honest["ordinary 0"]))}
    assert met == set(LIES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_every_lie_about_every_honest_element_is_refused(case_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = case_of(name)
    for attack in LIES:
        forged = [(attack, lie) for e in c.honest.values() for lie in islice(lies(attack, c.rule, e), 40)]
        assert not forged or assert_refused(c, mock_prover, forged)
