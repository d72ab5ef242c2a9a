"""What an attacker computes who guesses a witness: where each value is looked up, how often, and the running sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.transcript import inverses
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit, Ints
from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.commit import TAIL
from zk_autograd.proofs.witness import ShardWitness, advance, named
from zk_autograd.statement import Public, carry_bounds

INNER = 3


@dataclass(frozen=True)
class Guess:
    """Values that are looked up, by inner column and row; -1 where a row looks nothing up. Shape (INNER, rows)."""

    cells: Ints

    @property
    def rows(self) -> int:
        return self.cells.shape[1]

    @property
    def usable(self) -> int:
        return self.rows - TAIL

    def counts(self, columns: Sequence[int]) -> list[int]:
        """Multiplicities by table row, of the look-ups in these inner columns.

        Row v holds value v. Behind the table its first entry, 0, is repeated, and EZKL counts it at its last place:
        there it counts the rows that look nothing up, too.
        """
        looked_up = np.concatenate([self.cells[c, : self.usable] for c in columns])
        counts = np.bincount(looked_up[looked_up > 0], minlength=self.rows)
        counts[self.usable - 1] += int((looked_up <= 0).sum())
        return [int(c) for c in counts]

    def sums(self, columns: Sequence[int], theta: int, beta: int, weights: Sequence[int], turned: int = 0) -> int:
        """The running sum's part that is no blind, at the point of ``weights`` turned by ``turned`` rows.

        A row's input is ``theta * value + 1``: the rounded sigmoid is 1 for every value of the table.
        """
        table = [v if v < self.rows - 8 else 0 for v in range(self.usable)]
        inverted = inverses([(beta + theta * v + 1) % MODULUS for v in range(self.rows - 8)])
        counts, total, out = self.counts(columns), 0, 0
        for row in range(self.usable):
            out += total * weights[row - turned]
            total += sum(inverted[max(int(self.cells[c, row]), 0)] for c in columns)
            total -= counts[row] * inverted[table[row]]
        assert total % MODULUS == 0  # a sum over all look-ups is one over all table entries
        return out % MODULUS


def guess(circuit: Circuit, witness: ShardWitness, pub: Public, shift: int = 0) -> Guess:
    """All look-ups that follow from a witness: one after the other into the inner columns, in turn.

    ``shift`` cells stand before the first that our own count of cells knows nothing of, such as the rest of a row
    before sums of products. It is the circuit's, and an attacker learns it from a proof of his own.
    """
    st, P, c = circuit.statement, circuit.P, witness.carried
    step = advance(circuit, witness, pub)
    pre, post, hints = ({n: x.astype(object) for n, x in s.items()} for s in (witness.pre, step.post, step.hints))
    g = witness.g.astype(object)
    every: dict[str, Any] = hints | dict(step.scalars)
    every |= {n: np.array(x, dtype=object) for n, x in step.vectors.items()}
    bounds = st.bounds(pre, post, g, every, pub, P)
    if c is not None:
        before, after = named(st, c.before, c.totals), named(st, step.after, c.totals)
        sums = {n: after[n] - before[n] for n in st.carries}
        bounds |= carry_bounds(st.carries, before, sums, after, pub.first, pub.last)
        bounds |= st.block_bounds(pre, post, g, every, dict(zip(st.carries, c.totals, strict=True)), pub, P)
    exact = [np.atleast_1d(np.asarray(b, dtype=object)) % MODULUS for b in bounds.values()]
    values = np.concatenate([*exact, witness.noise]).astype(np.int64)
    _, cells = graph.build(st, P, INNER, circuit.shard, circuit.noise)
    first = cells - len(values) + shift  # everything else is laid out before
    flat = np.full(INNER * (P + 8), -1, dtype=np.int64)
    flat[first : first + len(values)] = values
    return Guess(np.ascontiguousarray(flat.reshape(-1, INNER).T))
