"""Shards that are lied about as parameters are: an adapter of :class:`Scene` to what the corpus' attacks ask of a rule.

An element is one parameter's part of a shard together with its row's, its column's, and what the layer has once: so the
attacks of ``tests/proofs/corpus`` move each of these by its name. What follows from a lie follows in the whole shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tests.proofs import adafactor_model as model
from tests.proofs.adafactor_scenes import Scene, given_in, scene_of, table_of
from tests.proofs.forging import Element, fraction
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit, Columns
from zk_autograd.statement import Public

Cell: TypeAlias = tuple[str, int]
"""A committed value of a scene: its name, and its place under that name."""

SUMS, TOTALS = "after", "totals_after"
"""Names of cells for sums with the shard, and for totals as it hands them on."""

WHOLE = {"a": 2, "b": 2, "X": 3, "T": 2}
"""Numbers that a prover commits to in digits, the lowest too."""


class Placed(dict[str, int]):
    """An element at its place, and every cell of the shard that is not as in the honest one."""

    def __init__(self, values: Mapping[str, int], cells: Mapping[str, Cell], changes: Mapping[Cell, int]) -> None:
        super().__init__(values)
        self.cells, self.changes = cells, changes

    def __or__(self, other: Mapping[str, int]) -> Placed:  # type: ignore[override]
        moved = {self.cells[key]: value for key, value in other.items() if value != self[key]}
        return Placed({**self, **other}, self.cells, {**self.changes, **moved})


@dataclass(frozen=True)
class ShardRule:
    """The rule of one shard of Adafactor, at one of its parameters.

    Attributes:
        scene: the honest shard.
        place: number of the parameter.
        share: every so manyth value is lied about, from the one with this number on; all of them by default.
    """

    scene: Scene
    place: int
    share: tuple[int, int] = (0, 1)

    @property
    def st(self) -> Any:
        return self.scene.circuit.statement

    @property
    def circuit(self) -> Circuit:
        return self.scene.circuit

    @property
    def pub(self) -> Public:
        return self.scene.pub

    @property
    def P(self) -> int:
        return self.scene.circuit.P

    @property
    def state(self) -> tuple[str, ...]:
        return ("w", "r", "c")

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Where each value of the element stands, in the order in which a prover computes them."""
        st, P, i = self.st, self.P, self.place
        C, R, names = st.length, st.rows(P), list(self.scene.at)
        row, column = divmod(i, C)
        found: dict[str, Cell] = {
            "pre.w": ("pre.w", i), "pre.r": ("pre.v", row), "pre.c": ("pre.v", R + column), "g": ("g", i),
            "post.r": ("post.v", row), "post.c": ("post.v", R + column),
        }  # fmt: skip
        for stem in ("r", "c", "c*", "a", "a-", "a+", "b", "b-", "b+"):
            at = row if stem[0] in "ra" else column
            found |= {n: (n, at) for n in names if n.rpartition(".")[0] == stem}
        found |= {"k": ("k", i), "u": ("u", i)} | {n: (n, 0) for n in st.scalars(P)} | {"post.w": ("post.w", i)}
        for name in (f"c{column}", "M", "sw", "su"):
            short, at = name[0] if name[0] == "c" else name, st.carries.index(name)
            found |= {f"after.{short}": (SUMS, at), f"total.{short}": (TOTALS, at)}
        return found

    @cached_property
    def _order(self) -> list[str]:
        return [n for n in self.cells if not n.startswith("pre.")]

    @cached_property
    def every_target(self) -> list[str]:
        return self._order[1:]

    @property
    def targets(self) -> list[str]:
        first, step = self.share
        return self.every_target[first::step]

    @property
    def hints(self) -> tuple[str, ...]:
        """Those that differ from place to place."""
        return ("k", "u", *self.st.vectors(self.P))

    @cached_property
    def linear(self) -> dict[str, str]:
        """Each value and the bound that is linear in it and whose value is a remainder, in order of use."""
        groups = {"r": "r'", "c": "c'", "c*": "c*", "M": "M", "sw": "sw", "su": "su"}
        groups |= {"over w": "least w is right", "over M": "least M is right", "over d": "clipped is right"}
        for n in ("a", "b", "X"):
            groups |= {f"{n}-": f"{n}*{n}*den <= num", f"{n}+": f"num < ({n}+1)*({n}+1)*den"}
        single = {
            "post.r": "r' is the rounded mean", "post.c": "c' is the rounded mean", "k": "k is the rounded product",
            "u": "u is the rounded direction", "T.0": "T is the rounded rate", "T.1": "T is the rounded rate",
            "post.w": "w' is the rounded step",
        }  # fmt: skip
        found = {n: f"{groups[n.rpartition('.')[0]]}, digit 0" for n in self._order if n.rpartition(".")[0] in groups}
        return {n: (single | found)[n] for n in self._order if n in single or n in found}

    def later(self, target: str) -> list[str]:
        return self._order[self._order.index(target) + 1 :]

    @cached_property
    def honest(self) -> Placed:
        at = self.scene.at | {SUMS: self.scene.after, TOTALS: self.scene.totals}
        return Placed({key: at[name][i] for key, (name, i) in self.cells.items()}, self.cells, {})

    def told(self, changes: Mapping[Cell, int]) -> Scene:
        """The shard with other values; its running sums follow, and only then are they changed themselves."""
        s, at = self.scene, dict(self.scene.at)
        for (name, i), value in changes.items():
            if name not in (SUMS, TOTALS):
                if at[name] is s.at[name]:
                    at[name] = list(at[name])
                at[name][i] = value % MODULUS
        found = replace(s, at=at)
        if {name for name, _ in changes} & {"u", "post.v", "pre.w"}:
            found = found.settled()
        after, totals = list(found.after), list(s.totals)
        for (name, i), value in changes.items():
            if name == SUMS:
                after[i] = (after[i] + value - s.after[i]) % MODULUS
            if name == TOTALS:
                totals[i] = value % MODULUS
        return replace(found, after=after, totals_after=totals if totals != s.totals else None)

    def bounds(self, e: Element) -> dict[str, int]:
        """Every bound's value at the element's place, in [0, p)."""
        assert isinstance(e, Placed)
        C, R, shard = self.st.length, self.st.rows(self.P), self.scene.circuit.shard
        at = {shard: self.place, R: self.place // C, C: self.place % C}
        values = self.told(e.changes).bounds()
        return {n: x[at[x.size]] if isinstance(x, np.ndarray) else x for n, x in values.items()}

    def is_honest(self, e: Element) -> bool:
        """Never said of a changed gradient: the sums of its row and its column change with it."""
        del e
        return False

    def solve(self, e: Element, target: str, bound: str, value: int) -> Element:
        """``e`` with ``target`` such that a bound linear in it has this value exactly, in the field."""
        at_0, at_1 = (self.bounds(e | {target: x})[bound] for x in (0, 1))
        return e | {target: fraction(value - at_0, at_1 - at_0)}

    def follow(self, e: Element, *targets: str) -> Element:
        """``e`` with all that comes after the targets' first computed as a prover would, everywhere in the shard."""
        assert isinstance(e, Placed)
        if not targets:
            return e
        st, t, R = self.st, table_of(self.scene.circuit), self.st.rows(self.P)
        known = {self.cells[n] for n in self._order[: self._order.index(targets[0])]}
        kept = {cell: x for cell, x in e.changes.items() if self._known(cell, known)}
        given = given_in(self.scene)
        given = replace(given, g=[kept.get(("g", i), x) for i, x in enumerate(given.g)])
        forced = {cell: x for cell, x in kept.items() if cell[0] not in ("g", "post.v", SUMS, TOTALS)}
        for (name, i), x in kept.items():
            if name == "post.v":
                forced["r'" if i < R else "c'", i if i < R else i - R] = x
            stem, _, digit = name.rpartition(".")
            if stem in WHOLE and digit.isdigit():
                forced[stem, i] = sum(
                    kept.get((f"{stem}.{j}", i), self.scene.at[f"{stem}.{j}"][i]) * self.P**j
                    for j in range(WHOLE[stem])
                )
        made = model.made(t, self.pub, given, forced)
        at = scene_of(self.scene.circuit, self.pub, given, made).at
        used = {"pre.v": 0, "post.v": R + st.length}
        changes = {
            (name, i): x
            for name, xs in at.items()
            for i, (x, y) in enumerate(zip(xs[: used.get(name)], self.scene.at[name], strict=False))
            if (x - y) % MODULUS
        }
        changes |= {cell: x for cell, x in e.changes.items() if cell[0] in (SUMS, TOTALS)}
        values = {key: changes.get(cell, self.honest[key]) for key, cell in self.cells.items()}
        return Placed(values, self.cells, changes)

    def _known(self, cell: Cell, known: set[Cell]) -> bool:
        name, i = cell
        R = self.st.rows(self.P)
        if name == "post.v":
            return any(n == name and (j < R) == (i < R) for n, j in known)
        return any(n == name for n, _ in known)


@dataclass(frozen=True)
class ShardCase:
    """A circuit for the mock prover and an honest shard, for attacks on whole columns."""

    scene: Scene

    @property
    def circuit(self) -> Circuit:
        return self.scene.circuit

    @cached_property
    def rule(self) -> ShardRule:
        return ShardRule(self.scene, 0)

    def columns(self) -> Columns:
        return self.scene.columns()

    def exchanged(self, *keys: str) -> list[Columns]:
        """Between the first parameter and one of another row and column."""
        changes: dict[Cell, int] = {}
        other = ShardRule(self.scene, self.rule.st.length + 1)
        for key in keys:
            a, b = self.rule.cells[key], other.cells[key]
            x, y = self.rule.honest[key], other.honest[key]
            changes |= {a: y, b: x} if x != y else {}
        return [self.rule.told(changes).columns()] if changes else []

    def reordered(self) -> list[Columns]:
        """With the first two rows at each other's places."""
        st, P = self.rule.st, self.rule.P
        C, R = st.length, st.rows(P)
        vectors = st.vectors(P)
        at = dict(self.scene.at)
        for name, xs in at.items():
            if name in ("pre.v", "post.v") or vectors.get(name) == R:
                at[name] = [xs[1], xs[0], *xs[2:]]
            elif len(xs) == self.circuit.shard:
                at[name] = [*xs[C : 2 * C], *xs[:C], *xs[2 * C :]]
        return [replace(self.scene, at=at).columns()]

    def unused(self, column: str) -> int:
        st = self.rule.st
        return self.circuit.shard - st.rows(self.rule.P) - st.length if column in ("pre", "post") else 0
