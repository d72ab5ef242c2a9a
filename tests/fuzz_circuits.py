"""Throws steps at the ends of every range, and lies about them, at reference, bounds and circuits: all must agree.

    python -m tests.fuzz_circuits --count 1000000 --seed 1
    python -m tests.fuzz_circuits --count 20000 --statement amsgradw

A round is one choice of public integers and one circuit, whose every parameter is a case of its own. First come honest
steps: the integer reference must equal a model written from the formulas alone (``tests/proofs/model.py``), and EZKL's
mock prover must take all of those that the model calls provable, in one witness. Then each parameter gets one lie (or a
step that leaves the table), and the mock prover must refuse exactly the look-ups whose bounds do not hold, at every
parameter whose values are not the model's, and at no other. Of a statement with sums over a block, a round is a shard
somewhere in one, and lies about its sums and the block's rate come on top. Where a shard is a matrix (Adafactor), a
round is a block, and a case is a whole shard of it, honest or with a lie: :mod:`tests.proofs.adafactor_round`. A round
depends on the seed and its number only: ``--only N`` runs one again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.proofs import adafactor_round, model
from tests.proofs.benches import Benches, Found
from tests.proofs.blocks import Block, around, draw_block_lie, draw_block_rule
from tests.proofs.drawing import draw_elements, draw_lie, draw_public
from tests.proofs.forging import Element, Rule, signed
from tests.proofs.mocking import MockProver
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit, Columns
from zk_autograd.proofs.witness import fresh_noise, fresh_salt
from zk_autograd.statement import STATEMENTS

NAMES = sorted(STATEMENTS)
"""Of a statement with ``carries``, a round is one shard of a block: see :mod:`tests.proofs.blocks`. Of a ``shaped`` one
it is a block: see :mod:`tests.proofs.adafactor_round`."""

BLOCK_LIES = 6
"""Witnesses of such a round that lie about sums or scalars alone."""

ROWS = (12, 12, 12, 15, 12, 12, 12, 16)
"""Small tables, whose ends are met often, and by turns those of both profiles."""


def columns(circuit: Circuit, rule: Rule, elements: list[Element], block: Block | None = None) -> Columns:
    """Committed columns of one case a parameter, with fresh noise and salts."""
    st = circuit.statement

    def rows(*keys: str) -> list[int]:
        return [e[key] for key in keys for e in elements]

    scalars = [rule.scalars[n] % MODULUS for n in st.scalars(rule.P)]
    return Columns(
        pre=[*rows(*(f"pre.{n}" for n in st.state)), *fresh_salt()],
        post=[*rows(*(f"post.{n}" for n in st.state)), *fresh_salt()],
        work=[*rows("g", *st.hints), *fresh_noise(circuit.noise, circuit.P).tolist(), *scalars, *fresh_salt()],
        hyper=[rule.pub[n] for n in st.inputs],
        **{name: [*tail, *fresh_salt()] for name, tail in (block.tails() if block else {}).items()},
    )


def failing(rule: Rule, elements: list[Element]) -> dict[str, Any]:
    """By bound: whether it fails for each element, in the field (arrays of bool)."""
    st = rule.st
    at = {key: np.array([e[key] for e in elements], dtype=object) for key in elements[0]}
    pre, post = ({n: at[f"{side}.{n}"] for n in st.state} for side in ("pre", "post"))
    values = st.bounds(pre, post, at["g"], {n: at[n] for n in st.hints} | rule.scalars, rule.pub, rule.P)
    return {name: np.asarray(value % MODULUS >= rule.P, dtype=bool) for name, value in values.items()}


def true_step(rule: Rule, e: Element) -> tuple[Element, bool]:
    """By the independent model: what ``e`` would hold if it were honest, and whether a proof of that exists.

    ``e`` itself, and False, where its gradient or the state before is no integer, or has no step.
    """
    # Two lies may cancel: an integer is one whatever its representation.
    given = {key: signed(e[key]) for key in e if key == "g" or key.startswith("pre.")}
    if any(abs(x) >= 1 << 200 for x in given.values()):
        return e, False
    pre, g = {n: given[f"pre.{n}"] for n in rule.st.state}, given["g"]
    try:
        post, hints = model.step(rule.st.name, pre, g, {**rule.pub, **rule.scalars}, rule.P)
    except ValueError:
        return e, False
    whole = given | {f"post.{n}": x for n, x in post.items()} | hints
    return whole, model.provable(rule.st.name, pre, post, g, hints, rule.pub, rule.P)


@dataclass(frozen=True)
class Shard:
    """One witness: what each parameter holds, and the block that it is in, if that counts."""

    rule: Rule
    elements: list[Element]
    block: Block | None = None

    def look_ups(self) -> list[bool]:
        """Whether each look-up fails, in the order in which they are laid out."""
        flags = np.concatenate(list(failing(self.rule, self.elements).values())).tolist()
        return flags + (self.block.failing(self.elements) if self.block else [])


def run_round(benches: Benches, prover: MockProver, seed: int, number: int, names: list[str], found: Found) -> None:
    """Round ``number`` of the campaign ``seed``; AssertionError says who disagrees about what."""
    rng = np.random.default_rng([seed, number])
    st = STATEMENTS[names[number % len(names)]]
    rows = adafactor_round.ROWS[st.name] if st.shaped else ROWS
    bench = benches.get(st, rows[number // len(names) % len(rows)])
    if st.shaped:
        adafactor_round.run_round(st, bench, prover, rng, found)
        return
    circuit, P = bench.circuit, bench.circuit.P
    how, pub = draw_public(rng, st, P)
    rule = Rule(st, pub, P)
    if st.carries:
        rule = draw_block_rule(rng, rule)
    found.kinds[f"public integers: {how}"] += 1

    # 1. honest steps: reference, model and bounds
    elements, ends = draw_elements(rng, rule, circuit.shard)
    found.ends.update(ends)
    provable = check_honest(rule, elements)
    found.honest += len(elements)
    found.provable += len(provable)

    # 2. honest steps: circuit
    full = [provable[i % len(provable)] for i in range(circuit.shard if provable else 0)]
    witnesses = honest_shard(rng, rule, full)
    for shard in witnesses:
        assert not any(shard.look_ups()), f"an honest shard is refused by the bounds: {pub}, {shard.block}"

    # 3. a lie in every parameter, or a step that leaves the table
    lies: list[Element] = []
    for e in elements:
        kind, lie = draw_lie(rng, rule, e, elements)
        found.kinds[f"lie: {kind}"] += 1
        lies.append(lie)
    check_lies(rule, lies)
    found.lies += len(lies)

    # 4. lies about the block, with and without lies in it
    if st.carries:
        zeros = dict.fromkeys(st.carries, 0)
        here = around(rng, rule, elements if rng.random() < 0.5 else lies)
        kept = Block.of(rule, zeros, zeros, zeros) if here is None else replace(here[0], rule=rule)
        shards = [(lies, kept), *((s.elements, s.block) for s in witnesses * BLOCK_LIES if s.block)]
        for listed, block in shards:
            kind, told = draw_block_lie(rng, block, listed)
            honest, refused = told.true(listed), any(told.failing(listed))
            assert refused == (not honest), (
                f"refused by the block's bounds: {refused}, honest: {honest}: {kind}, {told}"
            )
            found.kinds[f"block: {kind}"] += 1
            found.lies += 1
            witnesses.append(Shard(told.rule, listed, told))
    else:
        witnesses.append(Shard(rule, lies))

    # 5. the mock prover refuses what the bounds refuse, look-up by look-up
    seen = prover.refused(circuit, [columns(circuit, s.rule, s.elements, s.block) for s in witnesses])
    found.mocked += len(witnesses)
    for shard, places in zip(witnesses, seen, strict=True):
        look_ups = np.flatnonzero(shard.look_ups()).tolist()
        found.refused_look_ups += len(look_ups)
        expected = bench.places.of(look_ups)
        assert places == expected, f"the mock prover refuses other look-ups: {places - expected}, {expected - places}"


def check_honest(rule: Rule, elements: list[Element]) -> list[Element]:
    """Those that fit the table; AssertionError where reference, model and bounds do not agree."""
    refused = np.any(list(failing(rule, elements).values()), axis=0)
    provable = []
    for i, e in enumerate(elements):
        true, fits = true_step(rule, e)
        assert true == e, f"the reference differs from the model: {e} and {true}, {rule}"
        assert fits == (not refused[i]), f"the model says provable: {fits}, the bounds differ: {e}, {rule}"
        if fits:
            provable.append(e)
    return provable


def check_lies(rule: Rule, lies: list[Element]) -> None:
    """AssertionError unless the bounds refuse exactly those that are not the model's."""
    refused = np.any(list(failing(rule, lies).values()), axis=0)
    for i, lie in enumerate(lies):
        true, fits = true_step(rule, lie)
        honest = fits and all((true[key] - lie[key]) % MODULUS == 0 for key in true)
        assert refused[i] == (not honest), f"refused by the bounds: {refused[i]}, honest: {honest}: {lie}, {rule}"


def honest_shard(rng: np.random.Generator, rule: Rule, full: list[Element]) -> list[Shard]:
    """A shard of these elements, as far as there is one."""
    if not full:
        return []
    if not rule.st.carries:
        return [Shard(rule, full)]
    placed = around(rng, rule, full)
    if placed is None:
        return []
    block, taken = placed
    assert block.true(taken), f"the model does not take an honest block: {block}"
    return [Shard(block.rule, taken, block)] if len(check_honest(block.rule, taken)) == len(taken) else []


def ends_met(found: Found, names: list[str]) -> str:
    """How many of the ends were met exactly by an honest step: a bound at -1, 0, P - 1 and P."""
    ends = ("-1", "0", "P-1", "P")
    per = {end: {key[:2] for key in found.ends if key[2] == end} for end in ends}
    total = sum(STATEMENTS[n].lookups for n in names)
    return ", ".join(f"{end}: {len(per[end])}" for end in ends) + f" of {total} bounds"


def campaign(seed: int, count: int, names: list[str], say: Callable[[str], None] = print, every: float = 20.0) -> Found:
    """Rounds until ``count`` cases are through; AssertionError at the first disagreement, with its round."""
    found, number, began = Found(), 0, time.monotonic()
    said = began
    with MockProver() as prover, tempfile.TemporaryDirectory(prefix="zk-fuzz-") as folder:
        benches = Benches(prover, Path(folder))
        while found.cases < count:
            try:
                run_round(benches, prover, seed, number, names, found)
            except Exception as error:
                error.add_note(f"again with --seed {seed} --only {number}")
                raise
            number += 1
            if time.monotonic() - said > every:
                said = time.monotonic()
                say(f"{number} rounds, {found.cases} of {count} cases, {found.cases / (said - began):.0f}/s")
    say(
        f"{number} rounds in {time.monotonic() - began:.0f} s: {found.honest} honest steps, of them "
        f"{found.provable} fit the table; {found.lies} lies; "
        f"{found.refused_look_ups} look-ups refused in {found.mocked} witnesses, each by bounds and circuit alike"
    )
    say(f"honest steps with a bound exactly at its ends: {ends_met(found, names)}")
    if found.alone:
        say(
            f"bounds whose look-up alone refused a case: {len(found.alone)}, and {sum(found.alone.values())} such cases"
        )
    say("; ".join(f"{kind} {n}" for kind, n in sorted(found.kinds.items())))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz_circuits", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="number of cases (default: 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="which campaign (default: 1)")
    parser.add_argument("--statement", choices=NAMES, help="this one alone (default: all by turns)")
    parser.add_argument("--only", type=int, help="run this one round, with the same --statement, and let its error out")
    options = parser.parse_args(arguments)
    names = [options.statement] if options.statement else NAMES
    if options.only is None:
        try:
            campaign(options.seed, options.count, names, lambda line: print(line, flush=True))
        except AssertionError as error:
            print(f"{error}\n{' '.join(error.__notes__)}", file=sys.stderr)
            return 1
        return 0
    with MockProver() as prover, tempfile.TemporaryDirectory(prefix="zk-fuzz-") as folder:
        found = Found()
        run_round(Benches(prover, Path(folder)), prover, options.seed, options.only, names, found)
        print(f"{found.cases} cases, {found.provable} of the honest ones fit the table: {dict(found.kinds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
