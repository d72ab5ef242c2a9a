"""Learning-rate schedules as a run declares them at its start, so that an auditor can hold every step to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zk_autograd.errors import FormatError, UsageError, VerificationError

KINDS = ("constant", "table", "open")
MAX_TABLE = 4096
"""Most rates a table may list: it travels inside the run's first event."""


@dataclass(frozen=True)
class Schedule:
    """Which learning rate each step uses. Rates are compared exactly: they are the floats that the training loop used.

    Attributes:
        kind: ``constant`` (one rate for all steps), ``table`` (a rate per step from step 1; the last one holds after
            the table's end) or ``open`` (any rate up to ``max_lr``: nothing else was promised).
        values: one rate (constant), 1 to MAX_TABLE rates (table), none (open); finite, from 0 to ``max_lr``.
        max_lr: the largest rate of the run, from which its format was chosen; finite, above 0.
    Raises:
        FormatError: the fields do not make such a schedule.
    """

    kind: str
    values: tuple[float, ...]
    max_lr: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FormatError(f"schedule: expected a kind of {', '.join(KINDS)}, got {self.kind[:40]!r}")
        if not (math.isfinite(self.max_lr) and self.max_lr > 0):
            raise FormatError(f"schedule: expected a largest rate above 0, got {self.max_lr!r}")
        low, high = {"constant": (1, 1), "table": (1, MAX_TABLE), "open": (0, 0)}[self.kind]
        if not low <= len(self.values) <= high:
            span = f"{low}" if low == high else f"{low} to {high}"
            raise FormatError(
                f"schedule: expected {span} rates in a schedule of kind {self.kind}, got {len(self.values)}"
            )
        for index, value in enumerate(self.values):
            if not 0.0 <= value <= self.max_lr:
                raise FormatError(f"schedule: expected rates from 0 to {self.max_lr!r}, rate {index + 1} is {value!r}")

    @property
    def largest(self) -> float:
        """The largest rate that a step may use: of those declared, or ``max_lr``."""
        return max(self.values) if self.values else self.max_lr

    def lr_at(self, step: int) -> float | None:
        """The rate declared for ``step`` (1-based), or None where any rate up to ``max_lr`` may be used."""
        if step < 1:
            raise UsageError(f"schedule: steps count from 1, got {step}")
        return self.values[min(step, len(self.values)) - 1] if self.values else None

    def check(self, step: int, lr: float) -> None:
        """Holds a step's rate against the schedule.

        1. a real number, not negative; 2. at most ``max_lr``; 3. the declared one, if one was declared.

        Raises:
            VerificationError: names step, rate and what was declared.
        """
        # 1. a rate
        if not (math.isfinite(lr) and lr >= 0):
            raise VerificationError(f"step {step}: expected a learning rate of at least 0, got {lr!r}")
        # 2. within the format
        if lr > self.max_lr:
            raise VerificationError(f"step {step}: learning rate {lr!r} is above the declared largest, {self.max_lr!r}")
        # 3. as declared
        declared = self.lr_at(step)
        if declared is not None and lr != declared:
            raise VerificationError(f"step {step}: learning rate {lr!r} is not the declared one, {declared!r}")
