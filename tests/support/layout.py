"""A circuit's whole layout, cell by cell: which cells are copies of which, and what an honest witness has in each.

Read from EZKL's own proving key, where the permutation and the fixed columns stand in full; the committed columns are
given, and everything else follows from them by copies and gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tests.support.transcript import root_of_unity
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl.commit import TAIL
from zk_autograd.proofs.ezkl.constraints import (
    _ADD,
    _DOT,
    _DOT_INIT,
    _MUL,
    _PROD,
    _PROD_INIT,
    _SUB,
    _SUM,
    _SUM_INIT,
    DELTA,
    INNER,
    TABLES,
    Key,
    read_key,
)

Column: TypeAlias = list[int]

_UNMONT = pow(1 << 256, -1, MODULUS)


@dataclass(frozen=True)
class ProvingKey:
    """What a proving key has beside the verifying key, by rows: fixed columns, and the permutation's."""

    key: Key
    fixed: list[Column]
    permutation: list[Column]

    @property
    def rows(self) -> int:
        return 1 << self.key.k


def read_proving_key(circuit: Circuit) -> ProvingKey:
    """The verifying key, three polynomials on cosets, then lists: how many, all their lengths, each with its length.

    Elements are as Halo2 computes with them: times ``2^256``.
    """
    vk, raw = ((circuit.directory / name).read_bytes() for name in ("vk.key", "pk.key"))
    assert raw.startswith(vk)
    key, at = read_key(vk), len(vk)

    def number() -> int:
        nonlocal at
        at += 4
        return int.from_bytes(raw[at - 4 : at], "big")

    def skip() -> None:
        nonlocal at
        size = number()
        at += 32 * size

    def column() -> Column:
        nonlocal at
        start = at + 4
        skip()
        return [int.from_bytes(raw[i : i + 32], "little") * _UNMONT % MODULUS for i in range(start, at, 32)]

    def members() -> range:
        count = number()
        for _ in range(count):
            number()
        return range(count)

    for _ in range(3):
        skip()
    fixed = [column() for _ in members()]
    for _ in range(2):  # as polynomials, and on cosets
        for _ in members():
            skip()
    permutation = [column() for _ in members()]
    assert (len(fixed), len(permutation)) == (len(key.fixed), len(key.permutation))
    assert {len(c) for c in (*fixed, *permutation)} == {1 << key.k}
    return ProvingKey(key, fixed, permutation)


def copies(pk: ProvingKey) -> list[list[int]]:
    """By the permutation's columns and their rows the number of each cell's class: cells of a class are copies."""
    n, omega = pk.rows, root_of_unity(pk.key.k)
    where, shift = {}, 1
    for j in range(len(pk.permutation)):
        x = shift
        for i in range(n):
            where[x] = j, i
            x = x * omega % MODULUS
        shift = shift * DELTA % MODULUS
    classes = [[-1] * n for _ in pk.permutation]
    number = 0
    for j in range(len(classes)):
        for i in range(n):
            if classes[j][i] < 0:
                at = j, i
                while classes[at[0]][at[1]] < 0:
                    classes[at[0]][at[1]] = number
                    at = where[pk.permutation[at[0]][at[1]]]
                assert at == (j, i), "no cycle: this is not a permutation"
                number += 1
    return classes


def assigned(pk: ProvingKey, committed: Sequence[Sequence[int]]) -> list[Column]:
    """Every advice column of an honest witness, its last rows 0 but for the committed ones'.

    Raises:
        AssertionError: the committed columns do not meet the copies, gates and look-ups; or an operand is a copy of no
            committed element, constant or result, so that a prover could choose it.
    """
    key, n, classes = pk.key, pk.rows, copies(pk)
    values: dict[int, int] = {}

    def put(column: int, row: int, value: int) -> None:
        known = values.setdefault(classes[column][row], value % MODULUS)
        assert known == value % MODULUS, f"column {column}, row {row}: two values for one cell and its copies"

    for j, column in enumerate(committed):
        for i, x in enumerate([*column, *[0] * (n - TAIL - len(column)), *[1] * TAIL]):
            put(j, i, x)
    for i, x in enumerate(pk.fixed[0]):
        put(key.advice, i, x)
    a, b, c = (range(key.inputs + k * INNER, key.inputs + (k + 1) * INNER) for k in range(3))
    on = [
        [g for g, s in enumerate(key.selectors) if any(f[i] for f in pk.fixed) and s.evaluate([f[i] for f in pk.fixed])]
        for i in range(n)
    ]

    def get(column: int, row: int) -> int | None:
        return values.get(classes[column][row])

    def results(i: int, gate: int) -> tuple[int, int | None]:
        """Which of the row's results a gate says, and its value if its operands are known."""
        for letter, gates in (("+", _ADD), ("-", _SUB), ("*", _MUL)):
            if gate in gates:
                k = gates.index(gate)
                x, y = get(a[k], i), get(b[k], i)
                if x is None or y is None:
                    return k, None
                return k, x + y if letter == "+" else x - y if letter == "-" else x * y
        first = gate in (_DOT_INIT, _PROD_INIT, _SUM_INIT)
        xs, ys = [get(col, i) for col in a], [get(col, i) for col in b]
        past = None if first else get(c[0], i - 1)
        if gate in (_DOT, _DOT_INIT):
            if None in (*xs, *ys) or (past is None and not first):
                return 0, None
            return 0, (past or 0) + sum((x or 0) * (y or 0) for x, y in zip(xs, ys, strict=True))
        if None in ys or (past is None and not first):
            return 0, None
        if gate in (_SUM, _SUM_INIT):
            return 0, (past or 0) + sum(y or 0 for y in ys)
        assert gate in (_PROD, _PROD_INIT)
        product = 1 if past is None else past
        for y in ys:
            product = product * (y or 0) % MODULUS
        return 0, product

    left = [(i, gate) for i in range(n) for gate in on[i]]
    while left:
        waiting = []
        for i, gate in left:
            k, value = results(i, gate)
            if value is None:
                waiting.append((i, gate))
            else:
                put(c[k], i, value)
        assert len(waiting) < len(left), f"row {left[0][0]}: its operands are no copies of anything known"
        left = waiting
    for k in range(INNER):
        for i in range(n):
            if pk.fixed[TABLES + k][i]:
                looked_up = get(a[k], i)
                assert looked_up is not None, "a value that is looked up is unknown"
                assert looked_up < n - 8, f"row {i}: {looked_up} is looked up, and is not in the table"
                put(c[k], i, 1)
    return [[get(j, i) or 0 for i in range(n)] for j in range(key.advice)]
