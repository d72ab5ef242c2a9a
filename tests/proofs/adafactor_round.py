"""A round of ``tests/fuzz_circuits.py`` for Adafactor: a block of one to four shards, and lies about each of them.

A case is one shard with everything that its prover commits to: an honest one, or one with a lie. The model says of each
whether it is honest and fits the table, and the bounds must take exactly these. All honest shards and some of the lies
go to the mock prover, which must refuse exactly the look-ups that the bounds refuse.

Some values are free: with anything there a shard is honest, to bounds and model, and that is harmless.

* Of the state what lies behind the moments, before the step and after it: no operation uses it.
* Moments of before while ``b2`` is 0: a first step forgets what the genesis says.
* Weights and moments of before as elements of the field: the proof of the step before is for these being integers.
* Sums before the shard but for the first one's, and totals but for the last one's: other shards' proofs are for these,
  to which commitments tie them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from tests.proofs import adafactor_model as model
from tests.proofs.adafactor_drawing import draw_block, placed
from tests.proofs.adafactor_lies import LIES, Told
from tests.proofs.adafactor_model import Given, Made
from tests.proofs.adafactor_scenes import Scene, differing, given_in, scene_of, table_of, witnesses
from tests.proofs.benches import Bench, Found
from tests.proofs.drawing import Random, pick
from tests.proofs.mocking import MockProver
from zk_autograd.errors import FormatError
from zk_autograd.proofs.base import OPS, Circuit
from zk_autograd.proofs.witness import advance, completed
from zk_autograd.statement import Public, Statement

Parts: TypeAlias = list[tuple[dict[str, Any], Any]]
"""State before and gradient of each shard."""

ROWS = {
    "adafactor-16": (11, 12, 11, 12, 11, 12, 11, 15),
    "adafactor-64": (12, 13, 12, 13, 12, 13, 12, 15),
    "adafactor-256": (14, 14, 14, 14, 14, 14, 14, 15),
}
"""Small tables, whose ends are met often, and now and then that of a profile."""

TOLD = 200
"""Lies in a round."""

MOCKED = 6
"""Of these so many go to the mock prover, half of them several in one witness."""


def run_round(st: Statement, bench: Bench, prover: MockProver, rng: Random, found: Found) -> None:
    """One block; AssertionError says who disagrees about what. Bounds are those of ``st``, whatever the circuit has."""
    shards = check_block(replace(bench.circuit, statement=st), rng, found)
    lies: list[tuple[str, Scene]] = []
    for _ in range(TOLD):
        told, kind = pick(rng, shards), pick(rng, list(LIES))
        scene = LIES[kind](rng, told)
        check_lie(scene, told, kind, found)
        lies.append((kind, scene))
    several, single = ([s for kind, s in lies if (kind == "several") == wanted] for wanted in (True, False))
    chosen = [*several[: MOCKED // 2], *single]
    check_circuit(bench, prover, [*(told.scene for told in shards), *chosen[:MOCKED]], found)


def check_block(circuit: Circuit, rng: Random, found: Found) -> list[Told]:
    """The shards of a block, honest; AssertionError where reference, model and bounds do not agree."""
    table = table_of(circuit)
    kinds, pub, parts = draw_block(rng, circuit.statement, table)
    found.kinds.update(kinds)
    pubs = [placed(pub, i, len(parts)) for i in range(len(parts))]
    every = [model.made(table, p, given) for p, given in zip(pubs, parts, strict=True)]
    scenes = [scene_of(circuit, *x) for x in zip(pubs, parts, every, strict=True)]
    check_reference(circuit, pub, pubs, parts, every)
    for scene, made in zip(scenes, every, strict=True):
        failed, refused = scene.look_ups()
        assert made.fits == (not refused), f"the model says provable: {made.fits}, the bounds refuse {refused}: {pub}"
        count_alone(scene, failed, refused, found)
        found.ends.update(ends_of(scene))
    found.honest += len(scenes)
    found.provable += sum(made.fits for made in every)
    others = [scenes[:i] + scenes[i + 1 :] for i in range(len(scenes))]
    return [Told(table, *x) for x in zip(pubs, parts, every, scenes, others, strict=True)]


def check_circuit(bench: Bench, prover: MockProver, scenes: Sequence[Scene], found: Found) -> None:
    """AssertionError unless the mock prover refuses exactly the look-ups that the bounds refuse."""
    seen = prover.refused(bench.circuit, [scene.columns() for scene in scenes])
    found.mocked += len(scenes)
    for scene, places in zip(scenes, seen, strict=True):
        failed, names = scene.look_ups()
        found.refused_look_ups += len(failed)
        expected = bench.places.of(failed)
        assert places == expected, (
            f"the mock prover refuses other look-ups: {places - expected}, {expected - places}, the bounds {names}"
        )


def check_lie(scene: Scene, told: Told, kind: str, found: Found) -> None:
    """AssertionError unless the bounds refuse exactly what is not the model's."""
    given = given_in(scene)
    made = told.made if (scene.pub, given) == (told.pub, told.given) else model.made(told.table, scene.pub, given)
    others = differing(scene, made)
    honest = made.fits and not others
    failed, refused = scene.look_ups()
    assert bool(refused) == (not honest), (
        f"refused by the bounds: {refused}, honest: {honest}, what differs: {others}: {kind}, {scene.pub}"
    )
    found.lies += 1
    found.kinds[f"lie: {kind}{', which is honest' if honest else ''}"] += 1
    count_alone(scene, failed, refused, found)


def count_alone(scene: Scene, failed: list[int], refused: set[str], found: Found) -> None:
    if len(failed) == 1:
        (name,) = refused
        found.alone[scene.circuit.statement.name, name] += 1


def ends_of(scene: Scene) -> Counter[tuple[str, str, str]]:
    """Which bounds are met exactly at which end."""
    st, P = scene.circuit.statement, scene.circuit.P
    found: Counter[tuple[str, str, str]] = Counter()
    values = scene.bounds()
    for name in list(values)[: st.lookups]:
        for end, exact in (("-1", -1), ("0", 0), ("P-1", P - 1), ("P", P)):
            if np.any(values[name] == exact % model.MODULUS):
                found[st.name, name, end] += 1
    return found


def check_reference(
    circuit: Circuit, pub: Public, pubs: Sequence[Public], parts: Sequence[Given], every: Sequence[Made]
) -> None:
    """The reference over unlimited integers is the model; a prover's own entrance takes what fits, and nothing else."""
    fits = all(made.fits for made in every)
    exact = reference(circuit, arrays(circuit, parts, object), pub, pubs)
    if exact is None:
        assert not fits, f"the model says that a block fits, the reference does not: {pub}, {parts}"
    for scene, made in zip(exact or [], every, strict=False):
        if scene is None:
            assert not made.fits, f"the model says that a shard fits, the reference does not: {pub}, {parts}"
        else:
            others = differing(scene, made)
            assert not others, f"the reference differs from the model in {others}: {pub}, {parts}"
    narrow = all(in_64_bits(p, given, made) for p, given, made in zip(pubs, parts, every, strict=True))
    taken: list[Scene | None] | None = provers_own(circuit, arrays(circuit, parts, np.int64), pub, pubs)
    assert taken is not None or not (narrow and fits), f"a block that fits is refused: {pub}, {parts}"
    for scene, made in zip(taken or [], every, strict=False):
        if scene is None:
            assert not (narrow and made.fits), f"a shard that fits is refused: {pub}, {parts}"
        else:
            others = differing(scene, made)
            assert made.fits, f"the prover takes a shard that does not fit, by the model: {pub}, {parts}"
            assert not others, f"the prover's step differs from the model in {others}: {pub}, {parts}"


def arrays(circuit: Circuit, parts: Sequence[Given], dtype: Any) -> Parts:
    """State before and gradient of each shard, as the reference takes them."""
    rest = [0] * (circuit.shard - len(parts[0].r) - len(parts[0].c))
    limit = 2**63 - 1

    def array(xs: Sequence[int]) -> Any:
        return np.array([max(-limit, min(limit, x)) for x in xs] if dtype is np.int64 else list(xs), dtype=dtype)

    return [({"w": array(p.w), "v": array([*p.r, *p.c, *rest])}, array(p.g)) for p in parts]


def reference(circuit: Circuit, parts: Parts, pub: Public, pubs: Sequence[Public]) -> list[Scene | None] | None:
    """What the statement itself makes of each shard, if anything; nothing is checked against bounds. None: no block."""
    st, P = circuit.statement, circuit.P
    try:
        made_of = witnesses(circuit, parts, pub)
    except FormatError:
        return None
    found: list[Scene | None] = []
    for witness, p in zip(made_of, pubs, strict=True):
        post, hints = st.begin(witness.pre, witness.g, p, P, OPS)
        try:
            step = completed(st, witness, post, hints, p, P)
        except FormatError:
            found.append(None)
            continue
        post = st.finish(witness.pre, post, {**step.hints, **step.scalars}, p, P)
        found.append(Scene.of(circuit, witness, replace(step, post=post), p))
    if all(found):  # the whole block at once moves as its shards do
        whole = {n: np.concatenate([pre[n] for pre, _ in parts]) for n in st.state}
        post, _ = st.advance(whole, np.concatenate([g for _, g in parts]), pub, P, OPS)
        moved = [x for scene in found if scene for x in scene.at["post.w"]]
        assert post["w"].tolist() == moved, f"a block moves otherwise than its shards: {pub}"
    return found


def provers_own(circuit: Circuit, parts: Parts, pub: Public, pubs: Sequence[Public]) -> list[Scene | None] | None:
    """What a prover makes of each shard in 64 bits, if he takes it. None: he takes no shard of the block."""
    with np.errstate(over="ignore"):
        try:
            made_of = witnesses(circuit, parts, pub)
        except (FormatError, OverflowError):
            return None
        found: list[Scene | None] = []
        for witness, p in zip(made_of, pubs, strict=True):
            try:
                found.append(Scene.of(circuit, witness, advance(circuit, witness, p), p))
            except (FormatError, OverflowError):
                found.append(None)
        return found


def in_64_bits(p: Public, given: Given, made: Made) -> bool:
    """Whether all products that the reference takes of an honest shard are below 2^62, and its state within limits."""
    roots = [max(model.root(x) for x in made.shares[name]) for name in ("a", "b")]
    T = made.values["T.0"][0] + made.values["T.1"][0] * made.table.P
    squares = sum(x * x for x in given.g)
    most = [roots[0] * roots[1], T * max(map(abs, made.values["u"])), *(p["b2"] * abs(x) for x in (*given.r, *given.c))]
    most += [p["c2"] * squares, *(abs(x) << 12 for x in (*given.w, *given.r, *given.c))]
    return max(most) < 1 << 62
