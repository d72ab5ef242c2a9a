"""Circuits for which docs/soundness.md has no proof, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from zk_autograd.proofs.ezkl.system import _circuit


@pytest.mark.parametrize("logrows", [18, 20, 24])
@pytest.mark.parametrize("name", ["adam-wide", "adamw-wide", "lamb"])
def test_a_table_beyond_the_proof_of_uniqueness_is_not_loaded(name: str, logrows: int) -> None:
    """The proofs are "for tables of up to 2^17 rows": from 2^20 on ``c2*a^2`` exceeds p."""
    description = {"statement": name, "logrows": logrows, "columns": 3, "shard": 100, "noise": 507, "proof_bytes": 4064}
    with pytest.raises((KeyError, TypeError, ValueError)):
        _circuit(bytes(32), description, bytes(32), "CEREMONY", Path(), Path())
