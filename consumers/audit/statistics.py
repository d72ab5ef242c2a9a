"""What the formats took from a run's gradients, as its steps state it."""

from __future__ import annotations

from typing import Any

from ledger.chain import RunChain


def gradients(chain: RunChain) -> dict[str, Any]:
    """Over all steps, for machines.

    ``saturated``, ``underflow`` and ``limited`` are sums (counts of elements), ``max_rounding`` is the largest rounding
    error of a step and ``max_rounding_step`` that step (0: none). ``max_rounding_declared`` is checked against them
    (check 4); what no one can check is that the steps state what happened.
    """
    steps = [opened.event for opened in chain.steps]
    worst = max(steps, key=lambda step: step.rounding, default=None)
    return {
        "vouched_by": "enclave",
        "saturated": sum(step.saturated for step in steps),
        "underflow": sum(step.underflow for step in steps),
        "limited": sum(step.limited for step in steps),
        "max_rounding": worst.rounding if worst else 0.0,
        "max_rounding_step": worst.step if worst else 0,
        "max_rounding_declared": chain.start.max_rounding,
        "scale_changes": sum(any(step.shifts) for step in steps),
    }


def gradients_in_words(found: dict[str, Any]) -> str:
    """The same in one line for people."""
    bound = found["max_rounding_declared"]
    changes = found["scale_changes"]
    return (
        f"the enclave's word on its gradients: {found['saturated']} elements clipped, {found['underflow']} rounded to "
        f"zero, {found['limited']} limited; rounding error at most {found['max_rounding']:.2g} "
        f"(step {found['max_rounding_step']}; {f'declared: {bound:.2g}' if bound < 1 else 'no bound was declared'})"
        + (f"; scales changed {changes} times" if changes else "")
    )
