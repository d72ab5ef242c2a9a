"""A step in one pass over gradient and state, by kernels: what they are given, and what they give back.

Who asks for a step calls :func:`take`. Where the kernels do not decide (a gradient that is not finite, an element whose
step would leave the table, a statement without a kernel), the statement's own ``advance`` does, with the same integers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from zk_autograd.fixed_point import Format
from zk_autograd.optim.advance import Advanced, advance_parts
from zk_autograd.optim.blocks import Part, Span
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


class Job(NamedTuple):
    """A step of one span.

    Where a part has a parameter's own memory, kernels compare that with the image of the former weights, and later set
    it; elsewhere the image of the new ones goes to :attr:`Work.image`.
    """

    public: Public
    format: Format
    parts: Sequence[Part]


@dataclass(frozen=True, eq=False)
class Work:
    """A step of all parameters: tensors are flat, on one device. Integers: :meth:`Kernels.stored`.

    Attributes:
        pre: state before, by name.
        post, hints, integers, image: where the results go; ``integers`` are the gradients, ``image`` the weights as
            floats of the gradients' precision.
    """

    variant: Variant
    P: int
    pre: Tensors
    post: Tensors
    hints: Tensors
    integers: torch.Tensor
    image: torch.Tensor
    jobs: Sequence[Job]


class Tally(NamedTuple):
    """What a kernel saw: elements clipped, that became zero; how many it does not decide, since they leave the table or
    their memory was changed by others; the largest gradient; sums of squares of gradients and of what rounding and
    clipping took, in units of the format."""

    saturated: int
    underflow: int
    undecided: int
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

    watches: ClassVar[bool] = False
    """Whether jobs can have parameters' own memory."""

    @abstractmethod
    def empty(self, dtype: torch.dtype) -> torch.Tensor:
        """A tensor for all parameters, of unspecified values."""

    def stored(self, name: str, P: int) -> torch.dtype:
        """The dtype in which integers of this name are kept."""
        return stored(name, P)

    def widen(self, name: str) -> bool:
        """Keeps integers of this name in a wider dtype from now on, if there is one."""
        del name
        return False

    @abstractmethod
    def run(self, work: Work) -> list[Tally] | None:
        """Takes the step; a tally for each job. None if the arithmetic does not hold for such public integers."""

    def show(self, work: Work) -> None:
        """Sets the parameters' own memory to the image of the new weights."""
        del work


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
    """Gradients as read, the state after, whether kernels decided it; ``put`` sets the parameters to its image."""

    read: Gradients
    done: Advanced
    by_kernels: bool
    put: Callable[[], None]


def take(kernels: Kernels | None, task: Task, flat: FlatParameters, pre: Tensors) -> Stepped:
    """The step, by kernels if there are any that decide it; nothing is kept yet.

    Raises:
        UsageError: a gradient is missing or sparse, or weights were changed.
        FormatError: a gradient is not finite, or a step does not fit even without one.
    """
    found = _by_kernels(kernels, task, flat, pre) if kernels else None
    if found is not None:
        return found
    flat.check_weights(pre["w"], task.spans)
    read = flat.read_gradients(task.spans, task.missing_as_zero, task.negated)
    pre = {name: x.to(torch.int64) for name, x in pre.items()}
    parts = [(span.part, pub) for span, pub in zip(task.spans, task.public, strict=True)]
    done = advance_parts(task.statement, pre, read.integers, parts, task.P)
    return Stepped(read, done, False, lambda: flat.write_weights(done.post["w"], task.spans))


def _by_kernels(kernels: Kernels, task: Task, flat: FlatParameters, pre: Tensors) -> Stepped | None:
    """None if they do not decide it."""
    most = torch.iinfo(kernels.stored("g", task.P)).max
    if flat.finer_gradients() or any(span.format.clip > most for span in task.spans):  # a saved state may say so
        return None
    pieces = flat.pieces(task.missing_as_zero, task.negated, kernels.watches)
    watched = {piece.number for piece in pieces if piece.held is not None}
    flat.check_weights(pre["w"], task.spans, watched)
    if not (pre := _as_stored(kernels, pre, task.P)):
        return None
    st, P = task.statement, task.P
    post = {name: kernels.empty(x.dtype) for name, x in pre.items()}
    hints = {name: kernels.empty(kernels.stored(name, P)) for name in st.hints}
    integers = kernels.empty(kernels.stored("g", P))
    jobs = [
        Job(public, span.format, [part for piece in pieces if (part := piece.within(span))])
        for span, public in zip(task.spans, task.public, strict=True)
    ]
    work = Work(VARIANTS[st.name], P, pre, post, hints, integers, flat.spare, jobs)
    tallies = kernels.run(work)
    if tallies is None or any(tally.undecided or not math.isfinite(tally.largest) for tally in tallies):
        return None
    units = [2.0 ** (-2 * span.format.scale_g) for span in task.spans]
    norm, lost = (sum(tally[i] * unit for tally, unit in zip(tallies, units, strict=True)) for i in (4, 5))
    saturated, underflow = sum(tally.saturated for tally in tallies), sum(tally.underflow for tally in tallies)
    largest = tuple(tally.largest for tally in tallies)
    read = Gradients(integers, saturated, underflow, lost_share(lost, norm, underflow), largest)

    def put() -> None:
        kernels.show(work)
        flat.put_spare(watched)

    return Stepped(read, Advanced(post, hints, integers, 0), True, put)


def _as_stored(kernels: Kernels, pre: Tensors, P: int) -> dict[str, torch.Tensor]:
    """The state in the kernels' dtypes; empty if it does not fit them."""
    found = {}
    for name, x in pre.items():
        while x.dtype != (dtype := kernels.stored(name, P)) and not _fits(x, dtype):
            if not kernels.widen(name):
                return {}
        found[name] = x.to(dtype)
    return found


def _fits(x: torch.Tensor, dtype: torch.dtype) -> bool:
    return int(x.min()) >= torch.iinfo(dtype).min and int(x.max()) <= torch.iinfo(dtype).max
