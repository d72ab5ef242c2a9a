"""From a statement to an ONNX graph that checks it.

The graph computes nothing that anyone reads: every bound is one look-up of ``sigmoid(x)``, whose table spans exactly
``[0, P)``, so that a witness exists only if ``x`` is in that range. Four inputs, each a committed column:

* ``pre``   = [state before, one row per name | salt]
* ``post``  = [state after | salt]
* ``work``  = [gradient | hints | noise | scalars | vectors | salt]
* ``hyper`` = the public integers

and two more where a step depends on sums over a block of shards:

* ``carry_in``  = [sums over the shards before this one | totals | salt]
* ``carry_out`` = [sums with this shard | totals | salt]

Salt elements are sliced off and used by nothing; noise is looked up in every inner column in turn and hides
what the look-ups' multiplicities and sums show, which are unblinded. Built with ``onnx.helper``: same bytes on every
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from zk_autograd.proofs.witness import SALT
from zk_autograd.statement import Statement, carry_bounds


@dataclass
class Graph:
    """An ONNX graph under construction; :class:`Expr` adds its nodes."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    columns: int = 1
    cells: int = 0
    numbers: dict[int, Expr] = field(default_factory=dict)
    repeated: dict[str, Expr] = field(default_factory=dict)

    def node(self, op: str, inputs: list[str], size: int, **attributes: Any) -> Expr:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return Expr(self, name, size)

    def number(self, value: int) -> Expr:
        """The integer ``value`` as an element, the same one at every use.

        EZKL decomposes a constant that several operations use, which takes two range checks of every inner column, a
        third of the proving time. So each stands in one operation only: ``(value + x) - x`` with a public integer x.
        """
        if value not in self.numbers:
            name, public = f"k{value}", self.cut("hyper", 0, 1).name
            self.constants[name] = np.array([value], dtype=np.float32)
            if int(self.constants[name][0]) != value:
                raise ValueError(f"constant {value} is not exact in 32-bit floats")
            self.numbers[value] = self.node("Sub", [self.node("Add", [name, public], 1).name, public], 1)
            self.cells += 2
        return self.numbers[value]

    def cut(self, source: str, start: int, length: int) -> Expr:
        """Elements ``start .. start+length`` of a one-dimensional tensor; only re-indexes, no cells."""
        ids = [self.indices(x) for x in (start, start + length, 0)]
        return self.node("Slice", [source, *ids], length)

    def square(self, x: Expr) -> Expr:
        """The sum of the squares of a tensor, one cell for each."""
        self.cells += x.size
        return self.node("Einsum", [x.name, x.name], 1, equation="i,i->")

    def total(self, x: Expr) -> Expr:
        """The sum of a tensor: a product with ones."""
        ones = self._repeat(self.number(1), x.size)
        self.cells += -(-x.size // self.columns) * self.columns
        return self.node("Einsum", [x.name, ones.name], 1, equation="i,i->")

    def row_squares(self, x: Expr, length: int) -> Expr:
        """The sum of the squares of each row of ``length``."""
        rows = [self.cut(x.name, start, length) for start in range(0, x.size, length)]
        self.cells += (-length % self.columns) * len(rows)
        one = self.indices(1)  # a sum has no dimension
        return self.join([self.node("Reshape", [self.square(row).name, one], 1) for row in rows])

    def column_squares(self, x: Expr, length: int) -> Expr:
        """The sum of the squares of each column, of a matrix whose rows have ``length``."""
        rows = x.size // length
        self.cells += -(-rows // self.columns) * self.columns * length
        matrix = self.node("Reshape", [x.name, self.indices(rows, length)], x.size).name
        return self.node("Einsum", [matrix, matrix], length, equation="ai,ai->i")

    def outer(self, rows: Expr, columns: Expr) -> Expr:
        """The product of each of ``rows`` with each of ``columns``, row by row."""
        return self.join([columns * self.cut(rows.name, i, 1) for i in range(rows.size)])

    def join(self, parts: list[Expr]) -> Expr:
        return self.node("Concat", [p.name for p in parts], sum(p.size for p in parts), axis=0)

    def dot(self, pairs: Sequence[tuple[Expr | int, Expr | int]], plus: Expr | int) -> Expr:
        """Sum of products and ``plus``, element by element: a row takes as many products as there are columns.

        Rows are full, so that nothing hangs on what EZKL fills them up with.
        """
        places = -len(pairs) % self.columns
        extra = isinstance(plus, Expr) or plus != 0
        inside = extra and places > 0
        pairs = [*pairs, *[(plus, 1)] * inside, *[(0, 0)] * (places - inside)]
        factors = [[x if isinstance(x, Expr) else self.number(x) for x in side] for side in zip(*pairs, strict=True)]
        size = max(x.size for side in factors for x in side)
        self.cells += size * len(pairs)
        stacks = [self._stack(side, size) for side in factors]
        products = self.node("Einsum", stacks, size, equation="ai,ai->i")
        return products + plus if extra and not inside else products

    def _stack(self, parts: list[Expr], size: int) -> str:
        """Name of the tensor whose rows are ``parts``; only re-indexes."""
        long = self.join([self._repeat(x, size) for x in parts])
        return self.node("Reshape", [long.name, self.indices(len(parts), size)], size).name

    def _repeat(self, one: Expr, size: int) -> Expr:
        """``one`` as often as it takes; EZKL gives cells to ONNX's own way of saying so."""
        long = self.repeated.get(one.name, one)
        while long.size < size:
            long = self.join([long, long])
        self.repeated[one.name] = long
        return self.cut(long.name, 0, size) if long.size > size else long

    def indices(self, *values: int) -> str:
        """Name of a constant that only says how to re-index."""
        name = "i" + "_".join(map(str, values))
        self.constants[name] = np.array(values, dtype=np.int64)
        return name


@dataclass(frozen=True, eq=False)
class Expr:
    """A tensor of the graph; ``+ - *`` with tensors, single elements and Python integers add nodes."""

    graph: Graph
    name: str
    size: int

    def _binary(self, op: str, other: Expr | int, swap: bool = False) -> Expr:
        right = other if isinstance(other, Expr) else self.graph.number(other)
        size = max(self.size, right.size)
        self.graph.cells += size
        return self.graph.node(op, [right.name, self.name] if swap else [self.name, right.name], size)

    def __add__(self, other: Expr | int) -> Expr:
        return self._binary("Add", other)

    def __radd__(self, other: int) -> Expr:
        return self._binary("Add", other)

    def __sub__(self, other: Expr | int) -> Expr:
        return self._binary("Sub", other)

    def __rsub__(self, other: int) -> Expr:
        return self._binary("Sub", other, swap=True)

    def __mul__(self, other: Expr | int) -> Expr:
        return self._binary("Mul", other)

    def __rmul__(self, other: int) -> Expr:
        return self._binary("Mul", other)

    def dot_rows(self, pairs: Sequence[tuple[Expr | int, Expr | int]], plus: Expr | int) -> Expr:
        """What :func:`zk_autograd.statement.base.dot` is in a circuit."""
        return self.graph.dot(pairs, plus)


class _Public:
    """The public integers as circuit expressions, readable as attributes."""

    def __init__(self, exprs: dict[str, Expr]) -> None:
        self.__dict__.update(exprs)


def build(st: Statement, P: int, columns: int, shard: int, noise: int) -> tuple[ModelProto, int]:
    """The graph of ``st`` for shards of ``shard`` parameters, and the number of cells its layout has.

    Args:
        P: size of the look-up table, ``2**logrows - 8``.
        columns: inner columns of the layout.
        shard: parameters per proof.
        noise: look-ups of fresh uniform values, see ``docs/zero-knowledge.md``.
    """
    g = Graph(columns=columns)
    sizes = column_sizes(st, P, shard, noise)
    pre = {n: g.cut("pre", i * shard, shard) for i, n in enumerate(st.state)}
    post = {n: g.cut("post", i * shard, shard) for i, n in enumerate(st.state)}
    work = {n: g.cut("work", i * shard, shard) for i, n in enumerate(("g", *st.hints))}
    fresh = g.cut("work", shard * (1 + len(st.hints)), noise)
    pub = _Public({n: g.cut("hyper", i, 1) for i, n in enumerate(st.inputs)})
    scalars = {n: g.cut("work", shard * (1 + len(st.hints)) + noise + i, 1) for i, n in enumerate(st.scalars(P))}
    at = sizes["work"] - SALT - sum(st.vectors(P).values())
    for name, length in st.vectors(P).items():
        scalars[name] = g.cut("work", at, length)
        at += length
    gradient = work.pop("g")
    bounds = st.bounds(pre, post, gradient, work | scalars, pub, P)
    if len(bounds) != st.lookups:
        raise ValueError(f"{st.name}: {len(bounds)} bounds, declared {st.lookups}")
    if st.carries:
        bounds |= _carried(g, st, pre, post, gradient, work | scalars, pub, P)
    looked_up = g.join([*bounds.values(), fresh])
    g.cells += looked_up.size
    out = g.node("Sigmoid", [looked_up.name], looked_up.size)
    graph = helper.make_graph(
        g.nodes,
        f"zk-autograd-{st.name}",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [s]) for n, s in sizes.items()],
        [helper.make_tensor_value_info(out.name, TensorProto.FLOAT, [out.size])],
        [numpy_helper.from_array(v, name=n) for n, v in sorted(g.constants.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="zk-autograd")
    model.ir_version = 8
    return model, g.cells


def _carried(
    g: Graph, st: Statement, pre: dict[str, Expr], post: dict[str, Expr], gradient: Expr, hints: dict[str, Expr],
    pub: Any, P: int,
) -> dict[str, Expr]:  # fmt: skip
    """The bounds that a shard has once: its sums, and what follows from the block's."""
    names = [*st.carries, *(f"total {n}" for n in st.carries)]
    before = {n: g.cut("carry_in", i, 1) for i, n in enumerate(names)}
    after = {n: g.cut("carry_out", i, 1) for i, n in enumerate(names)}
    sums = st.sums(pre, post, hints, P)
    bounds: dict[str, Expr] = carry_bounds(st.carries, before, sums, after, pub.first, pub.last)
    totals = {n: before[f"total {n}"] for n in st.carries}
    return bounds | st.block_bounds(pre, post, gradient, hints, totals, pub, P)


def column_sizes(st: Statement, P: int, shard: int, noise: int) -> dict[str, int]:
    """Elements of each input column, in committed order, salt included."""
    state = len(st.state) * shard + SALT
    work = (1 + len(st.hints)) * shard + noise + len(st.scalars(P)) + sum(st.vectors(P).values()) + SALT
    sizes = {"pre": state, "post": state, "work": work, "hyper": len(st.inputs)}
    if st.carries:
        sizes |= dict.fromkeys(("carry_in", "carry_out"), 2 * len(st.carries) + SALT)
    return sizes
