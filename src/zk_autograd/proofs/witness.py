"""The secret of one shard of one step: what the enclave hands to a prover, and the columns that follow from it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np

from zk_autograd.errors import DecodeError, FormatError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import OPS, Circuit, Columns, Ints, check_bounds
from zk_autograd.statement import Public, Statement, carry_bounds

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
class Carried:
    """What a shard of a statement with ``carries`` knows of its block; integers in the order of ``carries``.

    Attributes:
        before: sums over the block's earlier shards.
        totals: sums over all of its shards.
        salt_in, salt_out: field elements; ``salt_in`` is the ``salt_out`` of the shard before.
    """

    before: tuple[int, ...]
    totals: tuple[int, ...]
    salt_in: Salt
    salt_out: Salt


@dataclass(frozen=True)
class ShardWitness:
    """Everything secret about one shard of one step; the state after it and the hints follow from it.

    Attributes:
        pre: state before the step by name, int64 of shape (shard,).
        g: gradient, int64 of shape (shard,).
        noise: int64 of shape (noise,), values of [0, P).
        salt_pre, salt_post, salt_work: field elements; ``salt_pre`` is the previous step's ``salt_post``.
        carried: what it knows of its block, if the statement has ``carries``.
    """

    pre: Mapping[str, Ints]
    g: Ints
    noise: Ints
    salt_pre: Salt
    salt_post: Salt
    salt_work: Salt
    carried: Carried | None = None

    def to_bytes(self, st: Statement) -> bytes:
        """Fixed-length little-endian encoding: int64 state, int32 gradient, uint32 noise, 32 bytes per salt and sum."""
        parts = [self.pre[name].astype("<i8").tobytes() for name in st.state]
        parts += [self.g.astype("<i4").tobytes(), self.noise.astype("<u4").tobytes()]
        elements = [*self.salt_pre, *self.salt_post, *self.salt_work]
        if self.carried is not None:
            c = self.carried
            elements += [*c.before, *c.totals, *c.salt_in, *c.salt_out]
        return b"".join([*parts, *(x.to_bytes(32, "little") for x in elements)])

    @classmethod
    def from_bytes(cls, data: bytes, st: Statement, shard: int, noise: int) -> ShardWitness:
        """Inverse of :meth:`to_bytes`; DecodeError unless the length is exact and salts and sums are field elements."""
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
        elements = [int.from_bytes(data[i : i + 32], "little") for i in range(at, expected, 32)]
        if any(x >= MODULUS for x in elements):
            raise DecodeError("witness: a salt or a sum is not a canonical field element")

        def salt() -> Salt:
            return elements.pop(0), elements.pop(0), elements.pop(0)

        secret = cls(pre, g, fresh, salt(), salt(), salt())
        if not st.carries:
            return secret
        sums = [elements.pop(0) for _ in range(2 * len(st.carries))]
        carried = Carried(tuple(sums[: len(st.carries)]), tuple(sums[len(st.carries) :]), salt(), salt())
        return replace(secret, carried=carried)


def encoded_bytes(st: Statement, shard: int, noise: int) -> int:
    """Length of an encoded witness: the same for every shard of a circuit, so that sizes tell nothing."""
    elements = 3 * SALT + (2 * len(st.carries) + 2 * SALT if st.carries else 0)
    return 8 * len(st.state) * shard + 4 * shard + 4 * noise + 32 * elements


def carry(
    st: Statement, shards: Sequence[tuple[Mapping[str, Ints], Mapping[str, Ints]]],
    posts: Sequence[Mapping[str, Ints]] = (), P: int = 0,
) -> list[Carried | None]:  # fmt: skip
    """What each shard of one block knows of it, with fresh salts: None if the statement has no ``carries``.

    Args:
        shards: state before the step and hints of each of the block's shards, in order.
        posts, P: state after it, of which :meth:`Statement.begin`'s part counts, and the table's size: where the sums
            depend on them.
    """
    if not st.carries:
        return [None] * len(shards)
    found = [
        st.sums(pre, post, hints, P) for (pre, hints), post in zip(shards, posts or [{}] * len(shards), strict=True)
    ]
    sums = [[x[name] for name in st.carries] for x in found]
    running = [*accumulate(sums, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], initial=[0] * len(sums[0]))]
    salts = [fresh_salt() for _ in running]
    totals = tuple(running[-1])
    return [Carried(tuple(s), totals, a, b) for s, (a, b) in zip(running, pairwise(salts), strict=False)]


def carry_of(
    st: Statement, shards: Sequence[tuple[Mapping[str, Ints], Ints]], pub: Public, P: int
) -> list[Carried | None]:
    """:func:`carry` from state before the step and gradient of each shard alone."""
    begun = [st.begin(pre, g, pub, P, OPS) for pre, g in shards]
    posts = [post for post, _ in begun]
    first = [st.sums(pre, *both, P) for (pre, _), both in zip(shards, begun, strict=True)] if st.carries else []
    totals = {name: sum(x[name] for x in first) for name in (first[0] if first else ())}
    hints = [
        made | st.middle(pre, post, g, totals, pub, P) for (pre, g), (post, made) in zip(shards, begun, strict=True)
    ]
    return carry(st, [(pre, h) for (pre, _), h in zip(shards, hints, strict=True)], posts, P)


@dataclass(frozen=True)
class Advanced:
    """One shard's step, computed: state after it and hints, int64 of shape (shard,) each.

    ``scalars`` are the statement's, ``after`` the block's sums with this shard; empty if it has none.
    """

    post: Mapping[str, Ints]
    hints: Mapping[str, Ints]
    scalars: Mapping[str, int] = field(default_factory=dict)
    vectors: Mapping[str, list[int]] = field(default_factory=dict)
    after: tuple[int, ...] = ()


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
        post, hints = st.begin(witness.pre, witness.g, pub, P, OPS)
    step = completed(st, witness, post, hints, pub, P)
    hints, scalars = dict(step.hints), dict(step.scalars)
    post = st.finish(witness.pre, post, {**hints, **scalars}, pub, P)
    # Over Python's integers: a product that left 64 bits would fail here, as it would in the circuit.
    pre, exact_post, g = _exact(witness.pre), _exact(post), witness.g.astype(object)
    vectors = {name: np.array(x, dtype=object) for name, x in step.vectors.items()}
    exact_hints: dict[str, Any] = _exact(hints) | scalars | vectors
    failed = check_bounds(st, pre, exact_post, g, exact_hints, pub, P)
    if witness.carried is not None:
        c = witness.carried
        sums = {n: b - a for n, a, b in zip(st.carries, c.before, step.after, strict=True)}
        once = carry_bounds(
            st.carries, named(st, c.before, c.totals), sums, named(st, step.after, c.totals), pub.first, pub.last
        ) | st.block_bounds(pre, exact_post, g, exact_hints, dict(zip(st.carries, c.totals, strict=True)), pub, P)
        failed += [name for name, x in once.items() if np.any(np.asarray(x, dtype=object) % MODULUS >= P)]
    if failed:
        raise FormatError(f"witness: the step leaves the look-up table of {P}: {'; '.join(failed)}")
    return replace(step, post=post)


def completed(
    st: Statement, witness: ShardWitness, post: Mapping[str, Ints], hints: Mapping[str, Ints], pub: Public, P: int
) -> Advanced:
    """A step of which state and hints are known, with what follows from the sums; nothing is checked."""
    c = witness.carried
    if c is None:
        return Advanced(post, hints)
    totals = dict(zip(st.carries, c.totals, strict=True))
    hints = {**hints, **st.middle(witness.pre, post, witness.g, totals, pub, P)}
    sums = st.sums(witness.pre, post, hints, P)
    after = tuple(x + sums[name] for name, x in zip(st.carries, c.before, strict=True))
    return Advanced(post, hints, st.settle(totals, pub, P), st.detail(post, totals, pub, P), after)


def named(st: Statement, sums: Sequence[int], totals: Sequence[int]) -> dict[str, int]:
    """Running sums and totals by the names that :func:`carry_bounds` has for them."""
    return dict(zip((*st.carries, *(f"total {n}" for n in st.carries)), (*sums, *totals), strict=True))


def _exact(arrays: Mapping[str, Ints]) -> dict[str, Any]:
    return {name: x.astype(object) for name, x in arrays.items()}


def secret_columns(st: Statement, witness: ShardWitness, step: Advanced) -> dict[str, tuple[Ints, list[int]]]:
    """By name, in committed order, the small integers of each secret column and the field elements behind them."""
    work = np.concatenate([witness.g, *(step.hints[n] for n in st.hints), witness.noise])
    found = {
        "pre": (np.concatenate([witness.pre[n] for n in st.state]), list(witness.salt_pre)),
        "post": (np.concatenate([step.post[n] for n in st.state]), list(witness.salt_post)),
        "work": (work, [*step.scalars.values(), *chain(*step.vectors.values()), *witness.salt_work]),
    }
    c, none = witness.carried, np.empty(0, dtype=np.int64)
    if c is not None:
        found["carry_in"] = none, [*c.before, *c.totals, *c.salt_in]
        found["carry_out"] = none, [*step.after, *c.totals, *c.salt_out]
    return found


def columns(circuit: Circuit, witness: ShardWitness, step: Advanced, pub: Public) -> Columns:
    """The committed columns, salts included, in the circuit's order."""
    st = circuit.statement
    secret = {name: [*x.tolist(), *tail] for name, (x, tail) in secret_columns(st, witness, step).items()}
    return Columns(**secret, hyper=[pub[name] for name in st.inputs])


def place(run_id: bytes, step: int, shard: int, *commitments: bytes) -> bytes:
    """What an encrypted witness belongs to: run, step, shard and its secret columns' commitments (associated data)."""
    return b"".join([b"witness\0", run_id, step.to_bytes(8, "big"), shard.to_bytes(4, "big"), *commitments])
