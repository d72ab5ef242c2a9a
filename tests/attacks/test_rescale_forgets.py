"""Changes of scale as another rule: what is proven forgets a little more with each change."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.consumers.test_chain_scales import P, Run
from zk_autograd.errors import FormatError
from zk_autograd.statement import STATEMENTS


@pytest.mark.parametrize("shift", [1, 2])
def test_a_runs_changes_of_scale_leave_it_the_memory_that_it_declared(shift: int) -> None:
    """Epochs of one step; the scale goes down and up by turns, with gradients of zero nothing is lost by rounding.

    ``b2`` of a step that goes down is ``b2 >> 2*shift``: what that rounds away counts against ``1 - beta2``.
    """
    run = Run("adam", epoch_steps=1)
    beta2, steps = run.hyper[0]["beta2"], 200
    left = Fraction(1)  # of v, in the units that it began with
    for number in range(1, steps + 1):
        change = 0 if number == 1 else shift if number % 2 else -shift
        run.take(*([change] * 3) if change else ())
        taken = dict(zip(run.st.public, run.chain.steps[-1].event.public, strict=False))
        if number > 1:
            left *= Fraction(taken["b2"], P) / Fraction(4) ** change
    forgotten, declared = 1 - float(left) ** (1 / (steps - 1)), 1 - beta2
    assert declared < forgotten < 1.5 * declared


@pytest.mark.parametrize(("name", "hyper", "shift"), [("adam", {}, -4), ("momentum", {"momentum": 0.99}, -8)])
def test_a_change_that_would_make_a_step_forget_more_is_refused(name: str, hyper: dict[str, float], shift: int) -> None:
    """At 2^16 rows a change by 5 bits would make a beta2 of 0.999 one of 0.9845."""
    st = STATEMENTS[name]
    chosen = {**st.defaults, **hyper}
    fmt = st.choose_format(chosen, 1e-3, 1.0, P)
    with pytest.raises(FormatError, match="of what a step forgets"):
        st.step_integers(chosen, 1e-3, 2, fmt, P, shift)
    st.step_integers(chosen, 1e-3, 2, fmt, P, -1)
