"""Verifies many proofs of one circuit together: one pairing check for all of them.

A second, independent implementation of what EZKL's verifier does (Halo2 with KZG, multi-opening by SHPLONK, Keccak
transcript), for proofs without instances of the circuits of this project. EZKL takes one proof a call, and each call
builds tables for the prover's Fourier transforms and a pairing of its own.

A proof that holds satisfies ``e(L, [s]G2) = e(R, G2)`` for two points that follow from it. For random ``rho`` of 128
bits, ``e(sum rho_i L_i, [s]G2) = e(sum rho_i R_i, G2)`` holds with probability 2^-128 if one of them does not.

Only acceptance is decided here. What is not accepted, for whatever reason, is for EZKL to judge.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from zksnake._algebra import ec_bn254

from zk_autograd.field import MODULUS as R
from zk_autograd.proofs.ezkl.constraints import (
    BLINDING,
    LOOKUPS,
    PIECES,
    Evaluations,
    Key,
    Point,
    numerator,
)
from zk_autograd.proofs.ezkl.keccak import Bytes, keccak_256
from zk_autograd.proofs.ezkl.srs import FIELD_MODULUS


@dataclass(frozen=True)
class Claim:
    """``e(left, [s]G2) = e(right, G2)``: a proof, reduced to scalars of points.

    Attributes:
        points: the proof's own points, the second point of the opening last.
        scalars: of ``points``, in ``right``; ``left`` is the last point.
        shared: scalars of the key's points and, last, of the generator, in ``right``.
    """

    points: list[Any]
    scalars: list[int]
    shared: list[int]


class BatchVerifier:
    """See the module's text.

    Args:
        digest: the field element (32 big-endian bytes) that Halo2 hashes first for the key. It stands for the key and
            adds nothing to it: with another value no proof is accepted.
        g2, s_g2: the SRS's two G2 points, as :func:`~zk_autograd.proofs.ezkl.srs.g2_points` gives them.
    """

    def __init__(self, key: Key, digest: bytes, g2: Sequence[int], s_g2: Sequence[int]) -> None:
        self._key, self._digest = key, np.frombuffer(digest, dtype=np.uint8)
        self._g2, self._s_g2 = ec_bn254.PointG2(*g2), ec_bn254.PointG2(*s_g2)
        self._shared = [_g1(p) for p in (*key.fixed, *key.permutation)] + [ec_bn254.g1()]
        w, inverse = key.omega, pow(key.omega, -1, R)
        self._rows, self._per_row = 1 << key.k, pow(1 << key.k, -1, R)
        # Rotations by 1, -1 and to the last usable row; rows -6 .. 0.
        self._next, self._previous, self._last = w, inverse, pow(inverse, BLINDING + 1, R)
        self._ends = [pow(inverse, i, R) for i in range(BLINDING + 1, -1, -1)]

    def accepted(self, proofs: Sequence[bytes]) -> list[bool]:
        """Which of ``proofs`` hold; False also for what is malformed or of another length."""
        held = [False] * len(proofs)
        whole = [i for i, proof in enumerate(proofs) if len(proof) == self._key.proof_bytes]
        claims = [(i, claim) for i, claim in zip(whole, self._claims([proofs[i] for i in whole]), strict=True) if claim]
        for i in self._holding(claims):
            held[i] = True
        return held

    def _holding(self, claims: list[tuple[int, Claim]]) -> list[int]:
        """Numbers of the claims that hold, found by halving."""
        if not claims or self._check([claim for _, claim in claims]):
            return [i for i, _ in claims]
        if len(claims) == 1:
            return []
        half = len(claims) // 2
        return self._holding(claims[:half]) + self._holding(claims[half:])

    def _check(self, claims: Sequence[Claim]) -> bool:
        lefts, left_scalars = [], []
        points, scalars, shared = list(self._shared), [], [0] * len(self._shared)
        for claim in claims:
            rho = secrets.randbits(128) | 1 << 128
            lefts.append(claim.points[-1])
            left_scalars.append(rho)
            points += claim.points
            scalars += [rho * s % R for s in claim.scalars]
            shared = [(t + rho * s) % R for t, s in zip(shared, claim.shared, strict=True)]
        left = ec_bn254.multiscalar_mul_g1(lefts, left_scalars)
        right = ec_bn254.multiscalar_mul_g1(points, shared + scalars)
        return bool(ec_bn254.pairing(left, self._s_g2) == ec_bn254.pairing(right, self._g2))

    def _claims(self, proofs: Sequence[bytes]) -> list[Claim | None]:
        if not proofs:
            return []
        rows = np.frombuffer(b"".join(proofs), dtype=np.uint8).reshape(len(proofs), -1)
        challenges = self._challenges(rows)
        return [self._claim(proof, c) for proof, c in zip(proofs, challenges, strict=True)]

    def _challenges(self, rows: Bytes) -> list[list[int]]:
        """theta, beta, gamma, y, x, and the opening's y, v, u, of each proof (a row)."""
        n, key, at = len(rows), self._key, 0
        state = np.broadcast_to(self._digest, (n, 32))
        one = np.ones((n, 1), dtype=np.uint8)
        drawn = []
        evaluations = 32 * key.evaluations
        for size in (64 * key.advice, 64 * LOOKUPS, 0, 64 * (key.sets + LOOKUPS + 1), 64 * PIECES, evaluations, 0, 64):
            # A hash that follows a hash with nothing between takes one byte more, so that it is another.
            state = keccak_256(np.concatenate([state, rows[:, at : at + size] if size else one], axis=1))
            at += size
            drawn.append(state)
        return [[int.from_bytes(h[i].tobytes(), "big") % R for h in drawn] for i in range(n)]

    def _claim(self, proof: bytes, challenges: Sequence[int]) -> Claim | None:
        """What the proof reduces to; None if it is malformed."""
        key = self._key
        theta, beta, gamma, y, x, oy, v, u = challenges
        cut = 64 * key.commitments
        end = cut + 32 * key.evaluations
        points = _points(proof[:cut] + proof[end:])
        values = [int.from_bytes(proof[i : i + 32], "big") for i in range(cut, end, 32)]
        if points is None or any(value >= R for value in values):
            return None
        e = Evaluations.split(values, key)
        # Everything that is divided by, inverted at once. A zero among them has no honest cause.
        xn = pow(x, self._rows, R)
        nexts, previous, final = x * self._next % R, x * self._previous % R, x * self._last % R
        others = (u - nexts) * (u - previous) % R * (u - final) % R
        inverses = _invert(
            [(x - row) % R for row in self._ends]
            + [(xn - 1) % R, others, (x - previous) % R, (x - nexts) % R, (x - final) % R, (nexts - final) % R]
        )
        if inverses is None:
            return None
        per_row, (zh, per_others, ip, in_, if_, inf) = inverses[: BLINDING + 2], inverses[BLINDING + 2 :]
        scale = (xn - 1) * self._per_row % R
        rows = [scale * row % R * inv % R for row, inv in zip(self._ends, per_row, strict=True)]
        quotient = numerator(
            key, e, x, theta, beta, gamma, y, first=rows[-1], last=rows[0], active=(1 - sum(rows[:-1])) % R
        )
        quotient = quotient * zh % R

        # The opening: four sets of points, in the order in which the queries meet them.
        d, dn, dp, df = (u - x) % R, (u - nexts) % R, (u - previous) % R, (u - final) % R
        per_set = [  # v^i times the vanishing polynomial of the other points at u, over that of the first set
            1,
            v * dn % R * df % R * per_others % R,
            v * v % R * dp % R * per_others % R,
            v * v % R * v % R * dp % R * df % R * per_others % R,
        ]
        at_previous = (dp * ip % R, -d * ip % R)  # Lagrange: weights of the values at x and at each other point
        at_next = (dn * in_ % R, -d * in_ % R)
        at_all = (dn * df % R * in_ % R * if_ % R, -d * df % R * in_ % R * inf % R, d * dn % R * if_ % R * inf % R)

        scalars = [0] * (key.commitments + 2)
        shared = [0] * len(self._shared)
        result = 0

        def opening(i: int) -> int:
            powers[i] = powers[i] * oy % R
            return powers[i]

        start = pow(oy, -1, R) if oy else 0
        powers = [p * start % R for p in per_set]
        advice, sets, sums = key.advice, key.sets, key.inputs + 6  # the column of results that adds up over rows
        products = advice + LOOKUPS  # after these: permutation products, look-up sums, the random polynomial, pieces
        single = [(i, e.advice[i]) for i in range(advice) if i != sums]
        single += [(advice + i, e.lookups[i][2]) for i in range(LOOKUPS)]
        for i, value in single:
            scalars[i] = opening(0)
            result += scalars[i] * value
        for i, value in enumerate((*e.fixed, *e.permutation)):
            shared[i] = opening(0)
            result += shared[i] * value
        power = opening(0)
        result += power * quotient
        for i in range(PIECES):
            scalars[products + sets + LOOKUPS + 1 + i] = power
            power = power * xn % R
        scalars[products + sets + LOOKUPS] = opening(0)
        result += scalars[products + sets + LOOKUPS] * e.random
        scalars[sums] = opening(1)
        result += scalars[sums] * (at_previous[0] * e.advice[sums] + at_previous[1] * e.advice[advice])
        for i, z in enumerate(e.sets[:-1]):
            scalars[products + i] = opening(2)
            result += scalars[products + i] * sum(p * q for p, q in zip(at_all, z, strict=True))
        for i, z in enumerate((e.sets[-1], *e.lookups)):
            scalars[products + sets - 1 + i] = opening(3)
            result += scalars[products + sets - 1 + i] * (at_next[0] * z[0] + at_next[1] * z[1])
        shared[-1] = -result % R
        scalars[-2], scalars[-1] = -d % R, u
        return Claim(points, scalars, shared)


def _points(raw: bytes) -> list[Any] | None:
    """Points of 64 big-endian bytes; None if one is not canonical, not on the curve, or at infinity.

    On the curve is in the group: G1 of BN254 has no cofactor.
    """
    q, out = FIELD_MODULUS, []
    for i in range(0, len(raw), 64):
        x, y = int.from_bytes(raw[i : i + 32], "big"), int.from_bytes(raw[i + 32 : i + 64], "big")
        if x >= q or y >= q or (y * y - x * x * x - 3) % q:
            return None
        out.append(ec_bn254.PointG1(x, y))
    return out


def _g1(point: Point) -> Any:
    return ec_bn254.PointG1.identity() if point is None else ec_bn254.PointG1(*point)


def _invert(values: Sequence[int]) -> list[int] | None:
    """Inverses modulo R by one inversion; None if one is zero."""
    before, product = [], 1
    for value in values:
        before.append(product)
        product = product * value % R
    if product == 0:
        return None
    inverse, out = pow(product, -1, R), [0] * len(values)
    for i in range(len(values) - 1, -1, -1):
        out[i] = inverse * before[i] % R
        inverse = inverse * values[i] % R
    return out
