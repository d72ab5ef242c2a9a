"""Runs over an embedded log that can be put back to where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.producer.training import Training
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit


@pytest.fixture
def training(tmp_path: Path, fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit]) -> Training:
    """A home with the Adam circuit, and an empty log: for runs of two shards, the last of them half full."""
    return Training(fresh_home("adam"), real_circuit("adam"), tmp_path / "log.db")
