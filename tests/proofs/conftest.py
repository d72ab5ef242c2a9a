"""Fixtures of the proof tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.proofs.forging import Case, case
from tests.proofs.mocking import MockProver
from tests.proofs.proving import Proved, honest_step, prove
from zk_autograd.proofs.base import Circuit


@pytest.fixture(scope="session")
def mock_prover() -> Iterator[MockProver]:
    with MockProver() as prover:
        yield prover


@pytest.fixture(scope="session")
def case_of(mock_circuit: Callable[..., Circuit]) -> Callable[[str], Case]:
    """The case of each optimizer, on a circuit of 56 parameters and 2^12 rows with a tight table."""
    return cache(lambda name: case(mock_circuit(name)))


@pytest.fixture(scope="session")
def proved(real_circuit: Callable[[str], Circuit]) -> Callable[[str], Proved]:
    """A step of each optimizer with its real proof, made at first use."""
    return cache(lambda name: prove(honest_step(real_circuit(name))))
