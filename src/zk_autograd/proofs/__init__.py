"""Proof systems by name. Each is imported only when asked for."""

from __future__ import annotations

from zk_autograd.errors import UsageError
from zk_autograd.proofs.base import PROFILES, ProofSystem
from zk_autograd.statement import statement


def proof_system(name: str) -> ProofSystem:
    """The proof system called ``name``, as published in RunStarted; UsageError if this release has none such."""
    if name == "ezkl-23.0.5":
        from zk_autograd.proofs.ezkl.system import Ezkl

        return Ezkl()
    raise UsageError(f"unknown proof system {name[:40]!r}: expected ezkl-23.0.5")


DEFAULT_SYSTEM = "ezkl-23.0.5"


def shard_size(optimizer: str, profile: str = "default") -> int:
    """Parameters per proof of a statement, as the default proof system lays it out; no circuit is made for it.

    Args:
        optimizer: name of the statement, such as ``adam``.
        profile: ``small`` or ``default``.
    """
    return proof_system(DEFAULT_SYSTEM).shard_size(statement(optimizer), PROFILES[profile])
