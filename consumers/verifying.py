"""Proof verification for folds and audits: verifiers by circuit, opened once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from zk_autograd.errors import VerificationError
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Commitments, Verifier


class Verifiers:
    """Verifies proofs of any circuit; use as a context manager."""

    def __init__(self, together: bool = True) -> None:
        """``together``: whether :meth:`many` may verify in batches, or lets the proof system judge each proof alone."""
        self._together = together
        self._open: dict[bytes, Verifier] = {}

    def __call__(self, circuit: Circuit, proof: bytes, hyper: tuple[int, ...]) -> Commitments:
        """The commitments that a proof is about; VerificationError if it does not hold."""
        return self._of(circuit).verify(proof, hyper)

    def many(
        self, circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]]
    ) -> list[Commitments | VerificationError]:
        """For each proof with its public integers, in order, the commitments it is about, or why it does not hold.

        Raises:
            ProofSystemError: nobody knows, of none of them.
        """
        verifier = self._of(circuit)
        return verifier.verify_many(jobs) if self._together else verifier.verify_each(jobs)

    def _of(self, circuit: Circuit) -> Verifier:
        if circuit.id not in self._open:
            self._open[circuit.id] = proof_system(circuit.system).verifier(circuit)
        return self._open[circuit.id]

    def close(self) -> None:
        """Closes the verifiers."""
        for verifier in self._open.values():
            verifier.close()
        self._open.clear()

    def __enter__(self) -> Verifiers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
