"""The numbered checks of an audit, in order. Pure, but for the verification of proofs, which is passed in.

 0  every record is one well-formed, canonical message                (collect.py)
 1  every signature holds, by a key with evidence                     (collect.py)
 2  the run's start, its circuit, its SRS class
 3  the chain of events has no gap, fork or repeat
 4  rates and public integers follow the declared schedule
 5  every step the ledger calls proven has a valid proof of every shard (that was drawn), under the run's circuit
 6  the proofs' commitments are the steps': before, after, gradient; public integers
 7  the ledger's entries for the run are complete, in order, and say what the topics say; draws are as the beacon drew
 8  Merkle roots rebuilt; all checkpoints signed, consistent, up to the last entry; cosigned by the policy's witnesses
 9  every receipt verifies, is of this log, and counters only grow; of a run's beacon none is missing
10  the live counters agree: nothing was rolled back
11  evidence and SRS classes are allowed by the policy

What a proof does not say: that the gradient came from the data. For that there is the enclave's attestation only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeAlias

from anchor import Anchor, Head
from consumers.audit.collect import Collected, Finding
from consumers.audit.log_checks import (
    check_checkpoints,
    check_classes,
    check_ledger,
    check_live_anchors,
    check_receipts,
    held_by,
)
from consumers.audit.outcome import Audit, Status
from consumers.audit.proofs import Verdict
from consumers.audit.rates import rates, rates_in_words
from consumers.audit.sampled import check_records, check_terms, needed, sampling_of
from consumers.audit.spot import Spot
from consumers.audit.witnessed import check_witnesses
from ledger.chain import RunChain
from schemas.events import StepCommitted, StepProven
from zk_autograd.errors import VerificationError, ZkAutogradError
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit, Commitments

_NAMED = 20
"""So many missing proofs of a step are named."""

VerifyAll: TypeAlias = Callable[[Circuit, Sequence[tuple[bytes, tuple[int, ...]]]], list[Verdict]]


def audit(
    found: Collected, run_id: bytes, policy: Policy, find_circuit: Callable[[bytes], Circuit], verify_all: VerifyAll,
    live: Sequence[Anchor], origin: str | None = None, held: Sequence[Head | None] | None = None,
    epoch: int | None = None, spot: Spot | None = None,
) -> Audit:  # fmt: skip
    """All checks over what was collected for ``run_id``.

    Args:
        policy: the auditor's own; with ``first_use`` keys and circuits are the log's.
        live: anchors to ask now (check 10).
        origin: the log's expected name; None takes the first checkpoint's.
        held: what each of ``live`` held before the log was read (:func:`held_by`); None asks them now, which is right
            for a log that nobody writes to.
        epoch: verify the proofs of this epoch only; everything else is checked over the whole run.
        spot: verify these proofs only, and hold the others to their place: never sound.
    Raises:
        UsageError: the run has no such epoch.
    """
    out = Audit(run_id, refused=found.refused, epoch=epoch, spot=spot)
    # 2
    _start(out, found, policy, find_circuit)
    # 3 and 4
    _chain(out, found)
    sampling = out.sampling = sampling_of(out, found)
    # 5 and 6
    accepted = _proofs(out, found, verify_all)
    # 7
    tree = check_ledger(out, found, accepted)
    check_records(out, found, sampling)
    # 8
    check_checkpoints(out, found, tree, origin)
    check_witnesses(out, found, tree, policy)
    # 9
    check_receipts(out, found, tree, policy)
    # 10
    if found.ring.keys:
        check_live_anchors(out, live, tree, held_by(live) if held is None else held)
    else:  # what an anchor holds cannot be compared with a ledger of which nothing is accepted
        out.unchecked(10, "the policy accepts no key of this log (roots, evidence_classes)")
    # 11
    check_classes(out, found, policy)
    check_terms(out, sampling, policy)
    # 0 and 1
    _noise(out, found)
    return out


def _noise(out: Audit, found: Collected) -> None:
    """What could not be read or has no accepted signature: a finding if something else does not hold, else a doubt."""
    out.noise, violated = [finding.text for finding in found.noise], out.violations
    counts = ((found.refused, "known as refused"), (found.repeated, "repeated"))
    out.checks[0].detail = ", ".join([f"{found.records} records", *(f"{n} {what}" for n, what in counts if n)])
    out.checks[1].detail = f"{len(found.used_keys)} keys"
    for number, what in ((0, "do not decode"), (1, "have no accepted signature")):
        texts = [finding.text for finding in found.noise if finding.check == number]
        if violated:
            for text in texts:
                out.violated(number, text)
        elif texts:
            out.unchecked(number, f"{len(texts)} record(s) that {what}: a stranger's, or damaged since ({texts[0]})")
            out.checks[number].findings = texts


def _start(out: Audit, found: Collected, policy: Policy, find_circuit: Callable[[bytes], Circuit]) -> None:
    if found.start is None:
        entered = any(o.event.run_id == out.run_id for o in found.ledger)
        if found.chain or found.proofs or entered:
            out.violated(2, "the run's start is not in the log, although other records name the run")
        else:  # what no accepted key signed accuses nobody
            out.unchecked(2, "no record of the run is signed by a key that the policy accepts")
        for number in (3, 4, 5, 6, 7):
            out.unchecked(number, "no run start")
        return
    start = found.start.event
    if policy.circuits is not None and start.circuit_id not in policy.circuits:
        out.violated(2, f"circuit {start.circuit_id.hex()} is not one that the policy allows (circuits)")
    try:
        out.circuit = find_circuit(start.circuit_id)
    except ZkAutogradError as error:  # it is the auditor's own copy that is missing or damaged
        out.unchecked(2, str(error))
    if out.circuit is not None:
        try:
            out.chain = RunChain(found.start, out.circuit)
        except VerificationError as error:
            out.violated(2, str(error))
    if out.chain is None:
        for number in (3, 4, 5, 6, 7):
            out.unchecked(number, "the run's circuit is not at hand")
        return
    out.checks[
        2
    ].detail = (
        f"{start.optimizer}, {start.shards} shard(s) of {start.shard_size}, circuit {start.circuit_id.hex()[:12]}"
    )


def _chain(out: Audit, found: Collected) -> None:
    chain = out.chain
    if chain is None:
        return
    for opened in found.chain:
        try:
            chain.check_link(opened)
        except VerificationError as error:
            out.violated(3, str(error))
            continue
        if isinstance(opened.event, StepCommitted):
            try:
                chain.check_public(opened.event)
            except VerificationError as error:
                out.violated(4, str(error))
        chain.append(opened)
    if not chain.steps:
        out.unchecked(3, "no step was committed yet")
        return
    state = "finished" if chain.finished else "still open"
    out.checks[3].detail = f"{len(chain.steps)} steps, {state}"
    out.checks[4].detail = rates_in_words(rates(chain))


def _wanted(out: Audit, step: int, shard: int) -> bool:
    """Whether a proof of this shard counts: of a sampled run, only those of shards that were drawn."""
    return out.sampling is None or (step in out.sampling.draws and shard in out.sampling.draws[step])


def _unverified(circuit: Circuit, proof: bytes) -> Verdict:
    """What a proof says it is about, for a spot check that does not verify it."""
    if len(proof) != circuit.proof_bytes:
        return Verdict(None, f"proof: expected {circuit.proof_bytes} bytes, got {len(proof)}")
    return Verdict(Commitments.first_in(proof, circuit.statement))


def _proofs(out: Audit, found: Collected, verify_all: VerifyAll) -> dict[int, list[list[bytes]]]:
    """Checks 5 and 6; returns per fully proven step, and in shard order, the ids of each shard's valid proofs."""
    chain, circuit = out.chain, out.circuit
    if chain is None or circuit is None:
        return {}
    entered = {o.event.step for o in found.ledger if isinstance(o.event, StepProven) and o.event.run_id == out.run_id}
    wanted, shards = out.steps, chain.start.shards
    # A start may declare a million shards: nothing here grows with what is declared, only with what is there.
    slots = sorted((t, s) for t, s in found.proofs if t in wanted and 0 <= s < shards and _wanted(out, t, s))
    candidates = []
    refused: dict[tuple[int, int], Finding] = {}
    for slot in slots:
        for opened in found.proofs[slot]:
            if opened.event.circuit_id == circuit.id and opened.event.proof_system == circuit.system:
                candidates.append((slot, opened))
            else:
                text = f"step {slot[0]}, shard {slot[1]}: proof of another circuit than the run's"
                refused.setdefault(slot, Finding(5, text))
    there = list(dict.fromkeys(slot for slot, _ in candidates))
    picked = frozenset(there) if out.spot is None else out.spot.pick(there)
    jobs = [(p.event.proof, chain.public_of(*slot)) for slot, p in candidates]
    # Anyone with a prover's key can say the same again in another event.
    once = list(dict.fromkeys(job for (slot, _), job in zip(candidates, jobs, strict=True) if slot in picked))
    verdict_of = dict(zip(once, verify_all(circuit, once), strict=True))
    out.proofs_verified = len(once)
    accepted: dict[int, dict[int, list[bytes]]] = defaultdict(dict)
    unknown: set[int] = set()
    for (slot, opened), job in zip(candidates, jobs, strict=True):
        (step, shard), verdict = slot, verdict_of[job] if slot in picked else _unverified(circuit, job[0])
        where = f"step {step}, shard {shard}"
        if not verdict.checked:
            out.unchecked(5, f"{where}: {verdict.reason}")
            unknown.add(step)
        elif verdict.commitments is None:
            number = 6 if "public integers" in verdict.reason else 5
            refused.setdefault(slot, Finding(number, f"{where}: {verdict.reason}"))
        else:
            try:
                chain.check_place(opened.event, verdict.commitments)
                accepted[step].setdefault(shard, []).append(opened.event_id)
            except VerificationError as error:
                refused.setdefault(slot, Finding(6, str(error)))
    steps: dict[int, list[list[bytes]]] = {}
    for step in wanted:
        row, those = accepted[step], needed(out, out.sampling, step)
        if those and len(row) == len(those):
            steps[step] = [row[shard] for shard in those]
        elif step in entered and step not in unknown:
            for shard in islice((s for s in those if s not in row), _NAMED):
                finding = refused.get((step, shard)) or Finding(
                    5, f"step {step}, shard {shard}: the ledger calls it proven, but there is no proof in the log"
                )
                out.violated(finding.check, finding.text)
    out.proven, out.accepted = len(steps), steps
    waiting = sum(step not in entered for step in wanted)
    proven = sum(map(len, accepted.values()))
    if len(picked) < len(there):
        out.unchecked(5, f"{len(picked)} of {len(there)} proofs were verified, and none of these is false")
    out.checks[6].detail = f"{chain.statement.name} state, gradient and public integers of {proven} shard(s)"
    if out.checks[5].status is not Status.UNCHECKED:
        out.checks[5].detail = f"{proven} of {len(wanted) * (chain.start.sampled or shards)} shard proofs"
    if waiting > 0:
        out.unchecked(
            5, f"{waiting} step(s) have no ledger entry yet: wait for zk-prove and zk-ledger, then audit again"
        )
        if refused:
            out.checks[5].detail += f"; {next(iter(refused.values())).text}"
    return steps
