"""Adafactor's shard, a matrix with moments of its rows and columns: its size, and its step by the reference.

On a circuit of 2^12 rows: 21 rows of 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.proofs.adafactor_scenes import LR, NAME, ST, block, public
from zk_autograd.errors import FormatError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import OPS, PROFILES, Circuit
from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.system import _circuit, shard_size
from zk_autograd.proofs.witness import advance
from zk_autograd.statement import STATEMENTS, Public
from zk_autograd.statement.adafactor import (
    FAMILY,
    LARGEST_PUBLIC,
    LARGEST_SIZE,
    M_DIGITS,
    R_DIGITS,
    SW_DIGITS,
    X_DIGITS,
    Adafactor,
    direction_bits,
)


@pytest.fixture(scope="module")
def circuit(mock_circuit: Callable[..., Circuit]) -> Circuit:
    return mock_circuit(NAME, shard=ST.shard_of(2**12 - 8))


# Sizes.


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("st", FAMILY, ids=lambda st: st.name)
def test_a_shard_is_whole_rows_that_fit_the_circuit(st: Adafactor, profile: str) -> None:
    p = PROFILES[profile]
    shard = shard_size(st, p)
    assert shard == st.shard_of(p.P) == st.rows(p.P) * st.length
    _, cells = graph.build(st, p.P, p.columns, shard, p.noise)
    more = cells + 3 * (24 * st.length + 28 + 6 * 7)
    assert cells <= 3 * p.P * 0.998 < more
    assert max(graph.column_sizes(st, p.P, shard, p.noise).values()) < p.P


def test_a_circuit_with_shards_of_another_size_is_not_loaded(circuit: Circuit) -> None:
    description = {"statement": NAME, "logrows": 12, "shard": circuit.shard - 16, "noise": 16, "proof_bytes": 0}
    with pytest.raises(ValueError, match="no shards of 320"):
        _circuit(bytes(32), description, bytes(32), "DEV", circuit.directory, circuit.srs_path)


@pytest.mark.parametrize("logrows", range(12, 18))
@pytest.mark.parametrize("length", [16, 64, 256])
def test_no_difference_that_is_compared_reaches_half_the_prime(length: int, logrows: int) -> None:
    """The sizes of docs/soundness.md: of all values that digits and public integers allow, the largest."""
    P = 2**logrows - 8
    st = Adafactor("any", length)
    try:
        st.rows(P)
    except FormatError:
        pytest.skip("no such circuit")
    n, r, M = LARGEST_SIZE, P**R_DIGITS, P**M_DIGITS
    most = Public(n=n, B=LARGEST_PUBLIC, e1=LARGEST_PUBLIC, e2=LARGEST_PUBLIC, D=LARGEST_PUBLIC)
    totals = {"M": M, "sw": P**SW_DIGITS, "su": M}
    # Denominators grow with their moments, numerators with the sums.
    sizes = []
    for num, den in (st._row_share(r, M, most, P), st._column_share(M, most, P)):
        sizes += [num, (P * P) ** 2 * den]
    mean = 4 * M + n
    kept, weights = max(mean, n * most.e1), max(totals["sw"], n * most.e2)
    spread = mean * n * 4 ** direction_bits(P)
    sizes += [spread * most.D, 256 * kept * M, weights * most.B**2 * max(kept, most.D)]
    sizes += [(P**X_DIGITS) ** 2 * max(spread, 256 * M)]
    digits = [P ** (1 + sum(x.rpartition(".")[0] == name for x in st.scalars(P))) for name in ("X-", "over d")]
    assert 2 * max(sizes) + max(digits) < 2**231 < MODULUS // 2


# The reference.


def test_the_step_is_the_one_that_is_written_down(circuit: Circuit) -> None:
    """By Python's integers, element by element, over a block of two shards."""
    P, R, C, pub = circuit.P, ST.rows(circuit.P), ST.length, public(circuit.P)
    parts = block(circuit, 2, pub, seed=5)
    r, c, before = [], [[0] * C for _ in parts], [w.pre["v"].tolist() for w, _ in parts]
    for s, (w, _) in enumerate(parts):
        g = w.g.reshape(R, C).tolist()
        r.append([(pub.b2 * before[s][i] + pub.c2 * sum(x * x for x in g[i]) + pub.r) // P for i in range(R)])
        c[s] = [(pub.b2 * before[s][R + j] + pub.c2 * sum(row[j] ** 2 for row in g) + pub.r) // P for j in range(C)]
    M, columns_ = sum(map(sum, r)), [sum(x) for x in zip(*c, strict=True)]
    s4, n = 4 ** direction_bits(P), pub.n
    b = [math.isqrt(64 * n * s4 * P * P // (4 * C * x + n)) for x in columns_]
    u = []
    for s, (w, _) in enumerate(parts):
        a = [math.isqrt(P * P * C * (4 * M + n) // (16 * n * (4 * x + C))) for x in r[s]]
        u.append([(a[i] * b[j] * int(w.g[i * C + j]) + pub.o * P) // (P * P) for i in range(R) for j in range(C)])
    sw, su = sum(int(x) ** 2 for w, _ in parts for x in w.pre["w"]), sum(x * x for row in u for x in row)
    G, S = max(4 * M + n, n * pub.e1), max(sw, n * pub.e2)
    one, two = pub.B**2 * S * G // ((4 * M + n) * n * s4), pub.B**2 * S * pub.D // (256 * su)
    T = (math.isqrt(min(one, two)) + pub.j) // P
    for s, (w, p) in enumerate(parts):
        step = advance(circuit, w, p)
        assert step.hints["u"].tolist() == u[s]
        assert step.post["v"].tolist() == r[s] + c[s] + [0] * (R * C - R - C)
        assert step.post["w"].tolist() == [int(x) - (T * y + pub.r) // P for x, y in zip(w.pre["w"], u[s], strict=True)]


def test_a_block_cut_into_shards_moves_as_one(circuit: Circuit) -> None:
    parts = block(circuit, 3, public(circuit.P))
    whole = {n: np.concatenate([w.pre[n] for w, _ in parts]) for n in ST.state}
    g = np.concatenate([w.g for w, _ in parts])
    post, hints = ST.advance(whole, g, parts[0][1], circuit.P, OPS)
    steps = [advance(circuit, w, pub) for w, pub in parts]
    assert all(np.array_equal(post[n], np.concatenate([s.post[n] for s in steps])) for n in ST.state)
    assert all(np.array_equal(hints[n], np.concatenate([s.hints[n] for s in steps])) for n in ST.hints)
    alone = np.concatenate([ST.advance(w.pre, w.g, p, circuit.P, OPS)[0]["w"] for w, p in parts])
    assert not np.array_equal(post["w"], alone), "the test does not see whether sums are those of the block"


@pytest.mark.parametrize("name", [p.name for p in FAMILY])
def test_powers_of_the_step_are_those_of_real_numbers(name: str) -> None:
    st, P = STATEMENTS[name], 2**16 - 8
    hyper = dict(st.defaults)
    fmt = st.choose_format(hyper, LR, 1.0, P)
    first = st.public_integers(hyper, LR, 1, fmt, P)
    assert (first.b2, first.c2) == (0, P), "what the genesis says of moments counts for nothing"
    for step in (2, 3, 100, 12345, 10**6):
        pub = st.public_integers(hyper, LR, step, fmt, P)
        assert abs(pub.c2 - P * step**-0.8) <= 1
        assert pub.b2 + pub.c2 == P
        assert abs(pub.B / (P * P * min(LR, step**-0.5)) - 1) < 1e-6
