"""What an entry of the corpus is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from tests.proofs.forging import Case, Element, Rule, later
from zk_autograd.proofs.base import Columns

Lie: TypeAlias = Callable[[Rule, Element], Iterable[Element]]
Whole: TypeAlias = Callable[[Case], Iterable[Columns]]
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


def with_rest(rule: Rule, e: Element, target: str) -> list[Element]:
    """``e`` as it is, and with everything after ``target`` computed from it as an honest prover would."""
    return [e, rule.follow(e, *later(rule, target))]


def moved(rule: Rule, e: Element, target: str, by: int) -> list[Element]:
    """``target`` moved by a field element, alone and with the rest of the step following."""
    return with_rest(rule, e | {target: e[target] + by}, target)
