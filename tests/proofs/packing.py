"""Many lies about one shard in few witnesses, each refused at its own look-ups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.proofs.adafactor_scenes import Scene
from tests.proofs.forging import Element
from tests.proofs.mocking import MockProver, Places
from tests.proofs.shards import Cell, Placed, ShardRule


@dataclass(frozen=True)
class Lie:
    """A lie, and which look-ups it changes and which of them refuse it, by number."""

    attack: str
    changes: Mapping[Cell, int]
    touched: frozenset[int]
    failed: frozenset[int]


def flat(scene: Scene) -> list[int]:
    """The bounds' values in the order in which their look-ups are laid out."""
    found: list[int] = []
    for x in scene.bounds().values():
        found += x.tolist() if isinstance(x, np.ndarray) else [x]
    return found


def judged(rule: ShardRule, honest: list[int], attack: str, e: Element) -> Lie:
    """What the bounds say of a lie; ``honest`` is what they are without it."""
    assert isinstance(e, Placed)
    values = flat(rule.told(e.changes))
    touched = frozenset(i for i, (x, y) in enumerate(zip(values, honest, strict=True)) if x != y)
    return Lie(attack, e.changes, touched, frozenset(i for i in touched if values[i] >= rule.P))


def packed(lies: Iterable[Lie]) -> list[list[Lie]]:
    """Lies that have nothing to do with each other, together: no look-up depends on two of them, no cell is of two."""
    packs: list[tuple[list[Lie], set[int], set[Cell]]] = []
    for lie in lies:
        apart = (p for p in packs if p[1].isdisjoint(lie.touched) and p[2].isdisjoint(lie.changes))
        pack = next(apart, None)
        if pack is None:
            packs.append(pack := ([], set(), set()))
        members, touched, cells = pack
        members.append(lie)
        touched |= lie.touched
        cells |= lie.changes.keys()
    return [members for members, _, _ in packs]


def covering(packs: Sequence[list[Lie]], most: int) -> list[list[Lie]]:
    """So many packs, the fullest first, with every attack among them."""
    left, found = sorted(packs, key=len, reverse=True), []
    missing = {lie.attack for pack in packs for lie in pack}
    while missing:
        best = max(left, key=lambda pack: len(missing & {lie.attack for lie in pack}))
        left.remove(best)
        found.append(best)
        missing -= {lie.attack for lie in best}
    return found + left[: max(0, most - len(found))]


def assert_refused(rule: ShardRule, prover: MockProver, packs: Sequence[list[Lie]]) -> int:
    """The circuit refuses each pack at exactly the look-ups at which the bounds do; how many lies that were."""
    scenes = []
    for pack in packs:
        scene = rule.told({cell: x for lie in pack for cell, x in lie.changes.items()})
        # More may fail than for one lie alone: a product is changed by both of its factors only if neither was 0.
        assert set(scene.look_ups()[0]) >= set().union(*(lie.failed for lie in pack))
        scenes.append(scene)
    places, seen = Places(prover, rule.circuit), prover.refused(rule.circuit, [s.columns() for s in scenes])
    assert seen == [places.of(s.look_ups()[0]) for s in scenes]
    return sum(map(len, packs))
