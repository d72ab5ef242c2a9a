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

from collections.abc import Callable, Iterator, Sequence

from anchor import Anchor, Head
from consumers.audit.anchor_checks import check_classes, check_live_anchors, check_receipts, held_by
from consumers.audit.collected import Collected
from consumers.audit.kept_chain import KeptSteps
from consumers.audit.log_checks import check_checkpoints, check_ledger
from consumers.audit.outcome import Audit
from consumers.audit.rates import Rates, rates_in_words
from consumers.audit.sampled import check_records, check_terms, sampling_of
from consumers.audit.spot import Spot
from consumers.audit.statistics import Gradients
from consumers.audit.step_proofs import VerifyAll, check_proofs
from consumers.audit.stretch import Stretch
from consumers.audit.witnessed import check_witnesses
from consumers.audit.workers import Later, Workers
from ledger.chain import RunChain
from schemas.events import RunFinished, StepCommitted
from schemas.signing import Opened
from zk_autograd.errors import VerificationError, ZkAutogradError
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit

_CHUNK = 512


def audit(
    found: Collected, run_id: bytes, policy: Policy, find_circuit: Callable[[bytes], Circuit], verify_all: VerifyAll,
    live: Sequence[Anchor], origin: str | None = None, held: Sequence[Head | None] | None = None,
    epoch: int | None = None, spot: Spot | None = None, workers: Workers | None = None,
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
        workers: where rates and integers are computed; None means here.
    Raises:
        UsageError: the run has no such epoch.
    """
    out = Audit(run_id, refused=found.refused, epoch=epoch, spot=spot, signatures=found.mode)
    # 2
    _start(out, found, policy, find_circuit)
    # 3 and 4
    _chain(out, found, workers or Workers(0))
    sampling = out.sampling = sampling_of(out, found)
    # 5 and 6
    check_proofs(out, found, verify_all)
    # 7
    tree = check_ledger(out, found)
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
    noise, violated = found.noise, out.violations
    out.noise = [finding.text for finding in noise]
    out.noise += [f"and {count} more" for count in (found.unaccepted.more.total(),) if count]
    counts = ((found.refused, "known as refused"), (found.repeated, "repeated"))
    out.checks[0].detail = ", ".join([f"{found.records} records", *(f"{n} {what}" for n, what in counts if n)])
    out.checks[1].detail = f"{len(found.used_keys)} keys"
    for number, what in ((0, "do not decode"), (1, "have no accepted signature")):
        texts, more = [finding.text for finding in noise if finding.check == number], found.unaccepted.more[number]
        if violated:
            for text in texts:
                out.violated(number, text)
        elif texts:
            count = len(texts) + more
            out.unchecked(number, f"{count} record(s) that {what}: a stranger's, or damaged since ({texts[0]})")
            out.checks[number].findings = texts
        out.checks[number].more += more


def _start(out: Audit, found: Collected, policy: Policy, find_circuit: Callable[[bytes], Circuit]) -> None:
    if found.start is None:
        if found.chain or found.proofs or found.ledger.own:
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


def _chain(out: Audit, found: Collected, workers: Workers) -> None:
    chain = out.chain
    if chain is None:
        return
    chain.steps = steps = KeptSteps(found.chain)
    gradients, rates = Gradients(chain.start), Rates(chain)
    for places, stretch in _stretches(found, chain, workers):
        steps.place = places.start
        if stretch is not None and not chain.changes and chain.goes_on(stretch.previous, stretch.first):
            steps.extend(stretch)
            chain.follow(stretch.head)
            gradients.extend(stretch)
            for lrs in stretch.rates:
                rates.add(lrs)
            places = places[len(stretch) :]
        for place in places:
            steps.place = place
            _event(out, chain, found.chain[place], gradients, rates)
    out.gradients = gradients.facts()
    if not chain.steps:
        out.unchecked(3, "no step was committed yet")
        return
    state = "finished" if chain.finished else "still open"
    out.checks[3].detail = f"{len(chain.steps)} steps, {state}"
    out.rates = rates.facts()
    out.checks[4].detail = rates_in_words(out.rates)


def _event(
    out: Audit, chain: RunChain, opened: Opened[StepCommitted | RunFinished], gradients: Gradients, rates: Rates
) -> None:
    """3 and 4 of one event."""
    event = opened.event
    try:
        chain.check_link(opened)
    except VerificationError as error:
        out.violated(3, str(error))
        return
    if isinstance(event, StepCommitted):
        try:
            chain.check_public(event)
        except VerificationError as error:
            out.violated(4, str(error))
        gradients.add(event)
    chain.append(opened)
    if isinstance(event, StepCommitted):
        if event.shifts:
            rates.rescale()
        rates.add(event.rates)


def _stretches(found: Collected, chain: RunChain, workers: Workers) -> Iterator[tuple[range, Stretch | None]]:
    """The places of the run's events, some at a time, and what these begin with."""
    events = found.chain

    def begun() -> Iterator[tuple[range, Later[Stretch | None]]]:
        for start in range(0, len(events), _CHUNK):
            places = range(start, min(start + _CHUNK, len(events)))
            # After a change of scale, what follows is this chain's to compute.
            values = [] if chain.changes else [events.value(at) for at in places]
            yield places, workers.stretch(chain.opened, chain.circuit, values)

    for places, later in workers.ahead(begun()):
        yield places, later()
