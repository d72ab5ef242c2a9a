"""The circuit takes a step with a change of scale: the integers that carry the state over are like any others."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.proofs.enumerating import accepted
from tests.proofs.forging import Rule
from tests.proofs.proving import fresh_witness
from tests.proofs.test_uniqueness import cases, expected, integers, known
from zk_autograd.proofs.base import OPS, Circuit, Columns
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import advance, columns
from zk_autograd.statement import STATEMENTS, UNCHANGED, Public


def rescaled(circuit: Circuit, shift: int) -> tuple[Columns, Public, Public]:
    """The fifth step, with a change; its integers, and what they would be without one."""
    st, P = circuit.statement, circuit.P
    hyper = dict(st.defaults) | ({"beta2": 0.99} if "beta2" in st.defaults else {})
    fmt = st.choose_format(hyper, 1e-4, 0.5, P)
    rng, top = np.random.default_rng(3), fmt.clip >> shift + 1
    state = {
        n: rng.integers(-1000, 1000, circuit.shard) if n == "w" else np.zeros(circuit.shard, int) for n in st.state
    }
    for step in range(1, 5):
        pub = st.public_integers(hyper, 1e-4, step, fmt, P)
        state, _ = st.advance(state, rng.integers(-top, top + 1, circuit.shard), pub, P, OPS)
    new = st.check_shift(hyper, 1e-4, fmt, shift, P)
    pub = st.step_integers(hyper, 1e-4, 5, new, P, shift, st.resolution(hyper, UNCHANGED, 5, shift, P))
    witness = fresh_witness(circuit, state, rng.integers(-new.clip, new.clip + 1, circuit.shard), pub)
    return (
        columns(circuit, witness, advance(circuit, witness, pub), pub),
        pub,
        st.public_integers(hyper, 1e-4, 5, new, P),
    )


@pytest.mark.parametrize("name", ["adam", "amsgrad", "momentum"])
def test_the_mock_prover_takes_it_with_its_own_integers_only(name: str, mock_circuit: Callable[..., Circuit]) -> None:
    circuit = mock_circuit(name)
    made, pub, plain = rescaled(circuit, 2)
    assert pub != plain
    assert Ezkl().satisfied(circuit, made)
    as_without = replace(made, hyper=circuit.statement.public_vector(plain))
    assert not Ezkl().satisfied(circuit, as_without)


@pytest.mark.parametrize("name", [n for n, st in sorted(STATEMENTS.items()) if st.rescales and "wide" not in n])
def test_a_tiny_table_takes_one_witness_of_such_a_step_out_of_the_whole_field(name: str) -> None:
    st, rng, fitting = STATEMENTS[name], random.Random(name), 0
    small = {"m": (0, 1, -1), "v": (0, 1, 2), "h": (0, 1)}
    for rule, drawn, g in cases(st, 8, 120, seed=5):
        shift = rng.randrange(1, 5)
        pre = {n: rng.choice(small[n]) if n in small else x for n, x in drawn.items()}
        carried = {n: rule.pub[n] << shift * power for n, power in (st.rescales or {}).items()}
        finer = Rule(st, Public(rule.pub | carried), rule.P)
        honest = expected(finer, pre, g)
        assert [integers(e) for e in accepted(finer, known(pre, g))] == honest, (finer.pub, pre, g)
        fitting += len(honest)
    assert fitting >= 10, "hardly any of the steps fits the table: nothing was tried"
