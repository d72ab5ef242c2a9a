"""Salt and noise: the numbers, the lemmas they rest on, and that real proofs show what the numbers count."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.proofs.proving import Proved
from tests.support.lookups import INNER, guess
from tests.support.transcript import (
    column_at,
    inverses,
    keccak256,
    key_digest,
    lagrange,
    layout,
    open_proof,
    root_of_unity,
)
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import PROFILES
from zk_autograd.proofs.ezkl.commit import TAIL
from zk_autograd.proofs.ezkl.constraints import PIECES, read_key
from zk_autograd.proofs.ezkl.hiding import (
    COUNTS_SEEN,
    FIELD_BITS,
    SECURITY,
    SUMS_SEEN,
    Shape,
    distance_bits,
    histogram_bits,
    noise_lookups,
    salt_elements,
    salt_failure_bits,
    shape,
)
from zk_autograd.proofs.witness import SALT


def test_a_column_has_the_salt_that_its_openings_need() -> None:
    assert salt_elements() == SALT
    for profile in PROFILES.values():
        # A run of 2^40 columns still has a chance below 2^-128 that one of them is not hidden perfectly.
        assert salt_failure_bits(2**profile.logrows) > SECURITY + 40


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_profile_has_the_noise_that_its_shape_needs(name: str) -> None:
    profile = PROFILES[name]
    shown = shape(profile.logrows, profile.columns)
    assert shown.P == profile.P
    assert profile.noise == noise_lookups(shown)
    assert distance_bits(profile.noise, shown) >= SECURITY > distance_bits(profile.noise - profile.columns, shown)


def test_counting_the_order_of_draws_would_have_been_too_few() -> None:
    """270 draws carry 4050 bits in order, more than three arguments show, and as three histograms not even that."""
    shown = shape(15, 3)
    seen = (COUNTS_SEEN + SUMS_SEEN) * math.log2(MODULUS)
    assert 90 * math.log2(shown.P) > seen > histogram_bits(90, shown.P)
    assert distance_bits(270, shown) < 0


@pytest.mark.parametrize(("name", "enough"), [("small", 474), ("default", 420)])
def test_differences_of_sums_alone_would_need_less_noise(name: str, enough: int) -> None:
    """Of three sums with the same blinds, six values are unblinded and not nine: the profiles' noise is more than that.

    Lemma 5's sum over the arguments that agree, with six elements of the counts and six of the differences.
    """
    profile = PROFILES[name]

    def bits(noise: int) -> float:
        each = histogram_bits(noise // INNER, profile.P)
        agree = [math.log2(3) + 2 * FIELD_BITS - each, math.log2(3) + 7 * FIELD_BITS - 2 * each]
        agree.append((2 * INNER + SUMS_SEEN * (INNER - 1) + PIECES) * FIELD_BITS - INNER * each)
        return -(max(agree) + 2 - 2) / 2 - 1

    assert bits(enough) >= SECURITY > bits(enough - INNER)
    assert enough < profile.noise


def test_other_circuits_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 inner columns, got 4"):
        shape(15, 4)
    with pytest.raises(ValueError, match="no number of draws from 8 values"):
        noise_lookups(Shape(rows=16, arguments=3, pieces=4))


@settings(deadline=None)
@given(some.integers(1, 6), some.integers(2, 5))
def test_no_histogram_is_likelier_than_the_bound(draws: int, values: int) -> None:
    """Counted out: all sequences of draws, by histogram."""
    seen: dict[tuple[int, ...], int] = {}
    for drawn in itertools.product(range(values), repeat=draws):
        histogram = tuple(drawn.count(v) for v in range(values))
        seen[histogram] = seen.get(histogram, 0) + 1
    total = values**draws
    likeliest = max(seen.values()) / total
    collision = sum(n * n for n in seen.values()) / total**2
    assert collision <= likeliest <= 2.0 ** -histogram_bits(draws, values) * (1 + 1e-9)


def determinant(matrix: list[list[int]]) -> int:
    """Modulo the field's prime, by elimination."""
    rows, out = [list(row) for row in matrix], 1
    for i in range(len(rows)):
        pivot = next((j for j in range(i, len(rows)) if rows[j][i] % MODULUS), None)
        if pivot is None:
            return 0
        if pivot != i:
            rows[i], rows[pivot], out = rows[pivot], rows[i], -out
        out = out * rows[i][i] % MODULUS
        (inverse,) = inverses([rows[i][i]])
        for j in range(i + 1, len(rows)):
            factor = rows[j][i] * inverse % MODULUS
            rows[j] = [(a - factor * b) % MODULUS for a, b in zip(rows[j], rows[i], strict=True)]
    return out % MODULUS


@settings(deadline=None)
@given(some.lists(some.integers(2, MODULUS - 1), min_size=3, max_size=3), some.integers(0, 13))
def test_salt_rows_are_independent_unless_points_coincide_or_are_roots_of_unity(points: list[int], row: int) -> None:
    """Lemma 2, in the field itself: 16 rows, three of them salt."""

    def matrix(at: list[int]) -> list[list[int]]:
        return [lagrange(4, x)[row : row + 3] for x in at]

    bad = len(set(points)) < 3 or any(pow(x, 16, MODULUS) == 1 for x in points)
    if not bad:
        assert determinant(matrix(points)) != 0
    # Two openings at one point are one opening.
    assert any(pow(x, 16, MODULUS) == 1 for x in points) or determinant(matrix([points[0], *points[:2]])) == 0


def distances(prime: int, rows: int, draws: int, points: int, seeds: int) -> tuple[float, float]:
    """``(mean, bound)``: exact statistical distance of noise seen at random points from uniform, and lemma 5's bound.

    A field of ``prime`` elements small enough to count out: the weights are the real ones, Lagrange's, at ``points``
    random points each time, and the distribution of a sum of ``draws`` is a power in the Fourier domain.
    """
    rng = np.random.default_rng(prime + rows + draws)
    generator = next(g for g in range(2, prime) if len({pow(g, e, prime) for e in range(prime - 1)}) == prime - 1)
    omega, table = pow(generator, (prime - 1) // rows, prime), rows - 8
    roots = [pow(omega, v, prime) for v in range(rows)]
    found: list[float] = []
    while len(found) < seeds:
        at = [int(x) for x in rng.integers(0, prime, points)]
        if any(pow(x, rows, prime) == 1 for x in at) or len(set(at)) < points:
            continue
        one = np.zeros((prime,) * points)
        for v in range(table):
            weights = [
                (pow(x, rows, prime) - 1) * pow(rows, -1, prime) * roots[v] * pow(x - roots[v], -1, prime) % prime
                for x in at
            ]
            one[tuple(weights)] += 1 / table
        many = np.fft.ifftn(np.fft.fftn(one) ** draws).real
        found.append(float(np.abs(many - prime**-points).sum()) / 2)
    bound = 0.5 * math.sqrt(prime**points * 2.0 ** -histogram_bits(draws, table))
    return float(np.mean(found)), bound


@pytest.mark.parametrize(
    ("prime", "rows", "draws", "points"), [(12289, 256, 3, 1), (12289, 256, 4, 1), (7681, 64, 4, 1), (257, 64, 5, 2)]
)
def test_in_small_fields_real_weights_hide_as_well_as_the_lemma_says_of_random_ones(
    prime: int, rows: int, draws: int, points: int
) -> None:
    """The assumption under lemma 5, where it can be counted out: the real weights do no worse than its bound."""
    mean, bound = distances(prime, rows, draws, points, seeds=6)
    assert 0 < mean <= bound < 0.5
    # One draw fewer would not do: the bound is not idle.
    fewer, _ = distances(prime, rows, draws - 1, points, seeds=6)
    assert fewer > 3 * mean


def test_keccak_is_ethereums() -> None:
    """Known answers: the empty string, and one byte less and more than a block."""
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"transfer(address,uint256)").hex().startswith("a9059cbb")
    assert len({keccak256(bytes(n)) for n in (135, 136, 137)}) == 3


def test_a_real_proof_shows_what_the_numbers_count(proved: Callable[[str], Proved]) -> None:
    """Of a circuit of full size: the number of polynomials of each kind, and the noise in every look-up argument."""
    p = proved("sgd")
    circuit, rows = p.circuit, p.circuit.P + 8
    logrows = rows.bit_length() - 1
    shown = shape(logrows, INNER)
    found, key = layout(circuit), read_key((circuit.directory / "vk.key").read_bytes())
    proof = open_proof(p.proof, found, key_digest(circuit))
    weights = lagrange(logrows, proof.x)
    # The challenge is right only if each kind has as many commitments as we say; a public column shows that it is.
    assert column_at(weights, p.columns.hyper) == proof.evaluations[3]
    assert [column_at(weights, c) for c in (p.columns.pre, p.columns.post, p.columns.work)] == proof.evaluations[:3]
    assert (found.points, len(proof.evaluations), len(p.proof)) == (key.commitments, key.evaluations, key.proof_bytes)
    assert (found.pieces, found.lookups) == (shown.pieces, shown.arguments)

    def first_shift(fits: Callable[[int], bool], candidates: range) -> int:
        return next(s for s in candidates if fits(s))

    def count_fits(shift: int) -> bool:
        counts = guess(circuit, p.witness, p.pub, shift).counts((0,))
        return sum(c * w for c, w in zip(counts, weights, strict=True)) % MODULUS == proof.counts[0]

    def sums_fit(shift: int) -> bool:
        """The first two arguments' sums, each less what it adds up: the same blinds are left."""
        looked_up = guess(circuit, p.witness, p.pub, shift)
        left = [proof.sums[c] - looked_up.sums((c,), proof.theta, proof.beta, weights) for c in range(2)]
        return (left[0] - left[1]) % MODULUS == 0

    turn = first_shift(count_fits, range(INNER))
    shift = first_shift(sums_fit, range(turn, 90, INNER))
    looked_up = guess(circuit, p.witness, p.pub, shift)
    for column in range(INNER):
        counts = looked_up.counts((column,))
        assert sum(c * w for c, w in zip(counts, weights, strict=True)) % MODULUS == proof.counts[column]
    # Each of them has its share of the noise, which stands behind everything else.
    flat = looked_up.cells.T.reshape(-1)
    (used,) = np.nonzero(flat >= 0)
    noise = used[-circuit.noise :]
    assert flat[noise].tolist() == p.witness.noise.tolist()
    assert np.bincount(noise % INNER).tolist() == [circuit.noise // INNER] * INNER


def test_blinds_of_the_products_reach_every_piece_of_the_quotient() -> None:
    """Condition Q in small: 32 rows, the permutation argument's own formula, everything else at random.

    Each of the first four products has one blind left when its four values are given. The quotient's four pieces depend
    on these four blinds by an affine map; it is a bijection here, so its determinant is no zero polynomial.
    """
    rng, logrows, sets, pieces = random.Random(5), 5, 5, PIECES
    n, omega = 1 << logrows, root_of_unity(logrows)
    end = n - TAIL  # the last row of a product that is no blind

    def element() -> int:
        return rng.randrange(MODULUS)

    def times(a: list[int], b: list[int]) -> list[int]:
        out = [0] * (len(a) + len(b) - 1)
        for i, u in enumerate(a):
            for j, v in enumerate(b):
                out[i + j] += u * v
        return [c % MODULUS for c in out]

    def plus(a: list[int], b: list[int], factor: int = 1) -> list[int]:
        pairs = itertools.zip_longest(a, b, fillvalue=0)
        return [(u + factor * v) % MODULUS for u, v in pairs]

    def of_rows(rows: list[int]) -> list[int]:
        scale, turn = pow(n, -1, MODULUS), pow(omega, -1, MODULUS)
        return [scale * sum(v * pow(turn, i * j, MODULUS) for i, v in enumerate(rows)) % MODULUS for j in range(n)]

    def turned(a: list[int], rows: int) -> list[int]:
        return [c * pow(omega, rows * i % n, MODULUS) % MODULUS for i, c in enumerate(a)]

    def at(a: list[int], point: int) -> int:
        return sum(c * pow(point, i, MODULUS) for i, c in enumerate(a)) % MODULUS

    tau, x, y, beta, gamma = (element() for _ in range(5))
    seen = [tau, x, omega * x % MODULUS, pow(omega, -TAIL, MODULUS) * x % MODULUS]
    blinds = range(end + 1, n)
    active = of_rows([int(i < end) for i in range(n)])
    first = of_rows([int(i == 0) for i in range(n)])

    def left_over() -> list[int]:
        """The product that is zero in all rows but the blinds, and at all four points: one, up to a factor."""
        matrix = [[lagrange(logrows, s)[r] for r in blinds] for s in seen]
        minors = [determinant([row[:j] + row[j + 1 :] for row in matrix]) for j in range(len(blinds))]
        return of_rows([0] * (end + 1) + [m * (-1) ** j % MODULUS for j, m in enumerate(minors)])

    free = left_over()
    assert any(free)
    assert not any(at(free, s) for s in seen)
    images = []
    for s in range(sets - 1):
        ahead, behind = [1], [1]
        for j in range(3):
            column, sigma = ([element() for _ in range(n)] for _ in range(2))
            shifted = plus(of_rows(column), [gamma])
            ahead = times(ahead, plus(shifted, of_rows(sigma), beta))
            behind = times(behind, plus(shifted, [0, beta * pow(7, 3 * s + j + 1, MODULUS)]))
        step = plus(times(turned(free, 1), ahead), times(free, behind), -1)
        change = times(times(active, step), [pow(y, s + sets, MODULUS)])
        # The first product starts at 1, and every next one where the last ended: constraints in the first row.
        change = plus(change, times(first, free), pow(y, s, MODULUS))
        change = plus(change, times(first, turned(free, -TAIL)), -pow(y, s + 1, MODULUS))
        quotient = [0] * (pieces * n)
        rest = change + [0] * (len(quotient) + n - len(change))
        for i in range(len(rest) - 1, n - 1, -1):
            quotient[i - n] = rest[i]
            rest[i - n] = (rest[i - n] + rest[i]) % MODULUS
        assert not any(rest[:n])  # no constraint notices the blinds
        images.append([at(quotient[n * i : n * i + n], tau) for i in range(pieces)])
    assert determinant(images) != 0
