"""Lies about what a layer of Adafactor has once: its bits, roots and rate, and sums that are too large.

On a circuit of 2^12 rows: 21 rows of 16. All that follows from a lie follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.proofs.adafactor_forging import BITS, beyond, differences, idle
from tests.proofs.adafactor_scenes import NAME, ST, public
from tests.proofs.forging import field_root, fraction
from tests.proofs.mocking import MockProver
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit
from zk_autograd.statement.adafactor import M_DIGITS, SW_DIGITS, X_DIGITS


@pytest.fixture(scope="module")
def circuit(mock_circuit: Callable[..., Circuit]) -> Circuit:
    return mock_circuit(NAME, shard=ST.shard_of(2**12 - 8))


def test_a_bit_that_is_no_integer_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    """``f - f*f = s`` has a root in the field for half of all ``s``; ``f`` is then no small number."""
    s = idle(circuit, public(circuit.P))
    small = next(x for x in range(1, 99) if pow(1 - 4 * x, (MODULUS - 1) // 2, MODULUS) == 1)
    root = field_root((1 - 4 * small) % MODULUS)
    f = (1 + root) * fraction(1, 2) % MODULUS
    assert (f - f * f) % MODULUS == small
    lies = [s.lie((bit, 0, f)) for bit in BITS]
    assert all(f"{bit} is 0 or 1, from below" in lie.violated() for bit, lie in zip(BITS, lies, strict=True))
    assert not any(f"{bit} is 0 or 1" in lie.violated() for bit, lie in zip(BITS, lies, strict=True))
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in lies]))


def test_a_root_that_is_off_by_one_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    """Of a row, of a column and of the layer's rate; all that follows from it follows."""
    P, s = circuit.P, idle(circuit, public(circuit.P))
    totals = dict(zip(ST.carries, s.totals, strict=True))
    share = {"a": ST._row_share(0, totals["M"], s.pub, P), "b": ST._column_share(totals["c0"], s.pub, P)}
    share["X"] = ST._squared_rate(totals, {f: s.at[f][0] for f in BITS}, s.pub, P)
    lies, tops = [], {n.rpartition(".")[0]: n.rpartition(".")[2] for n in s.at}
    for name, (num, den) in share.items():
        count = X_DIGITS if name == "X" else 2
        honest = sum(s.at[f"{name}.{i}"][0] * P**i for i in range(count))
        for root in (honest + 1, honest - 1):
            lie = s.lie(*((f"{name}.{i}", 0, root // P**i % P) for i in range(count)))
            if name == "X":
                T = (root + s.pub.j) // P
                lie = lie.lie(("T.0", 0, T % P), ("T.1", 0, T // P))
            lie = differences(lie, name, 0, root, num, den)
            sides = {1: f"{name}*{name}*den <= num", -1: f"num < ({name}+1)*({name}+1)*den"}
            letter = f"{name}{'-' if root > honest else '+'}"
            assert lie.violated() == {f"{sides[root - honest]}, digit {tops[letter]}"}
            lies.append(lie)
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in lies]))


def test_a_rate_taken_modulo_the_prime_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    """``X`` is a root of the numerator plus the prime: both differences are small, and ``X`` is an integer."""
    P, s = circuit.P, idle(circuit, public(circuit.P))
    totals = dict(zip(ST.carries, s.totals, strict=True))
    num, den = ST._squared_rate(totals, {f: s.at[f][0] for f in BITS}, s.pub, P)
    X = math.isqrt((num + MODULUS) // den)
    T = (X + s.pub.j) // P
    lie = s.lie(("X.0", 0, X % P), ("X.1", 0, X // P % P), ("X.2", 0, X // P**2), ("T.0", 0, T % P), ("T.1", 0, T // P))
    lie = differences(lie, "X", 0, X, num + MODULUS, den)
    assert lie.violated() == {"X.2 is a digit", "T.1 is a digit"}
    assert mock_prover.verdicts(circuit, [lie.columns()]) == [False]


def test_sums_beyond_their_digits_cannot_be_proven(circuit: Circuit, mock_prover: MockProver) -> None:
    """The highest digit would have to leave the table. Rates and roots of such sums fit theirs: only it refuses."""
    P, s, lies = circuit.P, idle(circuit, public(circuit.P)), []
    for name, count in (("sw", SW_DIGITS), ("su", M_DIGITS)):
        value = P**count + 5
        totals = dict(zip(ST.carries, s.totals, strict=True)) | {name: value}
        settled = beyond(s, totals, name, count)
        assert settled.violated() == {f"{name}, digit {count - 1}"}
        lies.append(settled)
    assert not any(mock_prover.verdicts(circuit, [lie.columns() for lie in lies]))
