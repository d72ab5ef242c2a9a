"""Whole columns: parameters exchanged, columns shifted or taken for each other, noise and salts out of place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.proofs.corpus.base import Attack, Whole, WholeCase, attack
from tests.proofs.forging import fraction
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Columns
from zk_autograd.proofs.witness import SALT, fresh_salt

WITNESSES: list[Attack[Whole]] = []
HONEST: list[Attack[Whole]] = []


def _secret(c: WholeCase) -> list[str]:
    """Columns with a salt."""
    return ["pre", "post", "work", *(["carry_in", "carry_out"] if c.rule.st.carries else [])]


def _shifted(column: Sequence[int], by: int) -> list[int]:
    return [*column[-by:], *column[:-by]]


@attack(WITNESSES)
def states_of_two_parameters_exchanged(c: WholeCase) -> Iterator[Columns]:
    """One parameter's new state stands at the other's place, and the other way round."""
    yield from c.exchanged(*(f"post.{n}" for n in c.rule.state))
    for name in c.rule.state:
        yield from c.exchanged(f"post.{name}")


@attack(WITNESSES)
def states_before_exchanged(c: WholeCase) -> Iterator[Columns]:
    """The state before the step of two parameters exchanged; the rest is honest."""
    yield from c.exchanged(*(f"pre.{n}" for n in c.rule.state))


@attack(WITNESSES)
def gradients_or_hints_of_another_parameter(c: WholeCase) -> Iterator[Columns]:
    """Each part of the work column exchanged between two parameters, or their rows or columns."""
    for key in ("g", *c.rule.hints):
        yield from c.exchanged(key)


@attack(WITNESSES)
def columns_shifted(c: WholeCase) -> Iterator[Columns]:
    """A column moved by one parameter, or by the salt's length: salts stand in used cells, values in the salt's."""
    honest = c.columns()
    for name in _secret(c):
        for by in (1, -1, SALT, -SALT):
            yield replace(honest, **{name: _shifted(getattr(honest, name), by)})


@attack(WITNESSES)
def salt_in_a_used_cell(c: WholeCase) -> Iterator[Columns]:
    """The last value that counts exchanged with the salt's first element."""
    honest = c.columns()
    for name in _secret(c):
        column, last = list(getattr(honest, name)), -SALT - 1 - c.unused(name)
        column[last], column[-SALT] = column[-SALT], column[last]
        yield replace(honest, **{name: column})


@attack(WITNESSES)
def columns_taken_for_each_other(c: WholeCase) -> Iterator[Columns]:
    """State before and after exchanged, or running sums; one of them in both places."""
    honest = c.columns()
    if c.rule.st.carries:
        yield replace(honest, carry_in=honest.carry_out, carry_out=honest.carry_in)
        yield replace(honest, carry_in=honest.carry_out)
        yield replace(honest, carry_out=honest.carry_in)
    yield replace(honest, pre=honest.post, post=honest.pre)
    yield replace(honest, post=honest.pre)
    yield replace(honest, pre=honest.post)


@attack(WITNESSES)
def state_in_another_order(c: WholeCase) -> Iterator[Columns]:
    """The parts of a state column (w, m, v, h) turned round: the order is not part of what is committed to."""
    honest, size = c.columns(), c.circuit.shard
    if len(c.rule.st.state) > 1:
        for name in ("pre", "post"):
            column = list(getattr(honest, name))
            yield replace(honest, **{name: [*column[size:-SALT], *column[:size], *column[-SALT:]]})


@attack(WITNESSES)
def noise_outside_the_table(c: WholeCase) -> Iterator[Columns]:
    """A noise value that the table has no entry for, honest everywhere else."""
    P = c.rule.P
    for value in (P, -1, 2 * P, fraction(1, 2), 1 << 64, 1 << 128, MODULUS - P, MODULUS // 2):
        yield _with_noise(c, value)


@attack(HONEST)
def nothing_changed(c: WholeCase) -> Iterator[Columns]:
    """The honest step."""
    yield c.columns()


@attack(HONEST)
def parameters_in_another_order(c: WholeCase) -> Iterator[Columns]:
    """Two parameters, or two rows, exchanged everywhere: each still obeys the rule at its new place."""
    yield from c.reordered()


@attack(HONEST)
def other_salts(c: WholeCase) -> Iterator[Columns]:
    """Salts are bound to nothing but the commitment: fresh ones, zeros, and those of another column."""
    honest = c.columns()
    for salt in (fresh_salt(), (0, 0, 0), tuple(honest.work[-SALT:])):
        yield replace(honest, pre=[*honest.pre[:-SALT], *salt])


@attack(HONEST)
def noise_at_the_ends_of_the_table(c: WholeCase) -> Iterator[Columns]:
    """0 and P - 1 are entries."""
    for value in (0, c.rule.P - 1):
        yield _with_noise(c, value)


@attack(HONEST)
def another_representation(c: WholeCase) -> Iterator[Columns]:
    """x + p and x - p are the element x: no second state, the commitment is the same."""
    honest = c.columns()
    yield replace(honest, post=[x + MODULUS for x in honest.post], work=[x - MODULUS for x in honest.work])


def _with_noise(c: WholeCase, value: int) -> Columns:
    honest = c.columns()
    at = c.circuit.shard * (1 + len(c.rule.st.hints))
    return replace(honest, work=[*honest.work[:at], value, *honest.work[at + 1 :]])
