"""A home's circuits: find one for a job, make it where it may be made, load one by id."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home
from zk_autograd.proofs import DEFAULT_SYSTEM, proof_system
from zk_autograd.proofs.base import PROFILES, Circuit
from zk_autograd.statement import statement


def make_circuit(
    home: Home, optimizer: str, profile: str, srs: Path | None, dev: bool, say: Callable[[str], None]
) -> Circuit:
    """Sets a circuit up in ``home`` and adds it to the home's policy; UsageError if no SRS is given or allowed."""
    system, chosen = proof_system(DEFAULT_SYSTEM), PROFILES[profile]
    if srs is None:
        if not dev:
            raise UsageError(
                "no SRS: give the public ceremony's file with --srs FILE, or --dev for an insecure local one"
            )
        srs = system.dev_srs(home.path, chosen.logrows, say)
    circuit = system.set_up(statement(optimizer), chosen, srs, home.path, say)
    if dev:
        home.opt_in_to_simulation()
    home.allow_circuit(circuit.id)
    return circuit


def find_circuit(home: Home, optimizer: str, profile: str, only: bytes | None = None) -> Circuit | None:
    """The home's newest allowed circuit for this optimizer and profile, or ``only`` that one; None if there is none."""
    if not home.policy_path.exists():
        return None
    system, P = proof_system(DEFAULT_SYSTEM), PROFILES[profile].P
    found = [(home.path / "circuits" / i.hex(), i) for i in home.policy().circuits or () if only in (None, i)]
    there = [(folder.stat().st_mtime, i) for folder, i in found if folder.exists()]
    for _, circuit_id in sorted(there, reverse=True):  # a home may hold those of earlier versions, too
        circuit = system.load(circuit_id, home.path)
        if circuit.statement.name == optimizer and circuit.P == P:
            return circuit
    return None


def largest_key(folder: Path, allowed: frozenset[bytes] | None) -> int:
    """Bytes of the largest proving key among a home's circuits that may be used; 0 if there is none."""
    keys = (folder / "circuits").glob("*/pk.key")
    names = None if allowed is None else {circuit_id.hex() for circuit_id in allowed}
    return max((k.stat().st_size for k in keys if names is None or k.parent.name in names), default=0)


VERIFIER_FILES = ("circuit.json", "settings.json", "vk.key", "srs_id")
"""Of a circuit's folder, what verifying needs."""


def export_circuit(circuit: Circuit, folder: Path) -> None:
    """Copies what verifies (and rebuilds) a circuit into ``folder``, which can then be used as a home.

    Raises:
        OSError: it cannot be written.
    """
    target = folder / "circuits" / circuit.id.hex()
    target.mkdir(parents=True, exist_ok=True)
    (folder / "srs").mkdir(exist_ok=True)
    for name in VERIFIER_FILES:
        shutil.copyfile(circuit.directory / name, target / name)
    with suppress(FileNotFoundError):  # a help that can be made again
        shutil.copyfile(circuit.directory / "digest", target / "digest")
    shutil.copyfile(circuit.srs_path, folder / "srs" / circuit.srs_path.name)


class CircuitStore:
    """Loads circuits by id, each once.

    Args:
        folder: a home's path, with ``circuits/`` and ``srs/`` below it.
        allowed: ids that may be used; None allows every circuit of the folder.
    """

    def __init__(self, folder: Path, allowed: frozenset[bytes] | None) -> None:
        self._allowed = allowed
        self._load = lru_cache(maxsize=None)(lambda circuit_id: proof_system(DEFAULT_SYSTEM).load(circuit_id, folder))

    def allows(self, circuit_id: bytes) -> bool:
        """Whether the circuit may be used at all."""
        return self._allowed is None or circuit_id in self._allowed

    def __call__(self, circuit_id: bytes) -> Circuit:
        """The circuit; VerificationError if the policy does not allow it, UsageError if it is not there."""
        if not self.allows(circuit_id):
            raise VerificationError(
                f"circuit {circuit_id.hex()}: not one that the policy allows (circuits; it is read once, at the start)"
            )
        return self._load(circuit_id)
