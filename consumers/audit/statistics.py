"""What the formats took from a run's gradients, as its steps state it."""

from __future__ import annotations

from typing import Any

from consumers.audit.stretch import Stretch
from schemas.events import RunStarted, StepCommitted


class Gradients:
    """Sums over a run's steps, one after the other."""

    def __init__(self, start: RunStarted) -> None:
        self._declared = start.max_rounding
        self._saturated = self._underflow = self._limited = self._changes = 0
        self._rounding, self._worst = 0.0, 0

    def add(self, step: StepCommitted) -> None:
        """Takes the next step."""
        self._saturated += step.saturated
        self._underflow += step.underflow
        self._limited += step.limited
        self._changes += bool(step.shifts) and any(step.shifts)
        if not self._worst or step.rounding > self._rounding:
            self._rounding, self._worst = step.rounding, step.step

    def extend(self, stretch: Stretch) -> None:
        """Takes the next steps."""
        self._saturated += stretch.saturated
        self._underflow += stretch.underflow
        self._limited += stretch.limited
        if not self._worst or stretch.rounding[0] > self._rounding:
            self._rounding, self._worst = stretch.rounding

    def facts(self) -> dict[str, Any]:
        """Over all steps, for machines.

        ``saturated``, ``underflow`` and ``limited`` are sums (counts of elements), ``max_rounding`` is the largest
        rounding error of a step and ``max_rounding_step`` that step (0: none). ``max_rounding_declared`` is checked
        against them (check 4); what no one can check is that the steps state what happened.
        """
        return {
            "vouched_by": "enclave",
            "saturated": self._saturated,
            "underflow": self._underflow,
            "limited": self._limited,
            "max_rounding": self._rounding,
            "max_rounding_step": self._worst,
            "max_rounding_declared": self._declared,
            "scale_changes": self._changes,
        }


def in_words(found: dict[str, Any]) -> str:
    """The same in one line for people."""
    bound = found["max_rounding_declared"]
    changes = found["scale_changes"]
    return (
        f"the enclave's word on its gradients: {found['saturated']} elements clipped, {found['underflow']} rounded to "
        f"zero, {found['limited']} limited; rounding error at most {found['max_rounding']:.2g} "
        f"(step {found['max_rounding_step']}; {f'declared: {bound:.2g}' if bound < 1 else 'no bound was declared'})"
        + (f"; scales changed {changes} times" if changes else "")
    )
