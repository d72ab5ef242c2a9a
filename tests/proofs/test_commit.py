"""Commitments computed in the enclave, held against EZKL's own and against what a commitment has to be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from zksnake._algebra import ec_bn254

from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import POINT_BYTES, Circuit
from zk_autograd.proofs.ezkl.commit import SHIFT, TAIL, KzgCommitter
from zk_autograd.proofs.ezkl.srs import FIELD_MODULUS, lagrange_points
from zk_autograd.proofs.ezkl.system import _ezkl_commit
from zk_autograd.proofs.witness import fresh_salt
from zk_autograd.statement import STATEMENTS

LONGEST = 64


@pytest.fixture(scope="module")
def circuit(real_circuit: Callable[[str], Circuit]) -> Circuit:
    return real_circuit("sgd")


@pytest.fixture(scope="module")
def committer(circuit: Circuit) -> KzgCommitter:
    return KzgCommitter(circuit.srs_path, 15, LONGEST)


def ints(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("values", "salt"),
    [
        ((), ()),
        ((0,), ()),
        ((1,), ()),
        ((-1,), ()),
        ((0, 0, 0), (0, 0, 0)),
        (tuple(range(-30, 31)), (1, 2, 3)),
        ((SHIFT - 1, 1 - SHIFT), (MODULUS - 1, 0, 1)),
        ((5,) * LONGEST, ()),
        ((), (7, 8, 9)),
    ],
)
def test_a_commitment_equals_the_proof_systems_own(
    circuit: Circuit, committer: KzgCommitter, values: tuple[int, ...], salt: tuple[int, ...]
) -> None:
    assert committer.commit(ints(*values), salt) == _ezkl_commit(circuit, [*values, *salt] or [0])


@pytest.mark.parametrize("value", [SHIFT, (1 << 48) - 1, 1 - (1 << 48)])
def test_a_committer_for_wider_elements_commits_to_the_same(circuit: Circuit, value: int) -> None:
    wider = KzgCommitter(circuit.srs_path, 15, LONGEST, 1 << STATEMENTS["adam-wide"].bits)
    assert wider.commit(ints(3, value, -1), (5, 6)) == _ezkl_commit(circuit, [3, value, -1, 5, 6])
    with pytest.raises(FormatError, match=r"range of 2\^48"):
        wider.commit(ints(1 << 48))


def test_a_commitment_is_a_point_of_the_curve_in_big_endian(committer: KzgCommitter) -> None:
    raw = committer.commit(ints(1, 2, 3), fresh_salt())
    x, y = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    assert len(raw) == POINT_BYTES
    assert (y * y - x**3 - 3) % FIELD_MODULUS == 0


def test_a_commitment_is_the_sum_over_the_lagrange_points(circuit: Circuit, committer: KzgCommitter) -> None:
    first, tail = lagrange_points(circuit.srs_path, 15, 2, TAIL)
    total = ec_bn254.PointG1(*first[0]) * 3 + ec_bn254.PointG1(*first[1]) * (MODULUS - 2)
    for point in tail:
        total = total + ec_bn254.PointG1(*point)
    assert committer.commit(ints(3, -2)) == int(total.x).to_bytes(32, "big") + int(total.y).to_bytes(32, "big")


def test_a_salt_counts_modulo_the_order_of_the_group(committer: KzgCommitter) -> None:
    assert committer.commit(ints(1), (5 + MODULUS,)) == committer.commit(ints(1), (5,))


def test_a_salt_is_the_columns_next_elements(committer: KzgCommitter) -> None:
    assert committer.commit(ints(1, 2), (3, 4)) == committer.commit(ints(1, 2, 3, 4))


def test_a_column_longer_than_declared_is_refused(committer: KzgCommitter) -> None:
    with pytest.raises(FormatError, match=f"at most {LONGEST} elements, got {LONGEST + 1}"):
        committer.commit(ints(*[0] * (LONGEST - 2)), fresh_salt())


@pytest.mark.parametrize("value", [SHIFT, -SHIFT, (1 << 63) - 1, -(1 << 63)])
def test_an_element_out_of_range_is_refused_and_not_named(committer: KzgCommitter, value: int) -> None:
    with pytest.raises(FormatError, match=r"range of 2\^36") as refused:
        committer.commit(ints(0, value))
    assert str(abs(value)) not in str(refused.value)


def test_every_element_counts(committer: KzgCommitter) -> None:
    column = ints(*range(20))
    seen = {committer.commit(column)}
    for i in range(20):
        for by in (1, -1):
            other = column.copy()
            other[i] += by
            seen.add(committer.commit(other))
    assert len(seen) == 41
