"""The mock prover takes the honest step and refuses every other one.

Each call gives it a shard of honest elements, at the ends of every range among them, and one that lies. Nothing is
filtered beforehand: what the mock prover refuses, it refuses by the circuit's own constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import combinations, cycle, product
from typing import TypeAlias

import pytest

from tests.proofs.forging import LINEAR, ORDER, ROOT_BOUND, Case, Element, Rule, case, field_root, fraction, signed
from tests.proofs.mocking import MockProver
from tests.support.circuits import REAL
from zk_autograd.proofs.base import Circuit, Columns
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.statement import STATEMENTS, Public

NAMES = sorted(STATEMENTS)
TARGETS = [(name, target) for name in NAMES for target in Rule(STATEMENTS[name], Public(), 1).targets]
_ADAM = [
    "m' is the rounded mean",
    "v' is the rounded mean",
    "s*s <= v'",
    "v' <= s*s + 2s",
    "dw*D <= A*m'",
    "A*m' < (dw+1)*D",
    "|dw| < P/2",
    "|g| < P/2",
]
_ROOT = ["s is an integer of the table"]
_L2 = ["e is g and the rounded decay", "|e| < P/2"]
_DECOUPLED = ["d is the rounded decay", "|d| < P/2"]
_AMSGRAD = ["h' >= h", "h' >= s", "h' is h or s"]
_SGD = ["dw is the rounded step", "|dw| < P/2", "|g| < P/2"]
_MOMENTUM = ["m' is the rounded mean", *_SGD]
ALL_BOUNDS = {
    "adam": _ADAM + _ROOT,
    "adam-l2": _ADAM + _ROOT + _L2,
    "adamw": _ADAM + _ROOT + _DECOUPLED,
    "amsgrad": _ADAM + _AMSGRAD,
    "amsgrad-l2": _ADAM + _L2 + _AMSGRAD,
    "amsgradw": _ADAM + _DECOUPLED + _AMSGRAD,
    "lamb": [*_ADAM, *_ROOT, *_DECOUPLED, "w' is the rounded share", "|w - w'| < P/2"],
    "momentum": _MOMENTUM,
    "momentum-l2": _MOMENTUM,
    "nesterov": _MOMENTUM,
    "nesterov-l2": _MOMENTUM,
    "sgd": _SGD,
    "sgd-l2": _SGD,
}
BOUNDS = [(name, bound) for name, bounds in ALL_BOUNDS.items() for bound in bounds]
NEVER_FULL = {"s is an integer of the table", "h' >= h", "h' >= s", "h' is h or s"}
"""Roots stay below the table's end, as 2s - q and D - 1 - c have to be in the table as well."""

Forgery: TypeAlias = tuple[str, Element]
"""The honest element that it replaces, and the lie."""

CaseOf: TypeAlias = Callable[[str], Case]
Taken: TypeAlias = Callable[[Case, Iterable[Forgery]], list[Forgery]]


@pytest.fixture
def taken(mock_prover: MockProver) -> Taken:
    """Those of the forgeries that the mock prover takes: none of them, if all is well."""

    def run(c: Case, forgeries: Iterable[Forgery]) -> list[Forgery]:
        listed = list(forgeries)
        assert listed
        verdicts = mock_prover.verdicts(c.circuit, [c.columns({place: lie}) for place, lie in listed])
        # Not a filter: whatever is listed is a lie by the bounds too, or the test is wrong.
        assert all(c.rule.violated(lie) for _, lie in listed)
        return [f for f, verdict in zip(listed, verdicts, strict=True) if verdict]

    return run


def integers(P: int) -> list[int]:
    return [1, -1, 2, -2, P, -P]


def changed(c: Case, target: str, deltas: Iterable[int], places: Iterable[str]) -> Iterator[Forgery]:
    """One value changed by each delta at each place."""
    for place, delta in product(places, deltas):
        e = c.honest[place]
        yield place, e | {target: e[target] + delta}


def later(rule: Rule, target: str) -> list[str]:
    """What an honest prover computes after ``target``, in order."""
    order = [t for t in ORDER if t in ("g", *rule.targets)]
    return order[order.index(target) + 1 :]


def fractions(rule: Rule, e: Element) -> list[int]:
    """Small parts of one by everything that the rule multiplies with, and more."""
    D = 2 * e.get("s", 0) + rule.pub.get("E", 1)
    parts = [(1, 2), (1, 4), (1, 8), (1, 3), (1, rule.P), (rule.P - 1, rule.P), (1, rule.pub.A), (2, rule.pub.A)]
    return [fraction(a, b) for a, b in [*parts, (1, D), (1, 2 * D)] if b != 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_honest_step_is_taken_with_every_bound_at_both_of_its_ends(case_of: CaseOf, name: str) -> None:
    c = case_of(name)
    P = c.rule.P
    ends = {b: {c.rule.bounds(e)[b] for e in c.honest.values()} for b in c.rule.bounds(c.honest["ordinary 0"])}
    for bound, values in ends.items():
        # A random step that ends at 0 or P - 1 exactly is rare for some: next to it is as good, see "just outside".
        assert min(values) <= 4 or bound in NEVER_FULL, bound
        assert max(values) >= P - 5 or bound in NEVER_FULL, bound
    assert Ezkl().satisfied(c.circuit, c.columns())


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_a_value_changed_by_an_integer_is_refused(case_of: CaseOf, name: str, target: str, taken: Taken) -> None:
    c = case_of(name)
    everywhere = changed(c, target, integers(c.rule.P), ["ordinary 0"])
    wrapped = changed(c, target, [1 << 32, -(1 << 63), 1 << 63, 1 << 64, -(1 << 64)], ["ordinary 1"])
    assert taken(c, [*everywhere, *wrapped]) == []


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_a_value_changed_by_one_is_refused_at_every_extreme(
    case_of: CaseOf, name: str, target: str, taken: Taken
) -> None:
    c = case_of(name)
    extremes = [place for place in c.honest if not place.startswith("ordinary")]
    signs = cycle([1, -1, -1, 1])  # low and high ends take turns with both signs
    assert taken(c, [f for place in extremes for f in changed(c, target, [next(signs)], [place])]) == []


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_a_value_changed_by_a_fraction_is_refused(case_of: CaseOf, name: str, target: str, taken: Taken) -> None:
    c = case_of(name)
    e = c.honest["ordinary 2"]
    assert taken(c, changed(c, target, fractions(c.rule, e), ["ordinary 2"])) == []


@pytest.mark.parametrize("name", NAMES)
def test_two_values_changed_together_are_refused(case_of: CaseOf, name: str, taken: Taken) -> None:
    c = case_of(name)
    e = c.honest["ordinary 3"]
    pairs = list(combinations(c.rule.targets, 2))
    both = [e | {a: e[a] + i, b: e[b] + j} for a, b in pairs for i, j in product((1, -1), (1, -1))]
    assert not pairs or taken(c, [("ordinary 3", f) for f in both]) == []


@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_a_lie_that_the_rest_of_the_step_follows_is_refused(
    case_of: CaseOf, name: str, target: str, taken: Taken
) -> None:
    """An attacker computes everything after the changed value honestly: a single bound stands against it."""
    c, place = case_of(name), "ordinary 4"
    lies = [e for _, e in changed(c, target, [*integers(c.rule.P), *fractions(c.rule, c.honest[place])], [place])]
    assert taken(c, [(place, c.rule.follow(e, *later(c.rule, target))) for e in lies]) == []


@pytest.mark.parametrize(("name", "target"), [(n, t) for n, t in TARGETS if t in LINEAR[n]])
def test_a_remainder_of_the_provers_choice_is_refused(case_of: CaseOf, name: str, target: str, taken: Taken) -> None:
    """Every remainder in the table can be had, for a quotient that is a fraction modulo the field's prime."""
    c, place = case_of(name), "ordinary 5"
    e, bound = c.honest[place], LINEAR[name][target]
    honest = c.rule.bounds(e)[bound]
    chosen = [r for r in (0, 1, honest - 1, honest + 1, c.rule.P - 1) if r != honest]
    lies = [c.rule.solve(e, target, bound, r) for r in chosen]
    followed = [c.rule.follow(lie, *later(c.rule, target)) for lie in lies]
    closed = []
    for lie in lies:
        for after in (t for t in later(c.rule, target) if t in LINEAR[name]):
            # The fraction is cancelled by one in the next quotient, so that its remainder is the honest one.
            lie = c.rule.solve(lie, after, LINEAR[name][after], c.rule.bounds(e)[LINEAR[name][after]])
        closed.append(lie)
    assert taken(c, [(place, lie) for lie in [*lies, *followed, *closed]]) == []


def alone(c: Case, bound: str) -> Iterator[Forgery]:
    """Forgeries that every bound but this one takes."""
    name, rule = c.rule.st.name, c.rule
    for place, e in c.honest.items():
        candidates = [c.rule.follow(e | {t: e[t] + d}, *later(rule, t)) for t in rule.targets for d in (1, -1)]
        for target, remainder in LINEAR[name].items():
            for r in (rule.bounds(e)[remainder] - 1, rule.bounds(e)[remainder] + 1):
                lie = rule.solve(e, target, remainder, r)
                candidates += [lie, rule.follow(lie, *later(rule, target))]
                if target == next(iter(LINEAR[name])):  # the one in which the gradient stands
                    candidates.append(rule.solve(e, "g", remainder, r))
        if "post.h" in e:
            for other in (e["pre.h"] * rule.pub.k, e["s"]):
                candidates.append(rule.follow(e | {"post.h": other}, *later(rule, "post.h")))
        for part in (fraction(1, 2), fraction(1, 4)):
            for moved in {"g", "e"} & e.keys():
                candidates.append(rule.follow(e | {moved: e[moved] + part}, *later(rule, moved)))
            if "post.m" in e:
                both = e | {"g": e["g"] + part, "post.m": e["post.m"] + part}
                candidates.append(rule.follow(both, *later(rule, "post.m")))
            if "s" in e:
                lie = rule.solve(e | {"s": e["s"] + part}, "post.v", ROOT_BOUND, rule.bounds(e)[ROOT_BOUND])
                candidates.append(rule.follow(lie, *(("u", "post.w") if "u" in e else ("post.w",))))
        yield from ((place, lie) for lie in candidates if rule.violated(lie) == {bound})


def test_every_bound_of_every_statement_is_in_the_list_below(case_of: CaseOf) -> None:
    for name in NAMES:
        e = case_of(name).honest["ordinary 0"]
        assert sorted(ALL_BOUNDS[name]) == sorted(case_of(name).rule.bounds(e))


@pytest.mark.parametrize(("name", "bound"), BOUNDS)
def test_no_bound_can_be_left_out(case_of: CaseOf, name: str, bound: str, taken: Taken) -> None:
    """For each there is a forgery that all the others take, and the circuit refuses it."""
    c = case_of(name)
    if "c2" in c.rule.pub and bound == ("|e| < P/2" if "e" in c.rule.targets else "|g| < P/2"):
        c = case(c.circuit, b1=c.rule.P - 410, c1=410)  # an even c1: halves of g leave no trace in m'
    if name == "lamb" and bound in ("|d| < P/2", "|dw| < P/2"):
        c = case(c.circuit, R=0)  # of the direction nothing is taken, so a fraction leaves no trace in the weight
    found = list(alone(c, bound))
    few = found[:2] + found[-2:]
    assert few, "no forgery needs this bound: it could be left out"
    assert taken(c, few) == []


@pytest.mark.parametrize(
    ("name", "bound", "A"),
    [
        ("adam", "|dw| < P/2", 23),
        ("sgd", "|dw| < P/2", 2 * 4088 + 1),
        ("adam", "|g| < P/2", 23),
        ("momentum", "|g| < P/2", 261),
        ("sgd", "|g| < P/2", 2045),
    ],
)
def test_an_honest_step_that_leaves_the_table_is_refused(
    case_of: CaseOf, name: str, bound: str, A: int, taken: Taken
) -> None:
    c = case(case_of(name).circuit, A=A)
    outside = c.samples.just_outside(bound)
    below, above = sorted(signed(c.rule.bounds(e)[bound]) for e in outside)
    assert -3 < below < 0
    assert c.rule.P <= above < c.rule.P + 2
    assert taken(c, [("ordinary 6", e) for e in outside]) == []


def test_a_negative_root_is_refused_even_if_the_step_follows_it(case_of: CaseOf, taken: Taken) -> None:
    c = case_of("adam")
    lies = [(place, e | {"s": -e["s"] - d}) for place, e in c.honest.items() for d in (0, 1) if e["s"] + d]
    followed = [(place, c.rule.follow(e, "post.w")) for place, e in lies]
    assert taken(c, [*lies[:8], *followed[:8]]) == []


def test_a_root_taken_modulo_the_prime_is_refused(case_of: CaseOf, taken: Taken) -> None:
    """``s*s`` is a small integer for many field elements ``s`` that are no integers."""
    c, place = case_of("adam"), "ordinary 7"
    e = c.honest[place]
    small = [x for q in range(40) if (x := field_root(e["post.v"] - q)) is not None and abs(signed(x)) >= c.rule.P]
    lies = [e | {"s": x} for x in small[:4]]
    assert taken(c, [(place, c.rule.follow(lie, *after)) for lie in lies for after in ((), ("post.w",))]) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_no_integer_is_refused(case_of: CaseOf, name: str, taken: Taken) -> None:
    c, place = case_of(name), "ordinary 8"
    e, rule = c.honest[place], c.rule
    by = rule.pub.get("c1") or rule.pub.get("c") or rule.pub.A
    gradients = [fraction(1, by), fraction(-1, by), fraction(1, 2), fraction(2 * e["g"] + 1, 2), fraction(1, rule.P)]
    gradients += [x for square in (2, 3, 5, 7, 11, 13) if (x := field_root(square)) is not None and x != square][:3]
    gradients += [x for x in [field_root(-1), field_root(fraction(1, rule.pub.get("c2", 2)))] if x is not None]
    lies = [e | {"g": g} for g in gradients]
    followed = [rule.follow(lie, *later(rule, "g")) for lie in lies]
    assert taken(c, [(place, lie) for lie in [*lies, *followed]]) == []


@pytest.mark.parametrize("name", NAMES)
def test_other_public_integers_than_the_steps_are_refused(case_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = case(case_of(name).circuit, A=case_of(name).rule.pub.A // 2 | 1)
    # LAMB's U stands for the rate only if a norm is 0; another j gives, but for one in P, the same rounded rate.
    keys = [key for key in c.rule.pub if not (name == "lamb" and key in "Uj")]
    changes = [(key, by) for key, by in product(keys, (1, -1))]
    others = [c.columns(pub=Public(c.rule.pub | {key: c.rule.pub[key] + by})) for key, by in changes]
    verdicts = mock_prover.verdicts(c.circuit, others)
    assert [change for change, verdict in zip(changes, verdicts, strict=True) if verdict] == []


@pytest.mark.parametrize("name", NAMES)
def test_noise_outside_the_table_is_refused(case_of: CaseOf, mock_prover: MockProver, name: str) -> None:
    c = case_of(name)

    def with_noise(value: int) -> Columns:
        honest = c.columns()
        at = c.circuit.shard * (1 + len(c.circuit.statement.hints))
        return replace(honest, work=[*honest.work[:at], value, *honest.work[at + 1 :]])

    values = (0, c.rule.P - 1, c.rule.P, -1, fraction(1, 2))
    verdicts = mock_prover.verdicts(c.circuit, [with_noise(v) for v in values])
    assert verdicts == [True, True, False, False, False]


@pytest.mark.parametrize("name", REAL)
def test_the_circuit_of_the_real_profile_refuses_as_the_small_one_does(
    real_circuit: Callable[[str], Circuit], name: str, taken: Taken
) -> None:
    c = case(real_circuit(name))
    assert Ezkl().satisfied(c.circuit, c.columns())
    first, last = "ordinary 0", list(c.honest)[-1]
    moves = ((first, 1), (last, -1), (last, fraction(1, 2)))
    lies = [f for t in c.rule.targets for at, by in moves for f in changed(c, t, [by], [at])]
    assert taken(c, lies) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_every_change_at_every_place_is_refused(
    mock_circuit: Callable[..., Circuit], name: str, target: str, taken: Taken
) -> None:
    """The cross product, at the real size of the table."""
    c = case(mock_circuit(name, logrows=15))
    lies = list(changed(c, target, integers(c.rule.P), c.honest))
    for place, e in c.honest.items():
        lies += changed(c, target, fractions(c.rule, e), [place])
        lies += [(place, c.rule.follow(lie, *later(c.rule, target))) for _, lie in changed(c, target, [1, -1], [place])]
    assert taken(c, lies) == []
