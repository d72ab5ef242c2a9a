"""Checks 5 and 6: a valid proof of every shard that has to be proven, about the steps' own commitments.

Proofs are taken from the disk by step and shard, some at a time, and nothing is kept of a proof but its id.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias, overload

from consumers.audit.accepted import Accepted, Placed
from consumers.audit.collected import Collected
from consumers.audit.noise import Finding
from consumers.audit.outcome import Audit, Status
from consumers.audit.proofs import Job, Verdict
from consumers.audit.sampled import needed
from consumers.audit.spot import OneStep, Slot
from ledger.chain import RunChain
from schemas.events import ProofAttached
from schemas.signing import Opened
from zk_autograd.errors import VerificationError
from zk_autograd.proofs.base import Circuit, Commitments

_NAMED = 20
"""So many missing proofs of a step are named."""

_AT_ONCE, _BYTES = 8192, 64 << 20
"""Proofs that are verified together: about 40 MB of them, and no more than so many bytes whatever a prover attaches."""

VerifyAll: TypeAlias = Callable[[Circuit, Sequence[Job]], list[Verdict]]
_Candidate: TypeAlias = tuple[Slot, int, Opened[ProofAttached], Job]


def check_proofs(out: Audit, found: Collected, verify_all: VerifyAll) -> None:
    """5 and 6; sets which steps are proven."""
    chain, circuit = out.chain, out.circuit
    if chain is None or circuit is None:
        return
    rule = _Rule(out, found, chain, circuit, verify_all)
    batch: list[_Candidate] = []
    size = 0
    for slot, partition, opened in rule.candidates():
        batch.append((slot, partition, opened, (opened.event.proof, chain.public_of(*slot))))
        size += len(opened.body)
        if len(batch) >= _AT_ONCE or size >= _BYTES:
            rule.judge(batch)
            batch, size = [], 0
    rule.judge(batch)
    rule.finish()


def _unverified(circuit: Circuit, proof: bytes) -> Verdict:
    """What a proof says it is about, for a spot check that does not verify it."""
    if len(proof) != circuit.proof_bytes:
        return Verdict(None, f"proof: expected {circuit.proof_bytes} bytes, got {len(proof)}")
    return Verdict(Commitments.first_in(proof, circuit.statement))


class _Slots(Sequence[Slot]):
    """Steps and shards, a few bytes each."""

    def __init__(self) -> None:
        self._steps, self._shards = array("q"), array("i")

    def add(self, slot: Slot) -> None:
        if not self._steps or (self._steps[-1], self._shards[-1]) != slot:
            self._steps.append(slot[0])
            self._shards.append(slot[1])

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> Slot: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Slot]: ...
    def __getitem__(self, index: int | slice) -> Slot | Sequence[Slot]:
        if isinstance(index, slice):
            return list(zip(self._steps[index], self._shards[index], strict=True))
        return self._steps[index], self._shards[index]


class _Rule:
    """Goes through the steps in order; each is settled once the proofs of a later one come, or none."""

    def __init__(
        self, out: Audit, found: Collected, chain: RunChain, circuit: Circuit, verify_all: VerifyAll
    ) -> None:  # fmt: skip
        self._out, self._found, self._chain, self._circuit = out, found, chain, circuit
        self._verify_all = verify_all
        self._wanted = out.steps
        out.accepted = Accepted(out.spot.step if isinstance(out.spot, OneStep) else None)
        self._entered = bytearray(len(chain.steps) + 1)
        for step in found.ledger.own_steps:
            if step <= len(chain.steps):
                self._entered[step] = 1
        self._picked: frozenset[Slot] | None = None
        self._skipped = 0
        if out.spot is not None:
            there = _Slots()
            for slot, _, opened in self.candidates():
                if self._is_own(opened):
                    there.add(slot)
            self._picked = out.spot.pick(there)
            self._skipped, self._total = len(there) - len(self._picked), len(there)
        self._before: dict[Job, Verdict] = {}
        self._first_refused: str | None = None
        self._proven = self._waiting = 0
        self._next = self._wanted.start
        self._begin(self._next)

    def _begin(self, step: int) -> None:
        self._step, self._unknown = step, False
        self._row: dict[int, list[Placed]] = {}
        self._refused: dict[int, Finding] = {}

    def candidates(self) -> Iterator[tuple[Slot, int, Opened[ProofAttached]]]:
        """Proofs that count, of the run's circuit, by step and shard, with the partitions that they lie in."""
        proofs, wanted, shards = self._found.proofs, self._wanted, self._chain.start.shards
        draws = None if self._out.sampling is None else self._out.sampling.draws
        # A start may declare a million shards: nothing here grows with what is declared, only with what is there.
        for step, shard, index in proofs.in_order():
            # Of a sampled run only shards that were drawn count.
            if step in wanted and 0 <= shard < shards and (
                draws is None or (step in draws and shard in draws[step])
            ):  # fmt: skip
                yield (step, shard), proofs.partitions[index], proofs.sealed[index]

    def _is_own(self, opened: Opened[ProofAttached]) -> bool:
        return (opened.event.circuit_id, opened.event.proof_system) == (self._circuit.id, self._circuit.system)

    def judge(self, batch: Sequence[_Candidate]) -> None:
        """Verifies these, and holds each to its step."""
        picked, circuit = self._picked, self._circuit
        # Anyone with a prover's key can say the same again in another event.
        jobs = dict.fromkeys(
            job for slot, _, opened, job in batch
            if (picked is None or slot in picked) and job not in self._before and self._is_own(opened)
        )  # fmt: skip
        made = dict(zip(jobs, self._verify_all(circuit, list(jobs)) if jobs else [], strict=True))
        self._out.proofs_verified += len(jobs)
        for slot, partition, opened, job in batch:
            step, shard = slot
            while self._step < step:
                self._settle()
            where = f"step {step}, shard {shard}"
            if not self._is_own(opened):
                self._refuse(shard, Finding(5, f"{where}: proof of another circuit than the run's"))
                continue
            if picked is not None and slot not in picked:
                verdict = _unverified(circuit, job[0])
            else:
                verdict = made[job] if job in made else self._before[job]
            if not verdict.checked:
                self._out.unchecked(5, f"{where}: {verdict.reason}")
                self._unknown = True
            elif verdict.commitments is None:
                number = 6 if "public integers" in verdict.reason else 5
                self._refuse(shard, Finding(number, f"{where}: {verdict.reason}"))
            else:
                try:
                    self._chain.check_place(opened.event, verdict.commitments)
                    self._row.setdefault(shard, []).append((partition, opened.event_id))
                except VerificationError as error:
                    self._refuse(shard, Finding(6, str(error)))
        # Copies of one shard's proof may lie on both sides of a border.
        self._before = {job: made[job] for *_, job in batch[-1:] if job in made} or self._before

    def _refuse(self, shard: int, finding: Finding) -> None:
        self._refused.setdefault(shard, finding)
        self._first_refused = self._first_refused or finding.text

    def _settle(self) -> None:
        out, step, row = self._out, self._step, self._row
        those = needed(out, out.sampling, step)
        if those and len(row) == len(those):
            out.accepted.add(step, [row[shard] for shard in those])
        elif self._entered[step] and not self._unknown:
            for shard in islice((s for s in those if s not in row), _NAMED):
                finding = self._refused.get(shard) or Finding(
                    5, f"step {step}, shard {shard}: the ledger calls it proven, but there is no proof in the log"
                )
                out.violated(finding.check, finding.text)
        self._proven += len(row)
        self._waiting += not self._entered[step]
        self._begin(step + 1)

    def finish(self) -> None:
        """Settles the steps that are left, and says what was found."""
        out, start, wanted = self._out, self._chain.start, len(self._wanted)
        while self._step in self._wanted:
            self._settle()
        out.proven = len(out.accepted)
        if self._skipped:
            out.unchecked(
                5, f"{self._total - self._skipped} of {self._total} proofs were verified, and none of these is false"
            )
        out.checks[
            6
        ].detail = f"{self._chain.statement.name} state, gradient and public integers of {self._proven} shard(s)"
        if out.checks[5].status is not Status.UNCHECKED:
            out.checks[5].detail = f"{self._proven} of {wanted * (start.sampled or start.shards)} shard proofs"
        if self._waiting:
            waits = (
                f"{self._waiting} step(s) have no ledger entry yet: wait for zk-prove and zk-ledger, then audit again"
            )
            out.unchecked(5, waits)
            if self._first_refused is not None:
                out.checks[5].detail += f"; {self._first_refused}"
