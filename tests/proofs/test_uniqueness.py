"""Over all of the field there is one witness for a step, or none: searched exhaustively, on tables of a few entries.

``docs/soundness.md`` shows the same for every table; this holds the proof against what is there. The field is the real
one, so every fraction and every wrapped value is among what is tried.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from math import gcd

import pytest

from tests.proofs import model
from tests.proofs.enumerating import accepted
from tests.proofs.forging import Element, Rule, signed
from tests.proofs.told import Told
from zk_autograd.field import MODULUS
from zk_autograd.fixed_point import nearest_coprime
from zk_autograd.statement import STATEMENTS, Public, Statement

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
WIDE = {"adam-wide", "adamw-wide"}


FORGETTING = ("b1", "b2", "u", "k")
"""Public integers that carry moments over; on the first step they are 0."""


def public(rng: random.Random, st: Statement, P: int) -> Public:
    """Public integers at their ends more often than not; a third of them those of a first step."""
    first = rng.random() < 1 / 3
    draws = Told("public of tests/proofs/test_uniqueness.py", {
        "b1": rng.choice([0, 1, P // 2, P - 1]), "c1": rng.choice([1, P // 2, P - 1, P]),
        "b2": rng.choice([0, 1, P // 2, P - 1]), "c2": rng.choice([1, 2, P, 4 * P]),
        "A": nearest_coprime(rng.choice([1, P, 3 * P, rng.randrange(1, 9 * P), 1 << 35]), P),
        "B": nearest_coprime(rng.choice([1, P, rng.randrange(1, 9 * P)]), P),
        "E": rng.choice([1, 2, P - 1, P, P + 1, 2 * P, (1 << 36) - 1]),
        "r": rng.choice([0, 1, P // 2, P - 1]), "u": rng.choice([0, 1, P - 1]), "c": rng.choice([1, P // 2, P]),
        "W": rng.choice([0, 1, 3, P]), "V": rng.choice([0, 1, 3, P]), "k": 1,
    })  # fmt: skip
    if (not st.name.startswith("momentum") and "m" in st.state and "v" not in st.state) or st.state == ("w",):
        draws["A"] = rng.choice([0, 1, P // 2, P, 2 * P + 1])  # plain and Nesterov steps need no coprime rate
    if st.name in WIDE:  # what its public integers promise
        draws["c1"], draws["c2"] = rng.choice([1, P // 2 - 1, P - 1]), rng.choice([1, 2, P, 4 * P])
        draws["c1"] = nearest_coprime(draws["c1"], draws["c2"])
        draws["A"] = nearest_coprime(draws["A"], P * draws["c2"])
        draws["E"] = rng.choice([9, 10, P + 1, 15 * P])
    if first:
        draws |= dict.fromkeys(FORGETTING, 0) | {"c": P}
    if st.carries:  # the others are those of its layer's rate
        draws = dict.fromkeys(st.public, 0) | draws
    return Public({n: draws[n] for n in st.public})


def cases(st: Statement, P: int, count: int, seed: int) -> Iterator[tuple[Rule, dict[str, int], int]]:
    """A rule, a state before the step, and a gradient; most steps fit the table."""
    rng = random.Random(f"{st.name} {P} {seed}")
    for _ in range(count):
        pub = public(rng, st, P)
        wide = 16 if st.name in WIDE else 1
        root = rng.randrange(wide * P // 2)
        small = P if pub.get("W", 0) + pub.get("V", 0) <= 3 else P // 2
        pre = Told("cases of tests/proofs/test_uniqueness.py", {
            "w": rng.choice([0, 1, -1, rng.randrange(-small, small)]),
            "m": rng.choice([0, -1, P, rng.randrange(-P, P)]),
            "v": rng.choice([0, root * root - 1, root * root, root * root + 2 * root]) if root else 0,
            "h": rng.choice([0, root, root + 1, P - 1]),
        })  # fmt: skip
        g = rng.choice([0, 1, -1, P // 2 - 1, -(P // 2), rng.randrange(-P // 2, P // 2) * wide])
        scalars = {"T": rng.choice([0, 1, P // 2, P - 1, rng.randrange(P)])} if st.carries else {}
        yield Rule(st, pub, P, scalars), {n: pre[n] for n in st.state}, g


def known(pre: dict[str, int], g: int) -> Element:
    return {f"pre.{n}": x for n, x in pre.items()} | {"g": g}


def expected(rule: Rule, pre: dict[str, int], g: int) -> list[Element]:
    """The honest witness by the independent model, if it fits."""
    post, hints = model.step(rule.st.name, pre, g, rule.pub | rule.scalars, rule.P)
    fits = model.provable(rule.st.name, pre, post, g, hints, rule.pub, rule.P)
    return [known(pre, g) | {f"post.{n}": x for n, x in post.items()} | hints] if fits else []


def integers(e: Element) -> Element:
    return {name: signed(x) for name, x in e.items()}


@pytest.mark.parametrize(("P", "count"), [(8, 200), (24, 20), (56, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_a_table_takes_one_witness_for_a_step_that_fits_and_none_for_another(name: str, P: int, count: int) -> None:
    st, fitting = STATEMENTS[name], 0
    if name in WIDE:  # two digits: the square of the table's size is tried
        if P > 8:
            pytest.skip("minutes a step: the larger tables of two-digit bounds are not enumerated")
        count = 12
    if st.carries:  # of these fewer of the first fit
        count *= 2
    for rule, pre, g in cases(st, P, count, seed=1):
        honest = expected(rule, pre, g)
        found = [integers(e) for e in accepted(rule, known(pre, g))]
        assert found == honest, (rule.pub, pre, g)
        fitting += len(honest)
    assert fitting >= count // 8 > 0 or count < 8, "hardly any of the steps fits the table: nothing was tried"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("P", "count"), [(8, 20_000), (24, 1000), (56, 200), (248, 10)])
@pytest.mark.parametrize("name", NAMES)
def test_a_table_takes_one_witness_for_a_step_long(name: str, P: int, count: int) -> None:
    if name in WIDE:
        if P > 8:
            pytest.skip("minutes a step: the larger tables of two-digit bounds are not enumerated")
        count //= 20
    for rule, pre, g in cases(STATEMENTS[name], P, count, seed=2):
        assert [integers(e) for e in accepted(rule, known(pre, g))] == expected(rule, pre, g), (rule.pub, pre, g)


@pytest.mark.parametrize("name", [n for n in NAMES if "m" in STATEMENTS[n].state])
def test_on_the_first_step_moments_may_be_any_field_elements(name: str) -> None:
    """Nothing proves the genesis moments: they count for nothing."""
    st, P, rng, tried = STATEMENTS[name], 8, random.Random(name), 0
    for rule, pre, g in cases(st, P, 120, seed=3):
        if tried == 2 and name in WIDE:
            break
        if any(rule.pub.get(n, 0) for n in FORGETTING):
            continue
        honest = expected(rule, pre | dict.fromkeys(set(st.state) - {"w"}, 0), g)
        strange = {n: x if n == "w" else rng.randrange(MODULUS) for n, x in pre.items()}
        found = [integers(e) for e in accepted(rule, known(strange, g))]
        assert [{t: e[t] for t in rule.targets} for e in found] == [{t: e[t] for t in rule.targets} for e in honest]
        tried += len(honest)
    assert tried >= (2 if name in WIDE else 5)


@pytest.mark.parametrize("name", [n for n in NAMES if STATEMENTS[n].coprime_rate])
def test_the_search_finds_second_witnesses_where_the_rate_is_not_coprime_to_the_table(name: str) -> None:
    """What :func:`nearest_coprime` is for, and that the search above would have seen a hole."""
    rate, found = "B" if name.startswith("nesterov") else "A", 0
    for rule, pre, g in cases(STATEMENTS[name], 8, 60, seed=4):
        if found and name in WIDE:
            break
        even = replace(rule, pub=Public(rule.pub | {rate: 2 * rule.pub[rate]}))
        assert gcd(even.pub[rate], even.P) > 1
        lies = [e for e in accepted(even, known(pre, g)) if abs(signed(e["post.m"])) > 1 << 100]
        found += len(lies)
        assert all(not even.violated(e) for e in lies)
    assert found, "no fraction was found: the search is blind"
