"""The constraint system that EZKL makes of our circuits, as a verifier needs it: from the verifying key alone.

Columns, in the order of the proof's commitments (all circuits of this project have these, whatever the statement):

* advice: the committed inputs (4, or 6 where running sums are carried); ``a`` and ``b``, operands of 3 gates a row;
  ``c``, their results;
* fixed: constants; the look-up table's two columns; 3 selectors of look-ups (one for each inner column); selectors of
  gates, several packed into one column;
* permutation: the copy constraints over all advice columns, the constants and an instance column that is empty.

How gates share selector columns (``_pack``) follows Halo2's own rule, since the key holds only the outcome. A mistake
in anything here makes every honest proof fail: the prover's quotient holds for one numerator only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from zk_autograd.errors import VerificationError
from zk_autograd.field import MODULUS as R
from zk_autograd.proofs.ezkl.srs import FIELD_MODULUS, affine

Point: TypeAlias = tuple[int, int] | None
"""Affine coordinates; None is the point at infinity."""

INNER = 3
DEGREE = 5
INPUTS = (4, 6)
LOOKUPS, BLINDING = INNER, 5
PIECES = DEGREE - 1
TABLES = 3
"""Fixed columns before the selectors: constants, two of the look-up."""
OFF = (0, 1)
"""What a look-up looks up where its selector is off: sigmoid of 0, as EZKL has it."""

DELTA = 0x09226B6E22C6F0CA64EC26AAD4C86E715B5F898E5E963F25870E56BBE533E9A2
"""Generator of the multiplicative subgroup of odd order, which tells columns apart in the permutation argument."""
ROOT = 0x03DDB9F5166D18B798865EA93DD31F743215CF6DD39329C8D34F1ED960C37C9C
"""A primitive 2^28-th root of unity."""

_SIMPLE = [2, 2, 3] * INNER + [3, 3, 5, 4, 2, 2]
"""Degrees of the gates whose selectors are packed, in the order of the key: add, sub, mul by column; then dot product's
first row and next rows, cumulative product's next and first, sum's first and next... see ``_ORDER``."""
_ADD, _SUB, _MUL = ([3 * i + j for i in range(INNER)] for j in range(3))
_DOT_INIT, _DOT, _PROD, _PROD_INIT, _SUM, _SUM_INIT = range(3 * INNER, 3 * INNER + 6)
_ORDER = [*_ADD, *_MUL, *_SUB, _DOT, _DOT_INIT, _PROD_INIT, _PROD, _SUM_INIT, _SUM]
"""The gates in the order in which the challenge combines them."""


@dataclass(frozen=True)
class Selector:
    """A gate is on where fixed column ``column`` has the value ``root``, one of ``1 .. size``."""

    column: int
    root: int
    size: int

    def evaluate(self, fixed: Sequence[int]) -> int:
        """``q * prod (i - q)`` over the other roots ``i``."""
        q = value = fixed[self.column]
        for i in range(1, self.size + 1):
            if i != self.root:
                value = value * (i - q) % R
        return value


@dataclass(frozen=True)
class Key:
    """A verifying key, read.

    Attributes:
        k: binary logarithm of the number of rows.
        fixed: commitments of the fixed columns.
        permutation: commitments of the permutation's columns.
        selectors: by gate, in the key's order.
    """

    k: int
    fixed: tuple[Point, ...]
    permutation: tuple[Point, ...]
    selectors: tuple[Selector, ...]

    @property
    def advice(self) -> int:
        """Advice columns; the permutation has the constants and the instance column beside them."""
        return len(self.permutation) - 2

    @property
    def inputs(self) -> int:
        """Committed inputs: the first advice columns."""
        return self.advice - 3 * INNER

    @property
    def sets(self) -> int:
        """Products of the permutation argument."""
        return -(-len(self.permutation) // (DEGREE - 2))

    @property
    def omega(self) -> int:
        """Generator of the rows' domain."""
        return pow(ROOT, 1 << (28 - self.k), R)

    @property
    def evaluations(self) -> int:
        """How many a proof holds."""
        return self.advice + 1 + len(self.fixed) + 1 + len(self.permutation) + 3 * self.sets - 1 + 3 * LOOKUPS

    @property
    def commitments(self) -> int:
        """How many points a proof holds before its evaluations."""
        return self.advice + 2 * LOOKUPS + self.sets + 1 + PIECES

    @property
    def proof_bytes(self) -> int:
        """Length of a proof: commitments, evaluations, and two points of the opening."""
        return 64 * (self.commitments + 2) + 32 * self.evaluations


def read_key(raw: bytes) -> Key:
    """A key as EZKL writes it: version, k, flags, fixed commitments, permutation commitments, selectors as bits.

    Raises:
        VerificationError: it is of another shape than our circuits'.
    """
    version, k, packed = raw[:3] if len(raw) > 7 else (0, 0, 0)
    count = int.from_bytes(raw[3:7], "little")
    gates, size = len(_SIMPLE) + LOOKUPS, (1 << min(k, 28)) // 8
    end = len(raw) - gates * size
    sized = any(end == 7 + 64 * (count + inputs + 3 * INNER + 2) for inputs in INPUTS)
    if (version, packed) != (3, 1) or not 8 <= k <= 28 or not sized:
        raise VerificationError("verifying key: of another shape than this release's circuits")
    points = [_point(raw[i : i + 64]) for i in range(7, end, 64)]
    start = 7 + 64 * len(points)
    bits = [int.from_bytes(raw[i : i + size], "little") for i in range(start, len(raw), size)]
    selectors = _pack(bits[: len(_SIMPLE)])
    columns = TABLES + LOOKUPS
    if 1 + max(s.column for s in selectors) + columns != count:
        raise VerificationError("verifying key: its columns are not those of this release's circuits")
    placed = tuple(Selector(s.column + columns, s.root, s.size) for s in selectors)
    return Key(k, tuple(points[:count]), tuple(points[count:]), placed)


def _point(raw: bytes) -> Point:
    x, y = affine(raw)
    if (x, y) == (0, 0):
        return None
    if (y * y - x * x * x - 3) % FIELD_MODULUS:
        raise VerificationError("verifying key: a point is not on the curve")
    return x, y


def _pack(rows: Sequence[int]) -> list[Selector]:
    """Halo2's packing of selectors (bit sets of rows) that are never on together, within the degree."""
    out: list[Selector | None] = [None] * len(rows)
    column = 0
    for i, degree in enumerate(_SIMPLE):
        if out[i] is not None:
            continue
        members, most = [i], degree - 1
        for j in range(i + 1, len(rows)):
            if most + len(members) == DEGREE:
                break
            wider = max(most, _SIMPLE[j] - 1)
            if out[j] is None and wider + len(members) < DEGREE and not any(rows[j] & rows[m] for m in members):
                members.append(j)
                most = wider
        for root, member in enumerate(members, 1):
            out[member] = Selector(column, root, len(members))
        column += 1
    return [s for s in out if s is not None]


@dataclass(frozen=True)
class Evaluations:
    """A proof's evaluations at ``x`` and its rotations, in the proof's order."""

    advice: Sequence[int]
    fixed: Sequence[int]
    random: int
    permutation: Sequence[int]
    sets: Sequence[Sequence[int]]
    lookups: Sequence[Sequence[int]]

    @classmethod
    def split(cls, values: Sequence[int], key: Key) -> Evaluations:
        """From the flat list."""
        at = 0

        def take(n: int) -> Sequence[int]:
            nonlocal at
            at += n
            return values[at - n : at]

        return cls(
            take(key.advice + 1), take(len(key.fixed)), take(1)[0], take(len(key.permutation)),
            [take(3 if i < key.sets - 1 else 2) for i in range(key.sets)], [take(3) for _ in range(LOOKUPS)],
        )  # fmt: skip


def numerator(
    key: Key, e: Evaluations, x: int, theta: int, beta: int, gamma: int, y: int, first: int, last: int, active: int
) -> int:
    """All constraints at ``x``, combined by powers of ``y``: what the quotient times ``x^n - 1`` must equal.

    Args:
        first, last, active: the polynomials that are 1 on the first row, on the last usable row, on all rows before it.
    """
    total = 0
    terms: list[int] = []
    push: Callable[[int], None] = terms.append
    # gates
    a, b, c = (e.advice[i : i + INNER] for i in range(key.inputs, key.advice, INNER))
    before = e.advice[key.advice]
    dot, product, added = sum(p * q for p, q in zip(a, b, strict=True)), b[0] * b[1] * b[2], sum(b)
    results = [0] * len(_SIMPLE)
    for i in range(INNER):
        results[_ADD[i]], results[_SUB[i]], results[_MUL[i]] = (
            c[i] - a[i] - b[i],
            c[i] - a[i] + b[i],
            c[i] - a[i] * b[i],
        )
    results[_DOT_INIT], results[_DOT] = c[0] - dot, c[0] - before - dot
    results[_PROD_INIT], results[_PROD] = c[0] - product, c[0] - before * product
    results[_SUM_INIT], results[_SUM] = c[0] - added, c[0] - before - added
    for gate in _ORDER:
        push(key.selectors[gate].evaluate(e.fixed) * results[gate])
    terms += [0] * LOOKUPS  # EZKL's empty gates, one for each look-up's selector
    # copies
    push(first * (1 - e.sets[0][0]))
    push(last * (e.sets[-1][0] * (e.sets[-1][0] - 1) % R))
    for now, past in zip(e.sets[1:], e.sets, strict=False):
        push(first * (now[0] - past[2]))
    columns = [*e.advice[: key.advice], e.fixed[0], 0]  # the instance column is empty: 0
    shift = beta * x % R
    for i, z in enumerate(e.sets):
        left, right = z[1], z[0]
        for j in range(i * (DEGREE - 2), min((i + 1) * (DEGREE - 2), len(columns))):
            left = left * (columns[j] + beta * e.permutation[j] + gamma) % R
            right = right * (columns[j] + shift + gamma) % R
            shift = shift * DELTA % R
        push(active * (left - right))
    # look-ups
    for i, (phi, phi_next, m) in enumerate(e.lookups):
        q = e.fixed[TABLES + i]
        f = (q * a[i] + (1 - q) * OFF[0]) * theta + q * c[i] + (1 - q) * OFF[1]
        f, t = (f + beta) % R, (e.fixed[1] * theta + e.fixed[2] + beta) % R
        push(first * phi)
        push(last * phi)
        push(active * ((t * f % R * (phi_next - phi) - t + m * f) % R))
    for term in terms:
        total = (total * y + term) % R
    return total
