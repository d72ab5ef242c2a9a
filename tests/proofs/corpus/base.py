"""What an entry of the corpus is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from tests.proofs.forging import Element
from zk_autograd.proofs.base import Circuit, Columns
from zk_autograd.statement import Public, Statement


class Step(Protocol):
    """What an attack asks of the rule of one step: :class:`Rule`'s, or a shard's at one of its parameters."""

    @property
    def pub(self) -> Public: ...

    @property
    def P(self) -> int: ...

    @property
    def state(self) -> tuple[str, ...]: ...

    @property
    def hints(self) -> tuple[str, ...]: ...

    @property
    def targets(self) -> list[str]: ...

    @property
    def linear(self) -> dict[str, str]: ...

    def later(self, target: str) -> list[str]: ...

    def bounds(self, e: Element) -> dict[str, int]: ...

    def is_honest(self, e: Element) -> bool:
        """Whether the reference comes to the same from the same state and gradient."""

    def solve(self, e: Element, target: str, bound: str, value: int) -> Element: ...

    def follow(self, e: Element, *targets: str) -> Element: ...


class WholeStep(Step, Protocol):
    @property
    def st(self) -> Statement: ...


class WholeCase(Protocol):
    """What an attack on whole columns asks: an honest shard, of parameters that stand alone or of a matrix."""

    @property
    def rule(self) -> WholeStep: ...

    @property
    def circuit(self) -> Circuit: ...

    def columns(self) -> Columns:
        """The honest ones."""

    def exchanged(self, *keys: str) -> list[Columns]:
        """With these values of two parameters exchanged, or of their rows or columns; none if they are the same."""

    def reordered(self) -> list[Columns]:
        """With two parameters, or rows, at each other's places in everything."""

    def unused(self, column: str) -> int:
        """How many elements before the salt count for nothing."""


Lie: TypeAlias = Callable[[Step, Element], Iterable[Element]]
Whole: TypeAlias = Callable[[WholeCase], Iterable[Columns]]
Make = TypeVar("Make", bound=Callable[..., Iterable[object]])


@dataclass(frozen=True)
class Attack(Generic[Make]):
    """A named attack; ``why`` says what it does and why it might be taken."""

    name: str
    kind: str
    why: str
    make: Make


def attack(entries: list[Attack[Make]]) -> Callable[[Make], Make]:
    """Enters a function into a list; its name is the attack's, its module's the kind."""

    def enter(make: Make) -> Make:
        why = inspect.getdoc(make)
        assert why, f"{make.__name__}: an attack says what it does and why"
        entries.append(Attack(make.__name__, make.__module__.rpartition(".")[2], why, make))
        return make

    return enter


def with_rest(rule: Step, e: Element, target: str) -> list[Element]:
    """``e`` as it is, and with everything after ``target`` computed from it as an honest prover would."""
    return [e, rule.follow(e, *rule.later(target))]


def solved(rule: Step) -> list[tuple[str, str]]:
    """The values that are lied about and that a bound is linear in, with these bounds."""
    return [(target, bound) for target, bound in rule.linear.items() if target in rule.targets]


def moved(rule: Step, e: Element, target: str, by: int) -> list[Element]:
    """``target`` moved by a field element, alone and with the rest of the step following."""
    return with_rest(rule, e | {target: e[target] + by}, target)
