"""One run's chain of events, checked link by link. Pure: the ledger folds with it, the auditor replays with it.

Order: RunStarted, then StepCommitted 1, 2, 3 …, then at most one RunFinished. Every event names the id of the one
before it, and all are signed by the key that signed the start.
"""

from __future__ import annotations

from schemas.events import ProofAttached, RunFinished, RunStarted, StepCommitted
from schemas.signing import Opened
from zk_autograd.errors import FormatError, VerificationError
from zk_autograd.fixed_point import Format
from zk_autograd.merkle import verify_inclusion
from zk_autograd.proofs.base import Circuit, Commitments
from zk_autograd.schedule import Schedule
from zk_autograd.statement import Public

MAX_SHARDS = 1 << 20


class RunChain:
    """The events of one run so far.

    Attributes:
        run_id: id of the RunStarted event.
        start: that event.
        steps: the StepCommitted events in order; ``steps[i]`` is step ``i + 1``.
        finished: the RunFinished event, once there.
    """

    def __init__(self, opened: Opened[RunStarted], circuit: Circuit) -> None:
        """Raises VerificationError if the start is not about ``circuit`` or declares what no step could follow."""
        start = opened.event
        self.run_id, self.start, self.key_id, self.circuit = opened.event_id, start, opened.key_id, circuit
        self.steps: list[Opened[StepCommitted]] = []
        self.finished: Opened[RunFinished] | None = None
        self._head = opened.event_id
        declared = (
            start.circuit_id,
            start.proof_system,
            start.optimizer,
            start.shard_size,
            start.srs_id,
            start.srs_class,
        )
        found = (circuit.id, circuit.system, circuit.statement.name, circuit.shard, circuit.srs_id, circuit.srs_class)
        for name, a, b in zip(
            ("id", "system", "optimizer", "shard size", "SRS", "SRS class"), declared, found, strict=True
        ):
            if a != b:
                raise VerificationError(
                    f"run {self.name}: the circuit's {name} differs from the one its start declares"
                )
        try:
            self.statement = circuit.statement
            self.format = Format(start.scale_w, start.scale_g, start.guard, start.clip)
            self.schedule = Schedule(start.schedule_kind.value.lower(), start.schedule, start.max_lr)
            self.hyper = {h.name: h.value for h in start.hyper}
            if set(self.hyper) != set(self.statement.defaults):
                raise FormatError(
                    f"hyper-parameters: expected {sorted(self.statement.defaults)}, got {sorted(self.hyper)}"
                )
            self.statement.check_hyper(self.hyper)
            self.statement.check_rate(start.max_lr, self.format, circuit.P)
        except FormatError as error:
            raise VerificationError(f"run {self.name}: its start declares what cannot be: {error}") from None
        if not 1 <= start.shards <= MAX_SHARDS:
            raise VerificationError(f"run {self.name}: expected 1 to {MAX_SHARDS} shards, got {start.shards}")

    @property
    def name(self) -> str:
        """Short form of the run id for messages."""
        return self.run_id.hex()[:12]

    def check_link(self, opened: Opened[StepCommitted | RunFinished]) -> None:
        """The event is the chain's next one.

        1. signed by the run's own key; 2. the run is not finished; 3. it names the last event;
        4. steps count up by one; a RunFinished repeats the last step's number and state.

        Raises:
            VerificationError: says whether it is a repeat, a fork, or a gap.
        """
        event = opened.event
        what = f"step {event.step}" if isinstance(event, StepCommitted) else "the end"
        where = f"run {self.name}, {what}"
        # 1. key
        if opened.key_id != self.key_id:
            raise VerificationError(f"{where}: signed by another key than the run's start")
        # 2. open
        if self.finished is not None:
            raise VerificationError(f"{where}: comes after the run's end")
        # 3. predecessor
        if event.previous != self._head:
            if any(opened.event_id == s.event_id for s in self.steps):
                raise VerificationError(f"{where}: repeated")
            known = {self.run_id, *(s.event_id for s in self.steps)}
            kind = "forks the chain" if event.previous in known else "leaves a gap"
            raise VerificationError(
                f"{where}: {kind}: expected predecessor {self._head.hex()[:12]}, got {event.previous.hex()[:12]}"
            )
        # 4. count
        if isinstance(event, StepCommitted):
            if event.step != len(self.steps) + 1:
                raise VerificationError(f"{where}: expected step {len(self.steps) + 1}")
        elif event.steps != len(self.steps) or event.state_root != self.state_root(event.steps):
            raise VerificationError(
                f"{where}: names {event.steps} steps, {len(self.steps)} are there, or another state"
            )

    def check_public(self, event: StepCommitted) -> None:
        """Rate and public integers are those that the start declared.

        Raises:
            VerificationError: names the first integer that is off, with both values.
        """
        where = f"run {self.name}, step {event.step}"
        try:
            self.schedule.check(event.step, event.lr)
            expected = self.public_integers(event.step, event.lr)
        except (VerificationError, FormatError) as error:
            raise VerificationError(f"{where}: {error}") from None
        vector = self.statement.public_vector(expected)
        if list(event.public) != vector:
            names = self.statement.public
            off = next((i for i, (a, b) in enumerate(zip(event.public, vector, strict=False)) if a != b), None)
            detail = (
                f"{names[off]} is {event.public[off]}, expected {vector[off]}"
                if off is not None
                else f"expected {len(vector)} integers, got {len(event.public)}"
            )
            raise VerificationError(f"{where}: public integers off their schedule: {detail}")

    def public_integers(self, step: int, lr: float) -> Public:
        """The integers that the start's declaration gives for a step at rate ``lr``."""
        return self.statement.public_integers(self.hyper, lr, step, self.format, self.circuit.P)

    def check_place(self, proof: ProofAttached, found: Commitments) -> None:
        """A verified proof belongs where it says.

        1. it is about this run's circuit, under its proof system, a committed step and one of its shards;
        2. the state it starts from is the shard's in the state root before the step;
        3. the state it ends in is the shard's in the step's state root;
        4. gradient and hints are the shard's in the step's work root.

        Raises:
            VerificationError: names what does not belong.
        """
        step, shard, size = proof.step, proof.shard, self.start.shards
        where = f"run {self.name}, step {step}, shard {shard}"
        # 1. address
        named = (proof.run_id, proof.circuit_id, proof.proof_system)
        if named != (self.run_id, self.start.circuit_id, self.start.proof_system):
            raise VerificationError(f"{where}: proof of another run, circuit or proof system")
        if not 1 <= step <= len(self.steps) or not 0 <= shard < size:
            raise VerificationError(f"{where}: no such step or shard (steps {len(self.steps)}, shards {size})")
        # 2. to 4. roots
        for what, point, path, root in (
            ("state before", found.pre, proof.pre_path, self.state_root(step - 1)),
            ("state after", found.post, proof.post_path, self.state_root(step)),
            ("gradient and hints", found.work, proof.work_path, self.steps[step - 1].event.work_root),
        ):
            try:
                verify_inclusion(point, shard, size, path, root)
            except VerificationError:
                raise VerificationError(f"{where}: the proof's {what} is not the one the step committed to") from None

    def append(self, opened: Opened[StepCommitted | RunFinished]) -> None:
        """Takes an event that the checks have passed."""
        if isinstance(opened.event, RunFinished):
            self.finished = opened  # type: ignore[assignment]
        else:
            self.steps.append(opened)  # type: ignore[arg-type]
        self._head = opened.event_id

    def state_root(self, step: int) -> bytes:
        """The state root after ``step``; step 0 is the genesis."""
        return self.start.state_root if step == 0 else self.steps[step - 1].event.state_root
