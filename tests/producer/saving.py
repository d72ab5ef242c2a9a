"""The pipeline's numpy optimizer with the two things a restart needs: its state as bytes, and the way back."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from tests.support.pipeline import NumpyOptimizer, Step
from zk_autograd.statement import Public


class SavingOptimizer(NumpyOptimizer):
    """Goes on after :meth:`restore` with the very gradients that it would have had."""

    def save(self) -> bytes:
        """The integer state, the step's number and rate, and where the random source stands."""
        out = io.BytesIO()
        last = self.last_step
        facts = {
            "step": last.step if last else 0,
            "rates": last.rates if last else (),
            "rng": self._rng.bit_generator.state,
        }
        arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts)), **self.state_arrays()}
        np.savez(out, **arrays)
        return out.getvalue()

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`save`."""
        with np.load(io.BytesIO(data)) as saved:
            state = {name: saved[name] for name in self.statement.state}
            facts = json.loads(str(saved["facts"]))
        self._rng.bit_generator.state = facts["rng"]
        none = np.zeros(0, dtype=np.int64)
        last = Step(facts["step"], tuple(facts["rates"]), (Public(),), {}, {}, none, {}) if facts["step"] else None
        self.load(state, last)
