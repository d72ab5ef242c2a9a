"""A step in one pass over gradient and state, by kernels: what they are given, and what they give back.

Who asks for a step calls :func:`take`. Where the kernels do not decide (a gradient that is not finite, an element whose
step would leave the table, a statement without a kernel), the statement's own ``advance`` does, with the same integers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch

from zk_autograd.fixed_point import Format
from zk_autograd.optim.advance import Advanced, advance_parts
from zk_autograd.optim.blocks import Span
from zk_autograd.optim.layout import FlatParameters, Gradients, lost_share
from zk_autograd.statement import Public, Statement

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Variant:
    """A statement that kernels know: its family and what sets it apart there.

    Attributes:
        family: ``adam`` or ``sgd``.
        decay: of Adam's, 0 for none, 1 for L2, 2 for decoupled.
        amsgrad: of Adam's.
        kind: of SGD's, 0 for plain, 1 for momentum, 2 for Nesterov's.
    """

    family: str
    decay: int = 0
    amsgrad: bool = False
    kind: int = 0


VARIANTS = {
    "adam": Variant("adam"),
    "adam-l2": Variant("adam", decay=1),
    "adamw": Variant("adam", decay=2),
    "amsgrad": Variant("adam", amsgrad=True),
    "amsgrad-l2": Variant("adam", decay=1, amsgrad=True),
    "amsgradw": Variant("adam", decay=2, amsgrad=True),
} | {
    name + decay: Variant("sgd", kind=kind)
    for kind, name in enumerate(("sgd", "momentum", "nesterov"))
    for decay in ("", "-l2")
}
"""By the statement's name. Other statements have no kernel."""


@dataclass(frozen=True, eq=False)
class Job:
    """A step of elements of one span; tensors are parts of flat ones, on one device. Integers: :func:`stored`.

    Attributes:
        g: gradients, float32 or float64.
        pre: state before, by name.
        post, hints, integers, image: where the results go; ``integers`` are the gradients, ``image`` the weights as
            floats of ``g``'s precision.
    """

    variant: Variant
    public: Public
    P: int
    format: Format
    g: torch.Tensor
    pre: Tensors
    post: Tensors
    hints: Tensors
    integers: torch.Tensor
    image: torch.Tensor


class Tally(NamedTuple):
    """What a kernel counted: elements clipped, that became zero, that leave the table; the largest gradient; sums of
    squares of gradients and of what rounding and clipping took, in units of the format."""

    saturated: int
    underflow: int
    outside: int
    largest: float
    norm: float
    lost: float


NARROW_TABLE = 1 << 16
"""Up to here a table's integers fit 16 bits, and their products 32."""

NARROW = dict.fromkeys(("g", "s", "h", "d", "e"), torch.int16) | dict.fromkeys(("m", "v"), torch.int32)
"""How integers are kept beside a table up to ``NARROW_TABLE``: a step is bound by memory. Weights stay int64.

What lies in the table: roots up to ``P/2``, and ``v' < (P/2 + 1)**2 <= 2**30``; decay from ``-P/2``; gradients up to
``clip``, at most ``P/2``. For ``m`` and ``e`` it is almost certain; kernels look, and do not decide if not."""


def stored(name: str, P: int) -> torch.dtype:
    """The dtype in which kernels keep integers of this name."""
    return NARROW.get(name, torch.int64) if P <= NARROW_TABLE else torch.int64


class Kernels(ABC):
    """Takes steps on one kind of device."""

    @abstractmethod
    def empty(self, dtype: torch.dtype) -> torch.Tensor:
        """A tensor for all parameters, of unspecified values."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> list[Tally] | None:
        """Takes the steps; None if the kernels' arithmetic does not hold for such public integers."""

    def same(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> bool:
        """True only if the tensors of each pair are equal; a False says nothing."""
        del pairs
        return False

    def copy(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> bool:
        """Writes the first tensor of each pair to the second; False if it did not, and nothing was written."""
        del pairs
        return False


@dataclass(frozen=True)
class Task:
    """A step to take, with the public integers of each span.

    Attributes:
        missing_as_zero, negated: of gradients, see :meth:`FlatParameters.read_gradients`.
    """

    statement: Statement
    P: int
    spans: Sequence[Span]
    public: Sequence[Public]
    missing_as_zero: bool
    negated: bool


class Stepped(NamedTuple):
    """Gradients as read, the state after, and whether its image is in the parameters' spare one."""

    read: Gradients
    done: Advanced
    in_spare: bool


def take(kernels: Kernels | None, task: Task, flat: FlatParameters, pre: Tensors) -> Stepped:
    """The step, by kernels if there are any that decide it; nothing is kept yet.

    Raises:
        UsageError: a gradient is missing or sparse.
        FormatError: a gradient is not finite, or a step does not fit even without one.
    """
    found = _by_kernels(kernels, task, flat, pre) if kernels else None
    if found is not None:
        return found
    read = flat.read_gradients(task.spans, task.missing_as_zero, task.negated)
    pre = {name: x.to(torch.int64) for name, x in pre.items()}
    parts = [(span.part, pub) for span, pub in zip(task.spans, task.public, strict=True)]
    return Stepped(read, advance_parts(task.statement, pre, read.integers, parts, task.P), False)


def _by_kernels(kernels: Kernels, task: Task, flat: FlatParameters, pre: Tensors) -> Stepped | None:
    """None if they do not decide it."""
    pieces, image = flat.gradients(task.missing_as_zero, task.negated), flat.spare
    if not (pre := _as_stored(pre, task.P)):
        return None
    st, P = task.statement, task.P
    post, hints = ({name: kernels.empty(stored(name, P)) for name in some} for some in (st.state, st.hints))
    integers = kernels.empty(stored("g", P))
    variant, counts = VARIANTS[st.name], []
    jobs: list[Job] = []
    for span, public in zip(task.spans, task.public, strict=True):
        counts.append(len(jobs))
        for part, g in _within(span, pieces):
            before, after, helping = ({name: x[part] for name, x in some.items()} for some in (pre, post, hints))
            jobs.append(Job(variant, public, P, span.format, g, before, after, helping, integers[part], image[part]))
    tallies = kernels.run(jobs)
    if tallies is None or any(tally.outside or not math.isfinite(tally.largest) for tally in tallies):
        return None
    found = [_total(tallies[start:stop]) for start, stop in pairwise([*counts, len(tallies)])]
    units = [2.0 ** (-2 * span.format.scale_g) for span in task.spans]
    norm, lost = (
        sum(x * unit for x, unit in zip(sums, units, strict=True))
        for sums in ([tally.norm for tally in found], [tally.lost for tally in found])
    )
    saturated, underflow = sum(tally.saturated for tally in found), sum(tally.underflow for tally in found)
    largest = tuple(tally.largest for tally in found)
    read = Gradients(integers, saturated, underflow, lost_share(lost, norm, underflow), largest)
    return Stepped(read, Advanced(post, hints, integers, 0), True)


def _within(span: Span, pieces: Sequence[tuple[int, torch.Tensor]]) -> Iterator[tuple[slice, torch.Tensor]]:
    """What of the pieces lies in the span: which elements of flat tensors, and the piece's part."""
    for begin, piece in pieces:
        start, stop = max(span.start, begin), min(span.stop, begin + len(piece))
        if start < stop:
            yield slice(start, stop), piece[start - begin : stop - begin]


def _total(tallies: Sequence[Tally]) -> Tally:
    saturated, underflow, outside, largest, norm, lost = zip(*tallies, strict=True)
    return Tally(sum(saturated), sum(underflow), sum(outside), max(largest), sum(norm), sum(lost))


def _as_stored(pre: Tensors, P: int) -> dict[str, torch.Tensor]:
    """The state in the kernels' dtypes; empty if it does not fit them."""
    found = {}
    for name, x in pre.items():
        dtype = stored(name, P)
        if x.dtype != dtype and (int(x.min()) < torch.iinfo(dtype).min or int(x.max()) > torch.iinfo(dtype).max):
            return {}
        found[name] = x.to(dtype)
    return found
