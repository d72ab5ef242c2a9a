"""From a checked witness to a sealed proof: more than one try, in a child process with limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.options import Reporter
from consumers.prover.check import check_witness
from schemas.events import ProofAttached, RunStarted, WitnessShard
from schemas.signing import seal
from zk_autograd.errors import ProofSystemError
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Columns, Committer, Limits
from zk_autograd.tee.keys import SigningKey

ATTEMPTS = 2
"""How often a proof is tried."""


@dataclass
class Proving:
    """Makes proofs; ``made`` counts them. ``tick`` is called every now and then meanwhile."""

    limits: Limits
    tick: Callable[[], None]
    key: SigningKey
    report: Reporter
    made: int = 0
    _committers: dict[bytes, Committer] = field(default_factory=dict)

    def prove(self, event: WitnessShard, start: RunStarted, circuit: Circuit, data_key: bytes) -> bytes:
        """A sealed ProofAttached for the topic ``proofs``.

        Raises:
            VerificationError, SealingError, DecodeError, FormatError: see :func:`check_witness`.
            ProofSystemError: it could not be proven.
        """
        columns = check_witness(event, start, circuit, self._committer(circuit), data_key)
        self.tick()
        began = time.monotonic()
        with self.report.busy(f"proving step {event.step} shard {event.shard}"):
            proof = self._attempt(circuit, columns)
        seconds = time.monotonic() - began
        self.made += 1
        self.report(
            f"proved run {event.run_id.hex()[:12]} step {event.step} shard {event.shard} in {seconds:.1f} s "
            f"({circuit.shard / seconds:.0f} parameters/s)",
            run_id=event.run_id.hex(), step=event.step, shard=event.shard, seconds=seconds,
        )  # fmt: skip
        return seal("proofs", _attached(event, circuit, proof), self.key)

    def _attempt(self, circuit: Circuit, columns: Columns) -> bytes:
        system = proof_system(circuit.system)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return system.prove(circuit, columns, self.limits, self.tick)
            except ProofSystemError as error:
                if attempt == ATTEMPTS:
                    raise
                self.report(f"attempt {attempt} failed, trying again: {error}", attempt=attempt)
        raise AssertionError("unreachable")

    def _committer(self, circuit: Circuit) -> Committer:
        if circuit.id not in self._committers:
            self._committers[circuit.id] = proof_system(circuit.system).committer(circuit)
        return self._committers[circuit.id]


def _attached(event: WitnessShard, circuit: Circuit, proof: bytes) -> ProofAttached:
    return ProofAttached(
        run_id=event.run_id, step=event.step, shard=event.shard, proof_system=circuit.system, circuit_id=circuit.id,
        proof=proof, pre_path=event.pre_path, post_path=event.post_path, work_path=event.work_path,
        carry_in_path=event.carry_in_path, carry_out_path=event.carry_out_path,
    )  # fmt: skip
