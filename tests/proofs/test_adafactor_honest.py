"""Honest shards of Adafactor, in their places: the circuit takes each. On a circuit of 2^12 rows: 21 rows of 16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.proofs.adafactor_scenes import NAME, ST, block, public, state, witnesses
from tests.proofs.mocking import MockProver
from zk_autograd.errors import FormatError
from zk_autograd.proofs.base import Circuit, Ints
from zk_autograd.proofs.witness import advance, columns
from zk_autograd.statement import Public, place_in
from zk_autograd.statement.adafactor import R_DIGITS


@pytest.fixture(scope="module")
def circuit(mock_circuit: Callable[..., Circuit]) -> Circuit:
    return mock_circuit(NAME, shard=ST.shard_of(2**12 - 8))


@pytest.mark.parametrize("shards", [1, 3])
def test_every_shard_of_an_honest_block_is_taken_and_hands_its_sums_to_the_next(
    circuit: Circuit, mock_prover: MockProver, shards: int
) -> None:
    made = [columns(circuit, w, advance(circuit, w, p), p) for w, p in block(circuit, shards, public(circuit.P))]
    assert mock_prover.verdicts(circuit, made) == [True] * shards
    count = len(ST.carries)
    for one, two in pairwise(made):
        assert one.carry_out == two.carry_in
    assert made[0].carry_in[:count] == [0] * count
    assert made[-1].carry_out[:count] == made[-1].carry_out[count : 2 * count]


def extreme(circuit: Circuit) -> Iterator[tuple[str, dict[str, Ints], Ints, Public]]:
    P, shard = circuit.P, circuit.shard
    zero, one = np.zeros(shard, dtype=np.int64), np.eye(1, shard, 3, dtype=np.int64)[0]
    most, rng = P // 2 - 1, np.random.default_rng(1)
    idle = {"w": zero, "v": zero}
    yield "nothing at all", idle, zero, public(P)
    yield "the first step", state(circuit, rng), rng.integers(-most, most, shard), public(P, step=1)
    yield "one element alone", idle, one * 5, public(P, step=1)
    yield "all at the clipping bound", {"w": zero + 99, "v": zero}, zero - most, public(P, step=1)
    yield "weights large, gradients of one unit", {"w": zero + (1 << 13), "v": zero}, zero + 1, public(P, step=2)
    yield "gradients below eps1", idle, one, public(P, step=1, eps1=1.0)
    yield "directions cut at a low d", {"w": zero + 7, "v": zero}, zero + 100, public(P, step=1, d=0.25)
    yield "a rate of 0", idle, zero + 3, public(P, lr=0.0)


def test_extremes_are_taken(circuit: Circuit, mock_prover: MockProver) -> None:
    made, said = [], []
    for name, pre, g, pub in extreme(circuit):
        placed = Public(pub | place_in([1], 0))
        (w,) = witnesses(circuit, [(pre, g)], pub)
        made.append(columns(circuit, w, advance(circuit, w, placed), placed))
        said.append(name)
    assert [n for n, v in zip(said, mock_prover.verdicts(circuit, made), strict=True) if not v] == []


def test_a_shard_that_says_it_is_at_another_place_is_refused(circuit: Circuit, mock_prover: MockProver) -> None:
    middle, pub = block(circuit, 3, public(circuit.P))[1]
    honest = columns(circuit, middle, advance(circuit, middle, pub), pub)
    at = len(ST.public)
    others = [replace(honest, hyper=[*honest.hyper[:at], *flags]) for flags in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert mock_prover.verdicts(circuit, others) == [True, False, False, False]


def test_moments_that_leave_the_circuit_are_refused_before_they_are_proven(circuit: Circuit) -> None:
    (w, pub), P = block(circuit, 1, public(circuit.P))[0], circuit.P
    for r in (-5 * P, 2 * P**R_DIGITS):
        v = w.pre["v"].copy()
        v[0] = r
        with pytest.raises(FormatError):
            advance(circuit, replace(w, pre={**w.pre, "v": v}), pub)
