"""Whole layouts of 2^12 rows, with their real permutation and fixed columns and an honest witness in every cell.

* Every operand of every gate and look-up is a copy of a committed element, a constant or a result
  (``docs/soundness.md``).
* Condition Q of ``docs/zero-knowledge.md``: the products' blinds reach every piece of the quotient. The 4x4 determinant
  is a polynomial in the challenges and in the random rows; one place where it is not 0 shows that it is not the zero
  polynomial for this circuit and this witness.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain

import pytest
from zksnake._algebra import polynomial_bn254

from tests.proofs.test_hiding import determinant
from tests.support.circuits import without_keys
from tests.support.layout import ProvingKey, assigned, copies, read_proving_key
from tests.support.lookups import INNER
from tests.support.transcript import inverses, lagrange, root_of_unity
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit, Profile
from zk_autograd.proofs.ezkl.commit import TAIL
from zk_autograd.proofs.ezkl.constraints import _ORDER, DEGREE, DELTA, LOOKUPS, PIECES
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl, shard_size
from zk_autograd.proofs.witness import SALT
from zk_autograd.statement import STATEMENTS

LOGROWS, NOISE, COSET = 12, 18, 7
N, WIDE = 1 << LOGROWS, PIECES << LOGROWS


class Layout:
    """A circuit's columns by rows, random elements where a prover has them, and challenges."""

    def __init__(self, pk: ProvingKey, advice: list[list[int]], seed: int) -> None:
        self.rng, self.pk, self.key = random.Random(seed), pk, pk.key
        inner = range(self.key.inputs, self.key.advice)
        self.columns = [
            [*column[:-TAIL], *(self.element() for _ in range(TAIL))] if j in inner else column
            for j, column in enumerate(advice)
        ]
        self.columns += [pk.fixed[0], [0] * N]
        self.tau, self.x, self.beta, self.gamma, self.y = (self.element() for _ in range(5))

    def element(self) -> int:
        return self.rng.randrange(MODULUS)

    def free(self) -> list[int]:
        """The product that is 0 in all rows but the last five, and at the four points at which a product is seen."""
        omega = root_of_unity(LOGROWS)
        seen = [self.tau, *(self.x * pow(omega, turn, MODULUS) % MODULUS for turn in (0, 1, -TAIL))]
        blinds = range(N - TAIL + 1, N)
        weights = [lagrange(LOGROWS, s) for s in seen]
        matrix = [[w[r] for r in blinds] for w in weights]
        minors = [determinant([row[:j] + row[j + 1 :] for row in matrix]) for j in range(len(blinds))]
        rows = [0] * (N - len(blinds)) + [m * (-1) ** j % MODULUS for j, m in enumerate(minors)]
        assert any(rows)
        assert not any(sum(f * v for f, v in zip(rows, w, strict=True)) % MODULUS for w in weights)
        return rows

    def powers(self, product: int) -> dict[str, int]:
        """Of y, for the constraints in which a product stands: signs included."""
        sets = self.key.sets
        before = len(_ORDER) + LOOKUPS
        count = before + 2 + (sets - 1) + sets + 3 * LOOKUPS

        def power(number: int) -> int:
            return pow(self.y, count - 1 - number, MODULUS)

        starts = -power(before) if product == 0 else power(before + 1 + product)
        return {"starts": starts, "ends": -power(before + 2 + product), "steps": power(before + 1 + sets + product)}


@cache
def places(size: int) -> list[int]:
    """Where the values at the powers of our root of unity stand among zksnake's, which has another one."""
    order = polynomial_bn254.fft([0, 1] + [0] * (size - 2), size)
    turn = order.index(root_of_unity(size.bit_length() - 1))
    return [turn * i % size for i in range(size)]


def evaluated(coefficients: list[int], size: int) -> list[int]:
    """A polynomial at the powers of the root of unity of order ``size``."""
    found = polynomial_bn254.fft(coefficients + [0] * (size - len(coefficients)), size)
    return [found[i] for i in places(size)]


def interpolated(rows: list[int]) -> list[int]:
    """The inverse of :func:`evaluated`."""
    turned = [0] * len(rows)
    for i, value in zip(places(len(rows)), rows, strict=True):
        turned[i] = value
    return list(polynomial_bn254.ifft(turned, len(rows)))


def on_coset(rows: list[int]) -> list[int]:
    """A column as a polynomial, at ``COSET`` times every root of unity of order ``4n``."""
    scale, moved = 1, []
    for c in interpolated(rows):
        moved.append(c * scale % MODULUS)
        scale = scale * COSET % MODULUS
    return evaluated(moved, WIDE)


def pieces(layout: Layout, product: int, free: list[int]) -> list[list[int]]:
    """By how much the quotient's pieces change, as coefficients, if one unit of ``free`` is added to a product."""
    omega, y, step = root_of_unity(LOGROWS + 2), layout.powers(product), WIDE // N
    f, first = on_coset(free), on_coset([int(i == 0) for i in range(N)])
    active = on_coset([int(i < N - TAIL) for i in range(N)])
    left, right = f[step:] + f[:step], list(f)
    ended = f[-TAIL * step :] + f[: -TAIL * step]
    shift, points = pow(DELTA, product * (DEGREE - 2), MODULUS), [COSET]
    for _ in range(WIDE - 1):
        points.append(points[-1] * omega % MODULUS)
    for j in range(product * (DEGREE - 2), (product + 1) * (DEGREE - 2)):
        column, sigma = on_coset(layout.columns[j]), on_coset(layout.pk.permutation[j])
        left = [z * (c + layout.beta * s + layout.gamma) % MODULUS for z, c, s in zip(left, column, sigma, strict=True)]
        right = [
            z * (c + layout.beta * shift * p + layout.gamma) % MODULUS
            for z, c, p in zip(right, column, points, strict=True)
        ]
        shift = shift * DELTA % MODULUS
    vanishing = inverses([(pow(p, N, MODULUS) - 1) % MODULUS for p in points[:step]])
    changed = [
        (y["starts"] * l0 * z + y["ends"] * l0 * e + y["steps"] * on * (a - b))
        % MODULUS
        * vanishing[i % step]
        % MODULUS
        for i, (l0, z, e, on, a, b) in enumerate(zip(first, f, ended, active, left, right, strict=True))
    ]
    scale, back, found = 1, pow(COSET, -1, MODULUS), []
    for c in interpolated(changed):
        found.append(c * scale % MODULUS)
        scale = scale * back % MODULUS
    return [found[i : i + N] for i in range(0, WIDE, N)]


def at(coefficients: list[int], point: int) -> int:
    value = 0
    for c in reversed(coefficients):
        value = (value * point + c) % MODULUS
    return value


def change_at(layout: Layout, product: int, free: list[int], r: int) -> int:
    """The same change of all constraints together, at one point and straight from the rows."""
    omega, y = root_of_unity(LOGROWS), layout.powers(product)
    weights = lagrange(LOGROWS, r)

    def value(rows: list[int], by: list[int] = weights) -> int:
        return sum(v * w for v, w in zip(rows, by, strict=True)) % MODULUS

    here, ahead, ended = (
        value(free, lagrange(LOGROWS, r * pow(omega, turn, MODULUS) % MODULUS)) for turn in (0, 1, -TAIL)
    )
    left, right = ahead, here
    for j in range(product * (DEGREE - 2), (product + 1) * (DEGREE - 2)):
        c = value(layout.columns[j])
        left = left * (c + layout.beta * value(layout.pk.permutation[j]) + layout.gamma) % MODULUS
        right = right * (c + layout.beta * pow(DELTA, j, MODULUS) * r + layout.gamma) % MODULUS
    active = sum(weights[: N - TAIL])
    return (weights[0] * (y["starts"] * here + y["ends"] * ended) + y["steps"] * active * (left - right)) % MODULUS


NAMES = [
    n if n == "adafactor-16" else pytest.param(n, marks=pytest.mark.slow)
    for n in sorted(STATEMENTS)
    if n != "adafactor-256"  # rows of 256 do not fit 2^12
]


@dataclass(frozen=True)
class LaidOut:
    """A circuit, its proving key, and the committed columns of an honest witness."""

    circuit: Circuit
    pk: ProvingKey
    committed: list[list[int]]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LaidOut]:
    srs = Ezkl().dev_srs(tmp_path_factory.mktemp("srs"), LOGROWS)

    def make(name: str) -> LaidOut:
        folder = tmp_path_factory.mktemp(name)
        shard = shard_size(STATEMENTS[name], Profile("full", LOGROWS, INNER, NOISE))
        circuit = without_keys(name, folder, LOGROWS, shard, NOISE)
        Ezkl()._keys(folder, srs)
        columns, _ = sample(circuit, 1)
        return LaidOut(circuit, read_proving_key(circuit), [list(c) for c in columns.in_order()])

    return cache(make)


@pytest.mark.parametrize("name", NAMES)
def test_every_operand_is_a_copy_of_a_committed_element_a_constant_or_a_result(
    laid_out: Callable[[str], LaidOut], name: str
) -> None:
    """Filling in the layout from the committed columns alone succeeds only then; see :func:`assigned`."""
    c = laid_out(name)
    assigned(c.pk, c.committed)
    alone = {number for number, count in Counter(chain(*copies(c.pk))).items() if count == 1}
    classes, st = copies(c.pk), c.circuit.statement
    for j, column in enumerate(c.committed):
        salt = SALT if j != 3 else 0  # the fourth is public
        used = len(column) - salt
        if st.shaped and j < 2:  # behind its moments v counts for nothing
            used = c.circuit.shard + st.rows(c.circuit.P) + st.length  # type: ignore[attr-defined]
        assert not alone & set(classes[j][:used]), "an element that no operation uses"
        assert set(classes[j][used : len(column)]) <= alone, "salt is copied somewhere"


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_element_that_is_another_does_not_fit_the_layout(
    laid_out: Callable[[str], LaidOut], name: str
) -> None:
    c = laid_out(name)
    other = [list(column) for column in c.committed]
    other[1][0] += 1
    with pytest.raises(AssertionError, match="is looked up, and is not in the table"):
        assigned(c.pk, other)


@pytest.mark.parametrize("name", NAMES)
def test_blinds_reach_every_piece_on_a_whole_layout(laid_out: Callable[[str], LaidOut], name: str) -> None:
    pk = laid_out(name).pk
    layout = Layout(pk, assigned(pk, laid_out(name).committed), seed=6)
    assert pk.key.sets - 1 >= PIECES
    free, images, r = layout.free(), [], layout.element()
    for product in range(PIECES):
        found = pieces(layout, product, free)
        # No constraint notices the blinds: what changes is divisible, and the quotient is as long as four pieces.
        quotient = sum(at(p, r) * pow(r, N * i, MODULUS) for i, p in enumerate(found))
        assert quotient * (pow(r, N, MODULUS) - 1) % MODULUS == change_at(layout, product, free, r)
        images.append([at(p, layout.tau) for p in found])
    assert determinant(images) != 0
