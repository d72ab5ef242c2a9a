"""How much salt and noise a circuit needs: the numbers of ``docs/zero-knowledge.md``, computed from what a proof shows.

Pure arithmetic, in bits: ``log2`` of probabilities and of field elements. Lemma numbers are the page's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from zk_autograd.field import MODULUS
from zk_autograd.proofs.ezkl.constraints import INNER, LOOKUPS, PIECES

FIELD_BITS = math.log2(MODULUS)
"""Size of one revealed field element: 253.6 bits."""

SECURITY = 128
"""No distinguisher of one proof has an advantage above ``2**-SECURITY``."""

OPENED_AS = ("post", "pre")
"""The proofs that open a state column, once each, at their own point; other secret columns are opened once."""

COUNTS_SEEN = 2
"""Of a look-up's multiplicities ``m``: the commitment, and ``m(x)``."""

SUMS_SEEN = 3
"""Of a look-up's running sum ``phi``: the commitment, ``phi(x)`` and ``phi(omega x)``. An upper bound: all arguments
have the same blinds, so only the differences of their sums are seen without. The blinds are counted for nothing."""

SEEDS_BITS = 1
"""Keccak's 256 bits modulo p make no challenge likelier than 1.14 times 1/p; five challenges cost less than a bit."""


@dataclass(frozen=True)
class Shape:
    """What one proof shows of its look-ups, unblinded.

    Attributes:
        rows: rows of the circuit, ``2**logrows``.
        arguments: look-up arguments, noise spread evenly over them.
        pieces: commitments to the quotient's pieces, which KZG leaves without blinds.
    """

    rows: int
    arguments: int
    pieces: int

    @property
    def P(self) -> int:
        """Values that noise is drawn from: the look-up table."""
        return self.rows - 8


def shape(logrows: int, columns: int) -> Shape:
    """The shape of a circuit of ``2**logrows`` rows and ``columns`` inner columns, as EZKL 23.0.5 lays it out.

    Raises:
        ValueError: another number of columns than 3. It changes the number of arguments, and more than 3 change the
            degree, and with it the pieces and which look-ups share an argument.
    """
    if columns != INNER:
        raise ValueError(
            f"hiding: expected {INNER} inner columns, got {columns}; EZKL lays other circuits out otherwise"
        )
    return Shape(rows=2**logrows, arguments=LOOKUPS, pieces=PIECES)


def salt_elements(openings: int = len(OPENED_AS)) -> int:
    """Uniform elements for a column that is opened ``openings`` times (lemma 3): one more, for its commitment."""
    return 1 + openings


def salt_failure_bits(rows: int, openings: int = len(OPENED_AS)) -> float:
    """``-log2`` of the chance that a column's salt does not hide it perfectly (lemma 2).

    Two of its points coincide, or one is a root of unity: ``(pairs + points*rows)/p``.
    """
    points = 1 + openings
    return FIELD_BITS - math.log2(math.comb(points, 2) + points * rows) - SEEDS_BITS


def histogram_bits(draws: int, values: int) -> float:
    """Min-entropy of the histogram of ``draws`` uniform values out of ``values`` (lemma 4).

    The order of the draws does not show in a histogram: ``draws * log2(values) - log2(draws!)``.
    """
    return draws * math.log2(values) - math.lgamma(draws + 1) / math.log(2)


def distance_bits(noise: int, shown: Shape) -> float:
    """``-log2`` of the bound on the statistical distance of what a proof shows of its look-ups (lemma 5); may be < 0.

    With ``q`` the collision probability of one argument's noise, ``t = 5`` elements seen of each of ``L`` arguments and
    ``D`` pieces, the squared distance is at most ``((1 + q p^t)^L - 1 + (q p^t)^L p^D) / 4``.
    """
    excess = (COUNTS_SEEN + SUMS_SEEN) * FIELD_BITS - histogram_bits(noise // shown.arguments, shown.P)
    # (1 + z)^L - 1 <= 2^L max(z, z^L)
    some = shown.arguments + max(excess, shown.arguments * excess)
    every = shown.arguments * excess + shown.pieces * FIELD_BITS
    return -(max(some, every) + 1 - 2) / 2 - SEEDS_BITS


def noise_lookups(shown: Shape, security: float = SECURITY) -> int:
    """The fewest noise look-ups, the same number in every argument, for a distance below ``2**-security``.

    Raises:
        ValueError: the table is too small for any number to do.
    """
    each = 0
    # More draws than values only repeat histograms.
    while distance_bits(each * shown.arguments, shown) < security:
        each += 1
        if each > shown.P:
            raise ValueError(
                f"hiding: no number of draws from {shown.P} values hides {shown.arguments} look-up arguments"
            )
    return each * shown.arguments
