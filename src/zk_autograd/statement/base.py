"""What is proved: one optimizer step over integers, written once for everyone who needs it.

A statement is written with ``+``, ``-``, ``*`` and ``//`` (and, in ``advance``, :class:`Ops`), so that the same
lines run on numpy arrays (the reference), on torch tensors (the optimizer) and on circuit expressions (the proof):

* :meth:`Statement.advance` computes the next state;
* :meth:`Statement.bounds` lists the quantities that lie in ``[0, P)`` exactly if the next state is that one.

``advance`` is run only by who knows the secrets; ``bounds`` is the whole of what a proof says. Tests hold that
each accepts what the other makes, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from zk_autograd.errors import FormatError, VerificationError
from zk_autograd.fixed_point import MIN_SCALE_W, Format

Array: TypeAlias = Any
"""Integers of numpy or torch (int64), or a circuit expression: whatever has ``+ - * //``."""

Pair: TypeAlias = tuple[Array, Array]

FAR = 10**6
"""A step at which bias corrections are over."""

RATE_UNITS = 16
"""A run's largest learning rate is at least so many units of ``A``; chosen formats have hundreds."""

LARGEST_SHIFT = 8
"""By so many bits the scale of gradients may change at once, in any statement."""

FORGETS = 4
"""A step that changes the scale may forget this share more of the state, one over it, than each step does."""

LEAST_RESCALED = 32
"""A public integer that a change of scale makes smaller, and rounds down, stays at least this large: 3 % of error."""

PUBLIC_LIMIT = 1 << 36
"""No public integer that a change of scale makes larger reaches this."""

RESOLUTION_ONE = 1 << 32
"""One unit of :class:`Resolution`."""

Named: TypeAlias = Mapping[str, Array]
Hyper: TypeAlias = Mapping[str, float]

PLACE = ("first", "last")
"""Public integers that a statement with ``carries`` has beside its own: is a shard its block's first, its last?"""


class Public(dict[str, int]):
    """The public integers of one step by name, also readable as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Resolution:
    """How coarsely the state of a block whose scale has changed was recorded: what it holds from before fades slowly.

    Attributes:
        step: step of the last change; 0: there was none.
        units: at that step, a unit of before in units of after, times RESOLUTION_ONE.
    """

    step: int = 0
    units: int = 0


UNCHANGED = Resolution()


@dataclass(frozen=True)
class Ops:
    """What ``advance`` needs beyond ``+ - * //``, for one kind of array.

    Attributes:
        isqrt: exact integer square roots.
        maximum: the larger of two, element by element.
    """

    isqrt: Callable[[Array], Array]
    maximum: Callable[[Array, Array], Array]


class Range(NamedTuple):
    """A quantity that an honest step can bring out of the table, and where it has to lie, ends included."""

    value: Array
    low: int
    high: int


class Region(NamedTuple):
    """Where a tensor's elements lie among those of its block, for statements whose shards are matrices.

    Attributes:
        rows, width: of the tensor as a matrix.
        turned: whether it lies there transposed: ``rows`` are its columns.
        length: elements of a row, with padding.
        size: elements of the block, in whole shards.
    """

    rows: int
    width: int
    turned: bool
    length: int
    size: int


def dot(*pairs: Pair, plus: Array = 0) -> Array:
    """Sum of products, plus ``plus``. In a circuit several products and their sum take one row, as one product does."""
    circuit = next((x for pair in pairs for x in pair if hasattr(x, "dot_rows")), None)
    if circuit is not None:
        return circuit.dot_rows(pairs, plus)
    return sum((a * b for a, b in pairs), plus)


class Statement(ABC):
    """One optimizer's rule. Subclasses are stateless; ``P`` is the size of the circuit's lookup table."""

    name: str
    """Stands in the circuit id's settings, in RunStarted and on the command line."""
    optimizer: str = ""
    """What makes it in a training loop: a class of ``zk_autograd.optim`` with the options that lead to this statement,
    as ``Adam(amsgrad=True)``. Empty if it needs none of its own: ``StatementOptimizer`` takes every statement."""
    state: tuple[str, ...]
    """Secret state, in committed order; the first is always the weights, ``w``."""
    hints: tuple[str, ...]
    """Secret helper values the prover supplies, in committed order after the gradient."""
    public: tuple[str, ...]
    """Public integers, in committed order."""
    defaults: Mapping[str, float]
    """Hyper-parameters other than the learning rate, with torch's defaults where torch's are not 0."""
    samples: Sequence[Hyper] = ()
    """Beside the defaults, hyper-parameters at which the tests try it: the ends of what is usual."""
    lookups: int
    """How many bounds a parameter has."""
    carries: tuple[str, ...] = ()
    """Sums over a whole block on which each parameter's step depends, in committed order. Most statements have none."""
    shaped: bool = False
    """Whether a shard is a matrix, so that the statement decides how many parameters it has (:meth:`shard_of`)."""
    rescales: Mapping[str, int] | None = None
    """Which public integers carry the state over a change of scale, and how: where ``scale_g`` grows by ``k`` bits with
    a step, integer ``x`` is ``x * 2**(k * rescales[x])`` for that step, rounded down. None: the scale cannot change."""
    largest_shift: int = LARGEST_SHIFT
    """By so many bits the scale may change at once."""
    largest_logrows: int = 28
    """The proof of its circuit's soundness (``docs/soundness.md``) is for up to ``2**largest_logrows`` rows."""
    coprime_rate: bool = True
    """Whether the integer that a learning rate becomes is moved to the nearest one coprime to ``P``, never 0."""
    bits: int = 36
    """No integer that is committed to reaches ``2**bits`` in size; fewer bits are faster to commit to."""

    @property
    def choice(self) -> str:
        """What ``zk-train --optimizer`` calls it: the class that makes it, else its own name."""
        return self.optimizer.partition("(")[0].lower() or self.name

    @abstractmethod
    def check_hyper(self, hyper: Hyper) -> None:
        """Raises FormatError if a hyper-parameter is outside what the statement can express."""

    @abstractmethod
    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        """The finest format in which no honest step leaves the table.

        Args:
            max_lr: the largest learning rate the run will use.
            clip: the largest absolute gradient element kept, as a real.
        Raises:
            FormatError: no format fits; the message names the largest rate that does.
        """

    @abstractmethod
    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        """The public integers of step ``step`` (1-based), from the declared hyper-parameters, exactly."""

    def resolution(self, hyper: Hyper, known: Resolution, step: int, shift: int, P: int) -> Resolution:
        """What follows from ``known`` if ``scale_g`` grows by ``shift`` bits with step ``step``; most need none."""
        return UNCHANGED

    def step_integers(
        self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int, shift: int = 0, known: Resolution = UNCHANGED
    ) -> Public:
        """The public integers of a step with which ``scale_g`` grows by ``shift`` bits, to that of ``fmt``.

        Args:
            known: of the block, after that change (:meth:`resolution`).
        Raises:
            FormatError: the statement cannot change scales, or not by so much: see :meth:`check_shift`.
        """
        pub = self.public_integers(hyper, lr, step, fmt, P)
        if not shift:
            return pub
        if self.rescales is None:
            raise FormatError(f"{self.name}: its scales cannot change during a run")
        if abs(shift) > self.largest_shift:
            raise FormatError(
                f"{self.name}: expected a change of scale by at most {self.largest_shift} bits, got {shift}"
            )
        for name, power in self.rescales.items():
            exact, bits = pub[name], shift * power
            pub[name] = exact << bits if bits > 0 else exact >> -bits
            if (bits < 0 and exact and pub[name] < LEAST_RESCALED) or pub[name] >= PUBLIC_LIMIT:
                raise FormatError(
                    f"{self.name}: a change of scale by {shift} bits makes {name} {pub[name]}: expected from "
                    f"{LEAST_RESCALED} to {PUBLIC_LIMIT - 1}"
                )
            lost = exact - (pub[name] << -bits) if bits < 0 else 0
            # Else a run that changes to and fro would forget faster than it declares.
            if lost * P * FORGETS > exact * (P - exact):
                raise FormatError(
                    f"{self.name}: a change of scale by {shift} bits rounds {name} down by {lost / exact:.2g} of it, "
                    f"more than 1/{FORGETS} of what a step forgets, {1 - exact / P:.2g}: change by fewer bits at once"
                )
        return pub

    def check_shift(self, hyper: Hyper, max_lr: float, fmt: Format, shift: int, P: int) -> Format:
        """The format after ``scale_g`` has grown by ``shift`` bits; its bound may have to shrink, by less than half.

        Raises:
            FormatError: 1. that is no format, or learning rates are not resolved in it; 2. an honest step could leave
            the table in it; 3. the public integers that carry the state over would be too small or too large.
        """
        # 1. a format
        new = replace(fmt, scale_g=fmt.scale_g + shift)
        self.check_rate(max_lr, new, P)
        # 2. room
        clip = min(fmt.clip, self.room(hyper, max_lr, new, P))
        if 2 * clip <= fmt.clip:
            raise FormatError(
                f"{self.name}: at a scale of 2^{new.scale_g} eps, decay and the largest rate leave room for gradients "
                f"up to {clip}, not for half of {fmt.clip}"
            )
        # 3. integers: those in question do not depend on the step, nor on its rate
        self.step_integers(hyper, max_lr, 2, new, P, shift)
        return replace(new, clip=clip)

    def room(self, hyper: Hyper, max_lr: float, fmt: Format, P: int) -> int:
        """The largest gradient for which no honest step leaves the table, at the format's scales; at most 0: none.

        Exact: an auditor comes to the same number. Only asked where :attr:`rescales` is not None.
        """
        raise FormatError(f"{self.name}: its scales cannot change during a run")

    @abstractmethod
    def rate_unit(self, fmt: Format, P: int) -> float:
        """The learning rate that one unit of ``A`` stands for, once bias corrections are over."""

    def rate_error(self, hyper: Hyper, lr: float, fmt: Format, P: int) -> float:
        """How far steps under a constant gradient are from ``lr`` times what they should be, over that, at most.

        The rate's integer is rounded, or moved to be coprime to others. Offsets that change with the step make other
        roundings right on average.
        """
        units = self.public_integers(hyper, lr, FAR, fmt, P).A
        return abs(float(units * self.rate_unit(fmt, P) / lr - 1))

    def check_rate(self, max_lr: float, fmt: Format, P: int) -> None:
        """Raises FormatError unless learning rates are small parts of the largest, and weights fine enough.

        Without this a format could be declared in which ``A``, an integer of at least 1, stands for a far larger rate
        than the one that is declared, or a weight moves by a large unit if it moves at all.

        Args:
            max_lr: the largest rate that is used.
        """
        if fmt.scale_w < MIN_SCALE_W:
            raise FormatError(
                f"{self.name}: expected weights of at least {MIN_SCALE_W} fractional bits, got {fmt.scale_w}"
            )
        unit = self.rate_unit(fmt, P)
        if not unit * RATE_UNITS <= max_lr:
            raise FormatError(
                f"{self.name}: in this format learning rates are multiples of {unit:.2g}: expected a largest rate of "
                f"at least {RATE_UNITS} of them, got {max_lr!r}"
            )

    @abstractmethod
    def advance(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        """The next state and the hints, elementwise on int64 arrays of one shape."""

    @abstractmethod
    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        """The named quantities that must lie in ``[0, P)``, for every parameter."""

    @abstractmethod
    def ranges(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> list[Range]:
        """Of the bounds, those that an honest step from a state of any size can violate, cheaper to look at."""

    def gradient_limit(self, P: int) -> int:
        """No gradient of an honest step is larger, as an integer."""
        return P // 2

    def public_vector(self, pub: Public) -> list[int]:
        """The public integers in committed order."""
        return [pub[name] for name in self.public]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The public integers of a shard's proof, in committed order: the step's, and its place if that counts."""
        return self.public + (PLACE if self.carries else ())

    def shard_of(self, P: int) -> int | None:
        """Parameters of a shard, where the state depends on where shards end; None: as many as fit."""
        return None

    def region(self, shape: tuple[int, ...], P: int) -> Region | None:
        """Where a tensor's elements lie in its block; None: as they are, padded behind the last.

        Raises:
            FormatError: it has no place there.
        """
        return None

    def check_block(self, hyper: Hyper, shards: int, P: int) -> None:
        """Raises FormatError if no block of so many shards has such hyper-parameters."""
        return

    # What only statements with ``carries`` have. ``advance`` takes its arrays for one whole block. Who has parts of one
    # calls ``begin`` on each, adds up the squares, and calls ``finish`` with what ``settle`` makes of the totals.

    def scalars(self, P: int) -> tuple[str, ...]:
        """Secret values, one of each for a whole block, in committed order after the hints. Elements of the field."""
        return ()

    def vectors(self, P: int) -> Mapping[str, int]:
        """Secret vectors that a shard has once, by name with their lengths, in committed order after the scalars."""
        return {}

    def begin(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        """The part of the next state and of the hints that does not depend on the block's sums."""
        return self.advance(pre, g, pub, P, ops)

    def squared(self, pre: Named, hints: Named) -> dict[str, Array]:
        """For each of ``carries``, the values whose squares add up to it."""
        return {}

    def sums(self, pre: Named, post: Named, hints: Named, P: int) -> dict[str, Array]:
        """Each of ``carries``, summed up; not those that depend on hints which :meth:`middle` has yet to make."""
        return {name: squares(x) for name, x in self.squared(pre, hints).items()}

    def middle(
        self, pre: Named, post: Named, g: Array, totals: Mapping[str, int], pub: Public, P: int
    ) -> dict[str, Array]:
        """Hints that depend on sums, where others of the sums depend on them."""
        return {}

    def detail(self, post: Named, totals: Mapping[str, int], pub: Public, P: int) -> dict[str, list[int]]:
        """A shard's :meth:`vectors`, from its moments and the sums over its block."""
        return {}

    def settle(self, totals: Mapping[str, int], pub: Public, P: int) -> dict[str, int]:
        """The scalars that follow from the sums over a block."""
        return {}

    def finish(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> dict[str, Array]:
        """The whole next state, from what :meth:`begin` made of it; ``hints`` holds the scalars, too."""
        return dict(post)

    def scalar_bounds(self, totals: Named, scalars: Named, pub: Any, P: int) -> dict[str, Array]:
        """The named quantities that must lie in ``[0, P)``, once for a shard."""
        return {}

    def block_bounds(
        self, pre: Named, post: Named, g: Array, hints: Named, totals: Named, pub: Any, P: int
    ) -> dict[str, Array]:
        """:meth:`scalar_bounds`, and those of vectors that a shard has once; ``hints`` holds scalars and vectors."""
        return self.scalar_bounds(totals, {name: hints[name] for name in self.scalars(P)}, pub, P)


def squares(x: Array) -> Array:
    """:func:`sum_of_squares`, also of a circuit expression."""
    return x.graph.square(x) if hasattr(x, "graph") else sum_of_squares(x)


def sum_of_squares(x: Array) -> int:
    """The exact sum of the squares of int64 values below ``2**50`` in size, of numpy or torch; may exceed 64 bits."""
    low = x & _LOW
    high = (x - low) >> 25
    return (_total(high * high) << 50) + (_total(high * low) << 26) + _total(low * low)


_LOW = (1 << 25) - 1
_ROW = 1 << 12  # so many products of two numbers of 25 bits stay in 64 bits


def _total(x: Array) -> int:
    whole = len(x) // _ROW * _ROW
    rows: list[int] = x[:whole].reshape(-1, _ROW).sum(1).tolist()
    return sum(rows) + int(sum(x[whole:].tolist()))


def place_in(counts: Sequence[int], shard: int) -> dict[str, int]:
    """The place of a shard in its block, by ``PLACE``: ``counts`` are the shards of each block, in order.

    Raises:
        VerificationError: no block has such a shard.
    """
    for count in counts:
        if shard < count:
            return {"first": int(shard == 0), "last": int(shard == count - 1)}
        shard -= count
    raise VerificationError(f"expected a shard of one of the declared blocks, got one {shard} after their end")


def carry_bounds(
    names: tuple[str, ...], before: Named, sums: Named, after: Named, first: Array, last: Array
) -> dict[str, Array]:
    """The named quantities that must lie in ``[0, P)`` for a shard's sums to stand in its block's running ones.

    Args:
        before: for each name its sum over the block's earlier shards, and as ``total NAME`` the one over all of them.
        sums: each name's sum over this shard.
        after: as ``before``, with this shard.
        first, last: 1 if the shard is its block's first, or last, else 0.
    """
    found: dict[str, Array] = {}
    for name in names:
        total = f"total {name}"
        found |= zero(f"{name} grows by the shard's sum", after[name] - before[name] - sums[name])
        found |= zero(f"{total} stays", after[total] - before[total])
        found |= zero(f"{name} begins at 0", before[name] * first)
        found |= zero(f"{name} ends at the total", (after[total] - after[name]) * last)
    return found


def zero(name: str, x: Array) -> dict[str, Array]:
    """Bounds that hold only if ``x`` is 0: both it and its negative are in ``[0, P)``."""
    return {name: x, f"{name}, from below": 0 - x}


def check_decay(name: str, hyper: Hyper) -> None:
    """Raises FormatError unless the weight decay, if there is one, is from 0 to 1."""
    if "weight_decay" in hyper and not 0.0 <= hyper["weight_decay"] <= 1.0:
        raise FormatError(f"{name}: expected 0 <= weight_decay <= 1, got {hyper['weight_decay']!r}")


def called(call: str, *options: str) -> str:
    """:attr:`Statement.optimizer` with options added: ``Adam`` or ``Adam(amsgrad=True)``."""
    kind, _, given = call.rstrip(")").partition("(")
    every = ", ".join([given] * bool(given) + list(options))
    return f"{kind}({every})" if every else kind


def decaying(samples: Sequence[Hyper], *rates: float) -> list[dict[str, float]]:
    """:attr:`Statement.samples`, each with its weight decay where rates are given."""
    if not rates:
        return [dict(h) for h in samples]
    return [{**h, "weight_decay": rate} for h, rate in zip(samples, rates, strict=True)]
