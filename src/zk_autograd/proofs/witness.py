"""The secret of one shard of one step: what the enclave hands to a prover, and the columns that follow from it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zk_autograd.errors import DecodeError, FormatError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import OPS, Circuit, Columns, Ints, check_bounds
from zk_autograd.statement import Public, Statement

SALT = 3
"""Uniform field elements behind each secret column: one commitment and at most two openings are three functions."""

Salt = tuple[int, int, int]

STATE_LIMIT = 1 << 50
"""No state integer may reach this: no honest one comes near it."""


def fresh_salt() -> Salt:
    """Three uniform field elements from the system's random source."""
    return (secrets.randbelow(MODULUS), secrets.randbelow(MODULUS), secrets.randbelow(MODULUS))


def fresh_noise(count: int, P: int) -> Ints:
    """``count`` uniform values of ``[0, P)``, by rejection from 32-bit draws."""
    out = np.empty(0, dtype=np.int64)
    ceiling = (1 << 32) // P * P
    while len(out) < count:
        draw = np.frombuffer(secrets.token_bytes(4 * count + 64), dtype="<u4").astype(np.int64)
        out = np.concatenate([out, draw[draw < ceiling] % P])
    return out[:count]


@dataclass(frozen=True)
class ShardWitness:
    """Everything secret about one shard of one step; the state after it and the hints follow from it.

    Attributes:
        pre: state before the step by name, int64 of shape (shard,).
        g: gradient, int64 of shape (shard,).
        noise: int64 of shape (noise,), values of [0, P).
        salt_pre, salt_post, salt_work: field elements; ``salt_pre`` is the previous step's ``salt_post``.
    """

    pre: Mapping[str, Ints]
    g: Ints
    noise: Ints
    salt_pre: Salt
    salt_post: Salt
    salt_work: Salt

    def to_bytes(self, st: Statement) -> bytes:
        """Fixed-length little-endian encoding: int64 state, int32 gradient, uint32 noise, 32 bytes per salt."""
        parts = [self.pre[name].astype("<i8").tobytes() for name in st.state]
        parts += [self.g.astype("<i4").tobytes(), self.noise.astype("<u4").tobytes()]
        parts += [s.to_bytes(32, "little") for salt in (self.salt_pre, self.salt_post, self.salt_work) for s in salt]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes, st: Statement, shard: int, noise: int) -> ShardWitness:
        """Inverse of :meth:`to_bytes`; DecodeError unless the length is exact and every salt is a field element."""
        expected = encoded_bytes(st, shard, noise)
        if len(data) != expected:
            raise DecodeError(
                f"witness: expected {expected} bytes for {st.name} with {shard} parameters, got {len(data)}"
            )
        at = 0

        def take(dtype: str, count: int) -> Ints:
            nonlocal at
            array = np.frombuffer(data, dtype=dtype, count=count, offset=at).astype(np.int64)
            at += count * np.dtype(dtype).itemsize
            return array

        pre = {name: take("<i8", shard) for name in st.state}
        g, fresh = take("<i4", shard), take("<u4", noise)
        salts = [int.from_bytes(data[i : i + 32], "little") for i in range(at, expected, 32)]
        if any(s >= MODULUS for s in salts):
            raise DecodeError("witness: a salt is not a canonical field element")
        a, b, c = salts[0:3], salts[3:6], salts[6:9]
        return cls(pre, g, fresh, (a[0], a[1], a[2]), (b[0], b[1], b[2]), (c[0], c[1], c[2]))


def encoded_bytes(st: Statement, shard: int, noise: int) -> int:
    """Length of an encoded witness: the same for every shard of a circuit, so that sizes tell nothing."""
    return 8 * len(st.state) * shard + 4 * shard + 4 * noise + 3 * SALT * 32


@dataclass(frozen=True)
class Advanced:
    """One shard's step, computed: state after it and hints, int64 of shape (shard,) each."""

    post: Mapping[str, Ints]
    hints: Mapping[str, Ints]


def advance(circuit: Circuit, witness: ShardWitness, pub: Public) -> Advanced:
    """Computes the step with the integer reference and checks every bound the circuit will check.

    Raises:
        FormatError: a value is outside the circuit's range; names the bounds, not the values.
    """
    st, P = circuit.statement, circuit.P
    if any(int(x.min()) <= -STATE_LIMIT or int(x.max()) >= STATE_LIMIT for x in witness.pre.values()):
        raise FormatError("witness: a state value is outside the 64-bit range of the reference")
    if any(not 0 <= x < 1 << 42 for x in pub.values()):
        raise FormatError("witness: a public integer is outside 0..2^42")
    if int(witness.noise.max(initial=0)) >= P or int(np.abs(witness.g).max(initial=0)) > st.gradient_limit(P):
        raise FormatError("witness: noise or gradient outside the look-up table")
    with np.errstate(invalid="ignore"):  # a negative v has no root: the bounds say so
        post, hints = st.advance(witness.pre, witness.g, pub, P, OPS)
    # Over Python's integers: a product that left 64 bits would fail here, as it would in the circuit.
    pre, exact_post, exact_hints = _exact(witness.pre), _exact(post), _exact(hints)
    failed = check_bounds(st, pre, exact_post, witness.g.astype(object), exact_hints, pub, P)
    if failed:
        raise FormatError(f"witness: the step leaves the look-up table of {P}: {'; '.join(failed)}")
    return Advanced(post, hints)


def _exact(arrays: Mapping[str, Ints]) -> dict[str, Any]:
    return {name: x.astype(object) for name, x in arrays.items()}


def columns(circuit: Circuit, witness: ShardWitness, step: Advanced, pub: Public) -> Columns:
    """The committed columns, salts included, in the circuit's order."""
    st = circuit.statement

    def flat(arrays: list[Ints], salt: Salt) -> list[int]:
        return [*np.concatenate(arrays).tolist(), *salt]

    return Columns(
        pre=flat([witness.pre[n] for n in st.state], witness.salt_pre),
        post=flat([step.post[n] for n in st.state], witness.salt_post),
        work=flat([witness.g, *(step.hints[n] for n in st.hints), witness.noise], witness.salt_work),
        hyper=st.public_vector(pub),
    )


def place(run_id: bytes, step: int, shard: int, pre: bytes, post: bytes, work: bytes) -> bytes:
    """What an encrypted witness belongs to: run, step, shard and the three commitments (associated data)."""
    return b"".join([b"witness\0", run_id, step.to_bytes(8, "big"), shard.to_bytes(4, "big"), pre, post, work])
