"""The ledger's rule as a pure fold: events in, entries out, in an order that everyone can replay.

* A run is opened by the first valid RunStarted that names a circuit known here.
* Steps follow in chain order; what does not follow is refused.
* A shard of a step is proven by the first proof in topic order that verifies and belongs to the step's roots.
* A step enters when all its shards are proven and the step before it has entered; each once.
* In a sampled run a step is first recorded, once fewer than the run's window are recorded beyond the last that entered.
  The first receipt of the run's beacon that covers the record draws the shards that are to be proven, and no other
  shard's proof is taken.
* An epoch closes after its last step.
* The end enters after the last step.

No clock, no network, no disk: verifying a proof and finding a circuit are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ledger.chain import RunChain
from ledger.entries import NO_CHALLENGE, Entry, leaf_data, run_closed, run_opened, step_proven
from ledger.epochs import ends_epoch, epoch_closed
from ledger.frontier import Frontier
from ledger.sampling import Beacon, Draw, Receipt
from schemas.events import (
    EnclaveAttested,
    EpochClosed,
    ProofAttached,
    RunClosed,
    RunFinished,
    RunStarted,
    StepCommitted,
    StepProven,
    StepRecorded,
)
from schemas.signing import Opened
from zk_autograd.errors import VerificationError
from zk_autograd.proofs.base import Circuit, Commitments

FindCircuit: TypeAlias = Callable[[bytes], Circuit]
VerifyProof: TypeAlias = Callable[[Circuit, bytes, tuple[int, ...]], Commitments]
CheckBeacon: TypeAlias = Callable[[str], None]
KEPT = 256
"""Steps that are kept after they entered, so that a late copy or fork is refused with its reason."""


def no_beacon(identity: str) -> None:
    """Takes no beacon: for a ledger that takes no sampled runs."""
    raise VerificationError(f"beacon {identity[:80]}: this ledger takes no sampled runs")


@dataclass
class _Run:
    chain: RunChain
    entered: int = 0
    closed: bool = False
    proofs: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """step -> shard -> proof event id, for steps that have not entered."""
    epoch: Frontier = field(default_factory=Frontier)
    """Over the entries of the open epoch's steps."""
    leaves: dict[int, int] = field(default_factory=dict)
    """step -> index of its StepRecorded, for steps that have not entered."""
    drawn: dict[int, Draw] = field(default_factory=dict)
    """step -> its draw, where one was asked for, for steps that have not entered."""

    @property
    def recorded(self) -> int:
        """Steps that are recorded."""
        return self.entered + len(self.leaves)


@dataclass(frozen=True, slots=True)
class Ended:
    """What is kept of a run that is closed."""

    key_id: bytes
    steps: int

    def refuse(self, opened: Opened[StepCommitted | RunFinished]) -> None:
        """Raises VerificationError: nothing follows a run's end."""
        event = opened.event
        what = f"step {event.step}" if isinstance(event, StepCommitted) else "the end"
        why = (
            "comes after the run's end"
            if opened.key_id == self.key_id
            else "signed by another key than the run's start"
        )
        raise VerificationError(f"run {event.run_id.hex()[:12]}, {what}: {why}")


@dataclass
class _Replayed:
    """What the log holds of a run already."""

    entered: int = 0
    closed: bool = False
    epoch: Frontier = field(default_factory=Frontier)
    leaves: dict[int, int] = field(default_factory=dict)


class Fold:
    """All runs of one log.

    Args:
        find_circuit: the circuit with an id; raises a ZkAutogradError if it is not to be had or not allowed.
        verify: verifies a proof against public integers; raises VerificationError.
        check_beacon: raises VerificationError for an anchor (by identity) that may not draw a sampled run's shards.
    """

    def __init__(self, find_circuit: FindCircuit, verify: VerifyProof, check_beacon: CheckBeacon = no_beacon) -> None:
        self._find, self._verify, self._check_beacon = find_circuit, verify, check_beacon
        self._beacons: dict[str, Beacon] = {}
        self._size = 0  # of the log
        self._runs: dict[bytes, _Run] = {}
        self._ended: dict[bytes, Ended] = {}
        self._sampled = False  # whether there was a sampled run
        self._replayed: dict[bytes, _Replayed] = {}

    def replay(self, entry: Entry) -> None:
        """Takes an entry that is in the log already, before the events that led to it.

        The proofs are not verified again.
        """
        run = self._runs.get(entry.run_id) or self._replayed.setdefault(entry.run_id, _Replayed())
        if isinstance(entry, StepRecorded):
            run.leaves[entry.step] = self._size
        elif isinstance(entry, StepProven):
            run.entered = entry.step
            run.leaves.pop(entry.step, None)
            if isinstance(run, _Replayed) or run.chain.start.epoch_steps:
                run.epoch.append(leaf_data(entry))
            if isinstance(run, _Run):
                run.proofs.pop(entry.step, None)
                run.drawn.pop(entry.step, None)
        elif isinstance(entry, EpochClosed):
            run.epoch = Frontier()
        run.closed = isinstance(entry, RunClosed)
        self._size += 1

    @property
    def draws(self) -> bool:
        """Whether a sampled run is there, so that receipts matter: all of them, from the first on."""
        return self._sampled

    def receipt(self, facts: Receipt) -> None:
        """Takes an anchor's receipt that has been verified, and of which the root is this log's.

        Raises:
            VerificationError: it does not continue that anchor's receipts; the fold is as before.
        """
        if facts.anchor not in self._beacons:
            beacon = Beacon(facts.anchor)
            beacon.take(facts)
            self._beacons[facts.anchor] = beacon
        else:
            self._beacons[facts.anchor].take(facts)

    @property
    def waiting(self) -> int:
        """Committed steps that have not entered yet, over all runs."""
        return sum(len(r.chain.steps) - r.entered for r in self._runs.values())

    def start_of(self, run_id: bytes) -> RunStarted | None:
        """What an open run has declared."""
        run = self._runs.get(run_id)
        return run.chain.start if run else None

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
        if event.run_id in self._ended:
            self._ended[event.run_id].refuse(opened)  # type: ignore[arg-type]
        run = self._run(event.run_id)
        run.chain.check_link(opened)  # type: ignore[arg-type]
        if isinstance(event, StepCommitted):
            run.chain.check_public(event)
        run.chain.append(opened)  # type: ignore[arg-type]
        return self._advanced(run)

    def proof_event(self, opened: Opened[ProofAttached]) -> list[Entry]:
        """Folds an event of the topic ``proofs`` whose signature has been checked; returns the entries it completes.

        Raises:
            VerificationError: the proof is refused; the fold is as before.
        """
        proof = opened.event
        ended = self._ended.get(proof.run_id)
        if ended is not None and proof.step <= ended.steps:
            return []
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
                f"run {chain.name}, step {proof.step}, shard {proof.shard}: no such step or shard "
                f"(shards {chain.start.shards})"
            )
        if chain.start.sampled:
            drawn = self._draw(run, proof.step)
            where = f"run {chain.name}, step {proof.step}, shard {proof.shard}"
            if drawn is None:
                raise VerificationError(f"{where}: proven before its step's shards were drawn")
            if proof.shard not in drawn:
                raise VerificationError(f"{where}: not one of the shards that were drawn")
        found = self._verify(chain.circuit, proof.proof, chain.public_of(proof.step, proof.shard))
        chain.check_place(proof, found)
        run.proofs.setdefault(proof.step, {})[proof.shard] = opened.event_id
        return self._advanced(run)

    def _run(self, run_id: bytes) -> _Run:
        try:
            return self._runs[run_id]
        except KeyError:
            name = f"run {run_id.hex()[:12]}"
            if run_id in self._ended:
                raise VerificationError(f"{name}: it ended after {self._ended[run_id].steps} steps") from None
            raise VerificationError(f"{name}: no such run has started") from None

    def _start(self, opened: Opened[RunStarted]) -> list[Entry]:
        if opened.event_id in self._runs or opened.event_id in self._ended:
            raise VerificationError(f"run {opened.event_id.hex()[:12]}: started twice")
        chain = RunChain(opened, self._find(opened.event.circuit_id))
        if chain.start.sampled:
            self._check_beacon(chain.start.beacon)
            self._sampled = True
        was = self._replayed.pop(opened.event_id, None)
        if was is None:
            self._runs[opened.event_id] = _Run(chain)
            return self._appended([run_opened(chain)])
        epoch = was.epoch if chain.start.epoch_steps else Frontier()
        self._runs[opened.event_id] = _Run(chain, was.entered, was.closed, epoch=epoch, leaves=was.leaves)
        return []

    def _appended(self, entries: list[Entry]) -> list[Entry]:
        self._size += len(entries)
        return entries

    def _draw(self, run: _Run, step: int) -> Draw | None:
        """What has been drawn of a step that has not entered; None if it is not recorded or not drawn yet."""
        start, leaf, beacon = run.chain.start, run.leaves.get(step), self._beacons.get(run.chain.start.beacon)
        if step not in run.drawn and leaf is not None and beacon is not None:
            event_id = run.chain.steps[step - 1].event_id
            found = beacon.draw(leaf, run.chain.run_id, step, event_id, start.sampled, start.shards)
            if found is not None:
                run.drawn[step] = found
        return run.drawn.get(step)

    def _record(self, run: _Run) -> list[Entry]:
        """The records of a sampled run's steps for which there is room in its window."""
        chain, out = run.chain, list[Entry]()
        if chain.start.sampled:
            while run.recorded < min(len(chain.steps), run.entered + chain.start.window):
                step = run.recorded + 1
                run.leaves[step] = self._size
                out += self._appended([StepRecorded(chain.run_id, step, chain.steps[step - 1].event_id)])
        return out

    def _advanced(self, run: _Run) -> list[Entry]:
        """What has become complete; of what entered, no more is kept than is needed."""
        out, chain = self._advance(run), run.chain
        chain.forget(min(run.entered, len(chain.steps)) - KEPT)
        if run.closed and chain.finished is not None and run.entered == len(chain.steps):
            self._ended[chain.run_id] = Ended(chain.key_id, run.entered)
            del self._runs[chain.run_id]
        return out

    def _advance(self, run: _Run) -> list[Entry]:
        out: list[Entry] = self._record(run)
        chain, size = run.chain, run.chain.start.sampled or run.chain.start.shards
        while run.entered < len(chain.steps):
            proofs = run.proofs.get(run.entered + 1, {})
            if len(proofs) < size:
                return out
            run.entered += 1
            del run.proofs[run.entered]
            run.leaves.pop(run.entered, None)
            seed = run.drawn.pop(run.entered).seed if chain.start.sampled else NO_CHALLENGE
            entry = step_proven(chain, run.entered, [proofs[i] for i in sorted(proofs)], seed)
            out += self._appended([entry])
            if chain.start.epoch_steps:
                run.epoch.append(leaf_data(entry))
            out += self._close_epoch(run) + self._record(run)
        out += self._close_epoch(run)  # a short one, if the run's end came after its last proof
        if chain.finished is not None and not run.closed and run.entered == chain.finished.event.steps:
            run.closed = True
            out += self._appended([run_closed(chain)])
        return out

    def _close_epoch(self, run: _Run) -> list[Entry]:
        # After a restart the steps of entries that are there already come again, one by one.
        if not run.epoch.size or run.entered > len(run.chain.steps) or not ends_epoch(run.chain, run.entered):
            return []
        entry = epoch_closed(run.chain, run.entered, run.epoch)
        run.epoch = Frontier()
        return self._appended([entry])
