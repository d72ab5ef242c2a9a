"""The ledger's rule as a pure fold: events in, entries out, in an order that everyone can replay.

* A run is opened by the first valid RunStarted that names a circuit known here.
* Steps follow in chain order; what does not follow is refused.
* A shard of a step is proven by the first proof in topic order that verifies and belongs to the step's roots.
* A step enters when all its shards are proven and the step before it has entered; each once.
* The end enters after the last step.

No clock, no network, no disk: verifying a proof and finding a circuit are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ledger.chain import RunChain
from ledger.entries import Entry, run_closed, run_opened, step_proven
from schemas.events import (
    EnclaveAttested,
    ProofAttached,
    RunClosed,
    RunFinished,
    RunStarted,
    StepCommitted,
    StepProven,
)
from schemas.signing import Opened
from zk_autograd.errors import VerificationError
from zk_autograd.proofs.base import Circuit, Commitments

FindCircuit: TypeAlias = Callable[[bytes], Circuit]
VerifyProof: TypeAlias = Callable[[Circuit, bytes, tuple[int, ...]], Commitments]


@dataclass
class _Run:
    chain: RunChain
    entered: int = 0
    closed: bool = False
    proofs: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """step -> shard -> proof event id, for steps that have not entered."""


class Fold:
    """All runs of one log.

    Args:
        find_circuit: the circuit with an id; raises a ZkAutogradError if it is not to be had or not allowed.
        verify: verifies a proof against public integers; raises VerificationError.
    """

    def __init__(self, find_circuit: FindCircuit, verify: VerifyProof) -> None:
        self._find, self._verify = find_circuit, verify
        self._runs: dict[bytes, _Run] = {}
        self._replayed: dict[bytes, tuple[int, bool]] = {}

    def replay(self, entry: Entry) -> None:
        """Takes an entry that is in the log already, before any event: its proofs are not verified again."""
        steps, _ = self._replayed.get(entry.run_id, (0, False))
        if isinstance(entry, StepProven):
            steps = entry.step
        self._replayed[entry.run_id] = (steps, isinstance(entry, RunClosed))

    @property
    def waiting(self) -> int:
        """Committed steps that have not entered yet, over all runs."""
        return sum(len(r.chain.steps) - r.entered for r in self._runs.values())

    def step_event(self, opened: Opened[RunStarted | StepCommitted | RunFinished | EnclaveAttested]) -> list[Entry]:
        """Folds an event of the topic ``steps`` whose signature has been checked; returns the entries it completes.

        Raises:
            VerificationError: the event is refused; the fold is as before.
        """
        event = opened.event
        if isinstance(event, EnclaveAttested):
            return []
        if isinstance(event, RunStarted):
            return self._start(opened)  # type: ignore[arg-type]
        run = self._run(event.run_id)
        run.chain.check_link(opened)  # type: ignore[arg-type]
        if isinstance(event, StepCommitted):
            run.chain.check_public(event)
        run.chain.append(opened)  # type: ignore[arg-type]
        return self._advance(run)

    def proof_event(self, opened: Opened[ProofAttached]) -> list[Entry]:
        """Folds an event of the topic ``proofs`` whose signature has been checked; returns the entries it completes.

        Raises:
            VerificationError: the proof is refused; the fold is as before.
        """
        proof = opened.event
        run = self._run(proof.run_id)
        chain = run.chain
        if proof.step <= run.entered or proof.shard in run.proofs.get(proof.step, {}):
            return []  # proven already: a prover that was restarted may prove a shard twice
        if proof.step > len(chain.steps):
            raise VerificationError(
                f"run {chain.name}: proof of step {proof.step}, but {len(chain.steps)} steps are committed"
            )
        if proof.shard >= chain.start.shards:
            raise VerificationError(
                f"run {chain.name}, step {proof.step}: no shard {proof.shard}, there are {chain.start.shards}"
            )
        found = self._verify(chain.circuit, proof.proof, chain.public_of(proof.step, proof.shard))
        chain.check_place(proof, found)
        run.proofs.setdefault(proof.step, {})[proof.shard] = opened.event_id
        return self._advance(run)

    def _run(self, run_id: bytes) -> _Run:
        try:
            return self._runs[run_id]
        except KeyError:
            raise VerificationError(f"run {run_id.hex()[:12]}: no such run has started") from None

    def _start(self, opened: Opened[RunStarted]) -> list[Entry]:
        if opened.event_id in self._runs:
            raise VerificationError(f"run {opened.event_id.hex()[:12]}: started twice")
        chain = RunChain(opened, self._find(opened.event.circuit_id))
        entered, closed = self._replayed.pop(opened.event_id, (-1, False))
        self._runs[opened.event_id] = _Run(chain, max(entered, 0), closed)
        return [] if entered >= 0 else [run_opened(chain)]

    def _advance(self, run: _Run) -> list[Entry]:
        out: list[Entry] = []
        chain = run.chain
        while run.entered < len(chain.steps):
            proofs = run.proofs.get(run.entered + 1, {})
            if len(proofs) < chain.start.shards:
                return out
            run.entered += 1
            del run.proofs[run.entered]
            out.append(step_proven(chain, run.entered, [proofs[i] for i in range(chain.start.shards)]))
        if chain.finished is not None and not run.closed and run.entered == chain.finished.event.steps:
            run.closed = True
            out.append(run_closed(chain))
        return out
