"""Random lies about one shard of Adafactor, for ``tests/fuzz_circuits.py``.

Either a few committed values are changed and the rest stays, or what depends on them follows, as far as a prover can
make it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from tests.proofs import adafactor_model as model
from tests.proofs.adafactor_drawing import clamped
from tests.proofs.adafactor_forging import BITS
from tests.proofs.adafactor_model import Forced, Given, Made, Table
from tests.proofs.adafactor_scenes import Scene, scene_of
from tests.proofs.drawing import Random, pick
from tests.proofs.forging import field_root, fraction
from zk_autograd.field import MODULUS
from zk_autograd.statement import Public


@dataclass(frozen=True)
class Told:
    """A shard as the model makes it, the other shards of its block, and a scene that lies about it, or not yet."""

    table: Table
    pub: Public
    given: Given
    made: Made
    scene: Scene
    others: list[Scene]

    def follow(self, forced: Forced | None = None, given: Given | None = None, pub: Public | None = None) -> Scene:
        """Of changed values, all that depends on them."""
        given, pub = given or self.given, pub or self.pub
        return scene_of(self.scene.circuit, pub, given, model.made(self.table, pub, given, forced))


Lie: TypeAlias = Callable[[Random, Told], Scene]
Target: TypeAlias = tuple[str, int]

PARAMETER = ("k", "u", "post.w")


def anything(rng: Random) -> int:
    return int.from_bytes(rng.bytes(40), "big") % MODULUS


def target(rng: Random, told: Told, *more: str) -> Target:
    """A committed value that follows from others, or one of ``more``."""
    st, t = told.scene.circuit.statement, told.table
    once = [*st.scalars(t.P)], [*st.vectors(t.P)]
    name = pick(rng, [*PARAMETER, "post.v", pick(rng, once[0]), pick(rng, once[0]), pick(rng, once[1]),
                      pick(rng, once[1]), *more])  # fmt: skip
    return name, _place(rng, told, name)


def _place(rng: Random, told: Told, name: str) -> int:
    used = told.table.R + told.table.C
    return int(rng.integers(used if name.endswith(".v") else len(told.scene.at[name])))


def step(rng: Random, told: Told) -> int:
    """By how much a value is changed."""
    P, pub = told.table.P, told.pub
    powers = [1 << 31, 1 << 32, 1 << 63, 1 << 64, 1 << 127, 1 << 128, (1 << 128) - 1]
    parts = [(1, 2), (1, 3), (1, P), (P - 1, P), (1, P * P), (1, told.table.C)]
    parts += [(1, pub[n]) for n in ("n", "b2", "c2", "D") if pub[n]]
    parts += [(1, x) for x in (model.near(told.scene.at["T.0"][0]), told.scene.at["a.0"][0]) if x % MODULUS]
    by = pick(rng, [[1], [1, 2, 3], [P, P - 1, P + 1], powers, [fraction(*x) for x in parts]])
    return int(pick(rng, by)) * int(pick(rng, [1, -1]))


def _set(told: Told, where: Target, value: int) -> Scene:
    return told.scene.lie((*where, value))


def _value(told: Told, where: Target) -> int:
    return told.scene.at[where[0]][where[1]]


def _changed(rng: Random, told: Told) -> Scene:
    where = target(rng, told, "g", "pre.w", "pre.v")
    return _set(told, where, _value(told, where) + step(rng, told))


def _represented(rng: Random, told: Told) -> Scene:
    where = target(rng, told, "g", "pre.w", "pre.v")
    at = told.scene.at
    return replace(told.scene, at=at | {where[0]: [x + MODULUS * (i == where[1]) for i, x in enumerate(at[where[0]])]})


def _negated(rng: Random, told: Told) -> Scene:
    where = target(rng, told)
    return _set(told, where, -_value(told, where) - pick(rng, [0, 1]))


def _borrowed(rng: Random, told: Told) -> Scene:
    """Of another place of the same, or of something else."""
    where = target(rng, told, "g")
    name = where[0] if rng.random() < 0.6 else target(rng, told)[0]
    return _set(told, where, _value(told, (name, _place(rng, told, name))))


def _exchanged(rng: Random, told: Told) -> Scene:
    one, two = target(rng, told, "g"), target(rng, told, "g")
    if rng.random() < 0.7:
        two = one[0], _place(rng, told, one[0])
    return told.scene.lie((*one, _value(told, two)), (*two, _value(told, one)))


def _any(rng: Random, told: Told) -> Scene:
    return _set(told, target(rng, told), anything(rng))


def _carried_digit(rng: Random, told: Told) -> Scene:
    """A digit moved by what the one below it, or the one that has no name, makes up for."""
    groups: dict[str, list[str]] = {}
    for name in told.scene.at:
        stem, dot, number = name.rpartition(".")
        if dot and number.isdigit():
            groups.setdefault(stem, []).append(name)
    names = groups[pick(rng, list(groups))]
    at, P = int(rng.integers(len(names))), told.table.P
    place = _place(rng, told, names[at])
    up, down = pick(rng, [(1, -P), (-1, P), (fraction(1, P), -1), (fraction(-1, P), 1), (fraction(1, 2), -P // 2)])
    changes = [(names[at], place, _value(told, (names[at], place)) + up)]
    if at:
        changes.append((names[at - 1], place, _value(told, (names[at - 1], place)) + down))
    return told.scene.lie(*changes)


def _of_another_shard(rng: Random, told: Told) -> Scene:
    """A part of what another shard of the block commits to, or all but what it starts from."""
    if not told.others:
        return _borrowed(rng, told)
    other, at = pick(rng, told.others), dict(told.scene.at)
    stem = target(rng, told)[0].rpartition(".")[0]
    made = [n for n in at if not n.startswith("pre.") and n != "g"]
    names = [n for n in made if n.startswith(stem)] if rng.random() < 0.7 else made
    return replace(
        told.scene, at=at | {n: other.at[n] for n in names}, after=pick(rng, [told.scene.after, other.after])
    )


def _bit(rng: Random, told: Told) -> Scene:
    """Another bit, or none: of ``f - f*f = x`` a root in the field."""
    name = pick(rng, list(BITS))
    f = told.scene.at[name][0]
    root = field_root(1 - 4 * int(rng.integers(1, told.table.P)))
    value = pick(rng, [1 - f, 1 - f, 2, -1, (1 + (root or 0)) * fraction(1, 2)])
    return told.follow({(name, 0): value}) if rng.random() < 0.7 else told.scene.lie((name, 0, value))


def _followed(rng: Random, told: Told) -> Scene:
    """One value changed wherever it comes in, or two, and what depends on it follows."""
    forced: dict[Target, int] = {}
    for _ in range(pick(rng, [1, 1, 1, 2])):
        name = pick(rng, ["r'", "c'", "a", "b", "k", "u", "X", "T", "post.w", "after", "sums", target(rng, told)[0]])
        if name == "post.v":
            name = "r'"
        if name in told.made.values:
            honest = told.made.values[name]
        elif name == "sums":
            honest = [x - y for x, y in zip(told.made.values["after"], told.given.before.values(), strict=True)]
        else:
            low, *high = (told.made.values[f"{name}.{i}"] for i in range(told.table.digits(name)))
            honest = [x + sum(y[i] * told.table.P ** (n + 1) for n, y in enumerate(high)) for i, x in enumerate(low)]
        place = int(rng.integers(len(honest)))
        forced[name, place] = honest[place] + step(rng, told)
    return told.follow(forced)


def _modulo_the_prime(rng: Random, told: Told) -> Scene:
    """A root of the numerator plus a multiple of the prime: the differences are small again."""
    name = pick(rng, ["X", "X", "a", "b"])
    place = int(rng.integers(len(told.made.shares[name])))
    num, den = told.made.shares[name][place]
    root = math.isqrt(max(0, num + pick(rng, [1, 1, 2, 5]) * MODULUS) // max(1, den))
    return told.follow({(name, place): root + pick(rng, [0, 0, 1])})


def _another_given(rng: Random, told: Told) -> Given:
    given = told.given
    name = pick(rng, ["w", "r", "c", "g"])
    values = list(getattr(given, name))
    for _ in range(pick(rng, [1, 1, 3])):
        place = int(rng.integers(len(values)))
        end = pick(rng, [told.table.P // 2, -(told.table.P // 2) - 1])
        values[place] = pick(rng, [values[place] + step(rng, told), -values[place], 0, end, anything(rng)])
    return replace(given, **{name: values})


def _before(rng: Random, told: Told) -> Scene:
    given = _another_given(rng, told)
    v = [*given.r, *given.c, *told.scene.at["pre.v"][told.table.R + told.table.C :]]
    at = told.scene.at | {"pre.w": list(given.w), "pre.v": v, "g": list(given.g)}
    return replace(told.scene, at=at)


def _before_followed(rng: Random, told: Told) -> Scene:
    return told.follow(given=_another_given(rng, told))


def _another_public(rng: Random, told: Told) -> Public:
    name, P = pick(rng, list(told.scene.circuit.statement.public)), told.table.P
    value = told.pub[name] + pick(rng, [1, -1, 2, P, -P, 1 << 20, -told.pub[name]])
    return Public(told.pub | {name: clamped(name, value, P)})


def _place_flag(rng: Random, told: Told) -> Public:
    flag = pick(rng, ["first", "last"])
    return Public(told.pub | {flag: 1 - told.pub[flag]})


def _sum(rng: Random, told: Told) -> Scene:
    side = pick(rng, ["before", "after"])
    return replace(told.scene, **{side: _moved(rng, told, getattr(told.scene, side))})


def _moved(rng: Random, told: Told, sums: list[int]) -> list[int]:
    at = int(rng.integers(len(sums))) if rng.random() < 0.5 else -int(rng.integers(1, 4))
    by = pick(rng, [step(rng, told), MODULUS, -sums[at]])
    return [*sums[:at], sums[at] + by, *sums[at:][1:]]


def _total(rng: Random, told: Told) -> Scene:
    if rng.random() < 0.5:
        return replace(told.scene, totals_after=_moved(rng, told, told.scene.totals))
    return replace(told.scene, totals=_moved(rng, told, told.scene.totals), totals_after=told.scene.totals)


def _sums_followed(rng: Random, told: Told) -> Scene:
    given, key = told.given, pick(rng, ["before", "totals"])
    sums = getattr(given, key)
    return told.follow(
        given=replace(given, **{key: dict(zip(sums, _moved(rng, told, list(sums.values())), strict=True))})
    )


def _free(rng: Random, told: Told) -> Scene:
    """Behind the moments ``v`` counts for nothing, before the step and after it."""
    used = told.table.R + told.table.C
    places = [int(rng.integers(used, told.scene.circuit.shard)) for _ in range(2)]
    return told.scene.lie(("pre.v", places[0], anything(rng)), ("post.v", places[1], anything(rng)))


def _several(rng: Random, told: Told) -> Scene:
    """Up to sixty of the lies that nothing follows, in one witness: each look-up is refused for itself."""
    for _ in range(int(2 ** rng.uniform(1, 6))):
        told = replace(told, scene=pick(rng, [*DIRECT.values()])(rng, told))
    return told.scene


DIRECT: dict[str, Lie] = {
    "changed by an integer or a fraction": _changed,
    "another representation": _represented,
    "negated": _negated,
    "of another place": _borrowed,
    "exchanged": _exchanged,
    "any field element": _any,
    "a digit carried": _carried_digit,
    "a running sum": _sum,
    "what counts for nothing": _free,
}
LIES: dict[str, Lie] = DIRECT | {
    "none": lambda rng, told: told.scene,
    "of another shard": _of_another_shard,
    "a bit": _bit,
    "followed by the rest": _followed,
    "a root modulo the prime": _modulo_the_prime,
    "another state or gradient": _before,
    "another state or gradient, followed": _before_followed,
    "other public integers": lambda rng, told: replace(told.scene, pub=_another_public(rng, told)),
    "other public integers, followed": lambda rng, told: told.follow(pub=_another_public(rng, told)),
    "another place": lambda rng, told: replace(told.scene, pub=_place_flag(rng, told)),
    "another place, followed": lambda rng, told: told.follow(pub=_place_flag(rng, told)),
    "a total on one side": _total,
    "a total on both sides": lambda rng, told: replace(told.scene, totals=_moved(rng, told, told.scene.totals)),
    "sums, followed": _sums_followed,
    "several": _several,
}
