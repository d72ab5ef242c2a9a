"""The mock prover takes the honest step and refuses every other one.

Honest elements stand at the ends of every range. Nothing is filtered beforehand: what the mock prover refuses, it
refuses by the circuit's own constraints. The attacks themselves are in ``tests/proofs/corpus``; here is what needs to
know the bounds by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import TypeAlias

import pytest

from tests.proofs.corpus import LIES, lies
from tests.proofs.forging import (
    LINEAR,
    ROOT_BOUND,
    Case,
    Element,
    Rule,
    case,
    fraction,
    fractions,
    later,
    signed,
)
from tests.proofs.mocking import MockProver
from tests.proofs.refusing import assert_refused
from tests.proofs.told import Told
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.statement import STATEMENTS, Public

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
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
_WIDE = [bound for bound in _ADAM if bound != "|g| < P/2"] + [
    "s*s <= v', high digit",
    "v' <= s*s + 2s, high digit",
    "dw*D <= A*m', high digit",
    "A*m' < (dw+1)*D, high digit",
]
_DECOUPLED = ["d is the rounded decay", "|d| < P/2"]
_AMSGRAD = ["h' >= h", "h' >= s", "h' is h or s"]
_SGD = ["dw is the rounded step", "|dw| < P/2", "|g| < P/2"]
_MOMENTUM = ["m' is the rounded mean", *_SGD]
ALL_BOUNDS: Told[list[str]] = Told("ALL_BOUNDS of tests/proofs/test_forgeries.py", {
    "adam": _ADAM + _ROOT,
    "adam-l2": _ADAM + _ROOT + _L2,
    "adamw": _ADAM + _ROOT + _DECOUPLED,
    "adam-wide": _WIDE,
    "adamw-wide": _WIDE + _DECOUPLED,
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
})  # fmt: skip
BOUNDS = [(name, bound) for name, bounds in ALL_BOUNDS.items() for bound in bounds]
NEVER_FULL = {"s is an integer of the table", "h' >= h", "h' >= s", "h' is h or s", *_WIDE[-4:]}
"""Roots stay below the table's end, as 2s - q and D - 1 - c have to be in the table as well; so do high digits."""

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


@pytest.mark.parametrize("name", NAMES)
def test_the_honest_step_is_taken_with_every_bound_at_both_of_its_ends(case_of: CaseOf, name: str) -> None:
    c = case_of(name)
    P = c.rule.P
    ends = {b: {c.rule.bounds(e)[b] for e in c.honest.values()} for b in c.rule.bounds(c.honest["ordinary 0"])}
    for bound, values in ends.items():
        # A random step that ends at 0 or P - 1 exactly is rare for some: next to it is as good, see "just outside".
        reached = min(values) <= 4 and max(values) >= P - 5
        assert reached or bound in NEVER_FULL, f"{bound}: see STEEP in forging.py"
    assert Ezkl().satisfied(c.circuit, c.columns())


def alone(c: Case, bound: str) -> Iterator[Forgery]:
    """Forgeries that every bound but this one takes."""
    name, rule = c.rule.st.name, c.rule
    for place, e in c.honest.items():
        candidates = [c.rule.follow(e | {t: e[t] + d}, *later(rule, t)) for t in rule.targets for d in (1, -1)]
        for target, remainder in LINEAR[name].items():
            for r in (rule.bounds(e)[remainder] - 1, rule.bounds(e)[remainder] + 1):
                lie = rule.solve(e, target, remainder, r)
                candidates += [lie, rule.follow(lie, *later(rule, target))]
                if target == "d" and "u" not in e:  # the weight takes back what the decay has too much
                    candidates.append(lie | {"post.w": e["post.w"] + e["d"] - lie["d"]})
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
def test_a_value_changed_by_one_is_refused_at_every_extreme(
    case_of: CaseOf, mock_prover: MockProver, name: str
) -> None:
    c = case_of(name)
    moves = list(product(c.honest.values(), c.rule.targets, (1, -1)))
    assert assert_refused(c, mock_prover, [(t, e | {t: e[t] + by}) for e, t, by in moves]) >= 2 * c.circuit.shard


@pytest.mark.parametrize("name", [n if n == "adam" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_the_circuit_of_the_real_profile_refuses_the_corpus_as_the_small_one_does(
    real_circuit: Callable[[str], Circuit], mock_prover: MockProver, name: str
) -> None:
    c = case(real_circuit(name))
    assert Ezkl().satisfied(c.circuit, c.columns())
    elements = list(c.honest.values())
    elements = [elements[0], elements[-1]]
    forged = [(attack, lie) for attack in LIES for e in elements for lie in lies(attack, c.rule, e)]
    assert assert_refused(c, mock_prover, forged) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_every_change_at_every_extreme_is_refused(
    mock_circuit: Callable[..., Circuit], mock_prover: MockProver, name: str
) -> None:
    """The cross product, at the real size of the table."""
    c = case(mock_circuit(name, logrows=15))
    forged = []
    for (place, e), target in product(c.honest.items(), c.rule.targets):
        moved = [e | {target: e[target] + by} for by in (1, -1, 2, -2, c.rule.P, -c.rule.P, *fractions(c.rule, e))]
        forged += [(f"{target} at {place}", lie) for lie in moved]
        forged += [(f"after {target} at {place}", c.rule.follow(lie, *later(c.rule, target))) for lie in moved]
    assert assert_refused(c, mock_prover, forged) > 1000


@pytest.mark.parametrize(("c1", "c2", "halves"), [(409, 66, False), (410, 66, False), (410, 4, True), (409, 4, False)])
def test_a_gradient_of_wide_adam_is_an_integer_since_c1_and_c2_have_no_common_factor(
    case_of: CaseOf, c1: int, c2: int, halves: bool
) -> None:
    """It is looked up nowhere: with a factor that is in ``c1``, and twice in ``c2``, parts of one would get in."""
    rule = case_of("adam-wide").rule
    rule = Rule(rule.st, Public(rule.pub | {"c1": c1, "b1": rule.P - c1, "c2": c2, "b2": rule.P - c2}), rule.P)
    taken = []
    for e in case_of("adam-wide").honest.values():
        lie = rule.follow(e | {"g": e["g"] + fraction(1, 2)}, *later(rule, "g"))
        both = rule.follow(e | {"g": e["g"] + fraction(1, 2), "post.m": e["post.m"]}, *later(rule, "post.m"))
        taken.append(not rule.violated(lie) or not rule.violated(both))
    assert any(taken) == halves
