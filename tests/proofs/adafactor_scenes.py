"""A shard of Adafactor in a block, with every value that its prover commits to, honest or changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from tests.proofs.adafactor_model import Given, Made, Table
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit, Columns, Ints
from zk_autograd.proofs.witness import Advanced, ShardWitness, advance, carry_of, fresh_noise, fresh_salt, named
from zk_autograd.statement import STATEMENTS, Public, carry_bounds, place_in

NAME = "adafactor-16"
ST: Any = STATEMENTS[NAME]
LR = 1e-2


def public(P: int, step: int = 7, lr: float = LR, st: Any = ST, **hyper: float) -> Public:
    declared = dict(st.defaults) | {"size": 900.0} | hyper
    return st.public_integers(declared, lr, step, st.choose_format(declared, LR, 1.0, P), P)  # type: ignore[no-any-return]


def state(circuit: Circuit, rng: np.random.Generator) -> dict[str, Ints]:
    st: Any = circuit.statement
    P, R, C = circuit.P, st.rows(circuit.P), st.length
    v = np.zeros(R * C, dtype=np.int64)
    v[:R], v[R : R + C] = rng.integers(1, C * P * P // 8, R), rng.integers(1, R * P * P // 8, C)
    return {"w": rng.integers(-40000, 40000, R * C), "v": v}


def witnesses(circuit: Circuit, parts: list[tuple[dict[str, Ints], Ints]], pub: Public) -> list[ShardWitness]:
    """Of a whole block, by the reference, with fresh noise and salts."""
    return [
        ShardWitness(
            pre, g, fresh_noise(circuit.noise, circuit.P), fresh_salt(), fresh_salt(), fresh_salt(), carried
        )
        for (pre, g), carried in zip(parts, carry_of(circuit.statement, parts, pub, circuit.P), strict=True)
    ]  # fmt: skip


def block(circuit: Circuit, shards: int, pub: Public, seed: int = 0) -> list[tuple[ShardWitness, Public]]:
    """An honest block of random values; moments are those of gradients as large as the new ones."""
    rng, P = np.random.default_rng(seed), circuit.P
    parts = [(state(circuit, rng), rng.integers(-(P // 2) + 1, P // 2, circuit.shard)) for _ in range(shards)]
    return [(w, Public(pub | place_in([shards], i))) for i, w in enumerate(witnesses(circuit, parts, pub))]


@dataclass
class Scene:
    """A shard in a block: every value that its prover commits to, by name, as elements of the field.

    Attributes:
        pub: public integers, with the shard's place.
        at: state before and after (``pre.w``, ``post.v``, ...), gradient, hints, scalars and vectors.
        before, totals: sums over the shards before it, and over all; ``after``: with it.
        totals_after: where they are others than ``totals``.
    """

    circuit: Circuit
    pub: Public
    at: dict[str, list[int]]
    before: list[int]
    totals: list[int]
    after: list[int]
    totals_after: list[int] | None = None

    @classmethod
    def honest(cls, circuit: Circuit, seed: int = 0, pub: Public | None = None) -> Scene:
        """In the middle of a block of three."""
        witness, pub = block(circuit, 3, pub or public(circuit.P, st=circuit.statement), seed)[1]
        return cls.of(circuit, witness, advance(circuit, witness, pub), pub)

    @classmethod
    def of(cls, circuit: Circuit, witness: ShardWitness, step: Advanced, pub: Public) -> Scene:
        st, c = circuit.statement, witness.carried
        assert c is not None
        at = {f"pre.{n}": x.tolist() for n, x in witness.pre.items()}
        at |= {f"post.{n}": step.post[n].tolist() for n in st.state} | {"g": witness.g.tolist()}
        at |= {n: step.hints[n].tolist() for n in st.hints} | {n: [x] for n, x in step.scalars.items()}
        return cls(circuit, pub, at | dict(step.vectors), list(c.before), list(c.totals), list(step.after))

    def lie(self, *changes: tuple[str, int, int]) -> Scene:
        """Other values at (name, place, value)."""
        at = dict(self.at)
        for name, place, value in changes:
            at[name] = [*at[name][:place], value % MODULUS, *at[name][place + 1 :]]
        return replace(self, at=at)

    def objects(self) -> dict[str, Any]:
        """By name what the statement takes: arrays of elements, and scalars."""
        found: dict[str, Any] = {n: np.array(x, dtype=object) for n, x in self.at.items()}
        return found | {n: self.at[n][0] for n in self.circuit.statement.scalars(self.circuit.P)}

    def bounds(self) -> dict[str, Any]:
        """Every bound in the order in which the circuit has them, in the field: an element, or an array of them."""
        st, P, x = self.circuit.statement, self.circuit.P, self.objects()
        pre, post = ({n: x[f"{side}.{n}"] for n in st.state} for side in ("pre", "post"))
        totals = dict(zip(st.carries, self.totals, strict=True))
        before, after = named(st, self.before, self.totals), named(st, self.after, self.totals_after or self.totals)
        sums = {n: x % MODULUS for n, x in sums_of(self.circuit, pre, post, x).items()}
        found = st.bounds(pre, post, x["g"], x, self.pub, P)
        found |= carry_bounds(st.carries, before, sums, after, self.pub.first, self.pub.last)
        found |= st.block_bounds(pre, post, x["g"], x, totals, self.pub, P)
        return {n: v % MODULUS for n, v in found.items()}

    def look_ups(self) -> tuple[list[int], set[str]]:
        """Which look-ups fail, by number in the order in which they are laid out, and the names of their bounds."""
        P, at = self.circuit.P, 0
        failed: list[int] = []
        names: set[str] = set()
        for name, value in self.bounds().items():
            many = isinstance(value, np.ndarray)
            found = [at + i for i, x in enumerate(value.tolist() if many else [value]) if x >= P]
            if found:
                failed += found
                names.add(name)
            at += value.size if many else 1
        return failed, names

    def violated(self) -> set[str]:
        return self.look_ups()[1]

    def settled(self) -> Scene:
        """With running sums that are those of the values; the totals stay, as of a block with another rest."""
        x = self.objects()
        pre, post = ({n: _signed(x[f"{side}.{n}"]) for n in self.circuit.statement.state} for side in ("pre", "post"))
        sums = sums_of(self.circuit, pre, post, {"u": _signed(x["u"])})
        after = [b + sums[n] for n, b in zip(self.circuit.statement.carries, self.before, strict=True)]
        return replace(self, after=[v % MODULUS for v in after])

    def columns(self) -> Columns:
        st, P, salt = self.circuit.statement, self.circuit.P, list(fresh_salt())
        side = {s: [*self._all(f"{s}.{n}" for n in st.state), *salt] for s in ("pre", "post")}
        noise = fresh_noise(self.circuit.noise, P).tolist()
        work = [*self._all(("g", *st.hints)), *noise, *self._all((*st.scalars(P), *st.vectors(P)))]
        return Columns(
            **side, work=[*work, *salt], hyper=[self.pub[n] for n in st.inputs],
            carry_in=[*self.before, *self.totals, *salt],
            carry_out=[*self.after, *(self.totals_after or self.totals), *salt],
        )  # fmt: skip

    def _all(self, names: Iterable[str]) -> Iterable[int]:
        return chain.from_iterable(self.at[n] for n in names)


def _signed(x: Any) -> Any:
    return np.array([v - MODULUS if v > MODULUS // 2 else v for v in x], dtype=object)


def sums_of(circuit: Circuit, pre: Any, post: Any, hints: Any) -> dict[str, int]:
    """What a shard adds to its block's sums, whatever it holds."""
    st: Any = circuit.statement
    R, C, v = st.rows(circuit.P), st.length, post["v"].tolist()
    found = {f"c{j}": v[R + j] for j in range(C)} | {"M": sum(v[:R])}
    squares = {"sw": pre["w"].tolist(), "su": hints["u"].tolist()}
    return found | {n: sum(a * a for a in x) for n, x in squares.items()}


# Against the model.


def table_of(circuit: Circuit) -> Table:
    C: int = circuit.statement.length  # type: ignore[attr-defined]
    return Table(circuit.P, C, circuit.shard // C)


def given_in(scene: Scene) -> Given:
    """What the model's step starts from: all that a shard commits to before anything follows."""
    t, st = table_of(scene.circuit), scene.circuit.statement
    v = scene.at["pre.v"]
    before, totals = (dict(zip(st.carries, x, strict=True)) for x in (scene.before, scene.totals))
    return Given(scene.at["pre.w"], v[: t.R], v[t.R : t.R + t.C], scene.at["g"], before, totals)


def scene_of(circuit: Circuit, pub: Public, given: Given, made: Made) -> Scene:
    """What somebody commits to who has made this of it."""
    t = table_of(circuit)
    rest = [0] * (circuit.shard - t.R - t.C)
    values = dict(made.values)
    after, rows, columns = (values.pop(name) for name in ("after", "r'", "c'"))
    at = values | {"pre.w": list(given.w), "pre.v": [*given.r, *given.c, *rest], "g": list(given.g)}
    at["post.v"] = [*rows, *columns, *rest]
    return Scene(circuit, pub, at, list(given.before.values()), list(given.totals.values()), after)


def differing(scene: Scene, made: Made) -> set[str]:
    """Names of what is not as the model makes it. Behind the moments ``v`` is free: no operation uses it."""
    t, expected = table_of(scene.circuit), dict(made.values)
    rows, columns = expected.pop("r'"), expected.pop("c'")
    got = scene.at | {"after": scene.after, "post.v": scene.at["post.v"][: t.R + t.C]}
    expected["post.v"] = [*rows, *columns]
    if scene.totals_after is not None:
        expected["totals after"], got["totals after"] = scene.totals, scene.totals_after
    return {name for name, xs in expected.items() if not _same(xs, got[name])}


def _same(xs: list[int], ys: list[int]) -> bool:
    return xs == ys or all((x - y) % MODULUS == 0 for x, y in zip(xs, ys, strict=True))
