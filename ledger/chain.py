"""One run's chain of events, checked link by link. Pure: the ledger folds with it, the auditor replays with it.

Order: RunStarted, then StepCommitted 1, 2, 3 …, then at most one RunFinished. Every event names the id of the one
before it, and all are signed by the key that signed the start.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from ledger.steps import Steps
from schemas.events import Block, Group, ProofAttached, RunFinished, RunStarted, StepCommitted
from schemas.signing import Opened
from zk_autograd.errors import FormatError, VerificationError
from zk_autograd.fixed_point import Format
from zk_autograd.merkle import verify_inclusion
from zk_autograd.proofs.base import Circuit, Commitments
from zk_autograd.rates import check_schedule, check_step
from zk_autograd.schedule import Schedule
from zk_autograd.statement import UNCHANGED, Resolution, place_in

MAX_SHARDS = 1 << 20

MAX_SAMPLED = 4096
"""Most shards of a step that a sampled run can have drawn: everyone has to draw and to remember them."""

Scale: TypeAlias = tuple[Format, Resolution]
"""A block's format, and how coarsely its state was recorded."""


@dataclass(frozen=True)
class GroupRule:
    """What a parameter group declares: hyper-parameters by name, and its schedule."""

    hyper: dict[str, float]
    schedule: Schedule


def begins_epoch(step: int, epoch_steps: int) -> bool:
    """Whether a step is the first of an epoch, but not of the run."""
    return epoch_steps > 0 and step > 1 and (step - 1) % epoch_steps == 0


class RunChain:
    """The events of one run so far.

    Attributes:
        run_id: id of the RunStarted event.
        start: that event; ``opened``: as it came.
        groups: its parameter groups' rules.
        formats: the fixed-point format of each of its blocks before the first step; see :meth:`formats_after`.
        steps: the StepCommitted events in order; ``steps[i]`` is step ``i + 1``. Only :meth:`forget` forgets any.
        changes: of the steps those that changed scales.
        finished: the RunFinished event, once there.
    """

    def __init__(self, opened: Opened[RunStarted], circuit: Circuit) -> None:
        """Raises VerificationError if the start is not about ``circuit`` or declares what no step could follow."""
        start = opened.event
        self.opened, self.start, self.circuit = opened, start, circuit
        self.run_id, self.key_id = opened.event_id, opened.key_id
        self.steps = Steps()
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
        self.statement = circuit.statement
        try:
            self.groups = tuple(self._group(group) for group in start.groups)
            self.formats = tuple(self._format(block) for block in start.blocks)
        except FormatError as error:
            raise VerificationError(f"run {self.name}: its start declares what cannot be: {error}") from None
        self._check_layout(start)
        tables = [len(group.schedule.values) for group in self.groups if group.schedule.kind == "table"]
        self._tabled = min(tables, default=sys.maxsize)
        """The last step to which every table goes."""
        try:
            for block in start.blocks:
                self.statement.check_block(self.groups[block.group].hyper, block.shards, circuit.P)
        except FormatError as error:
            raise VerificationError(f"run {self.name}: its start declares what cannot be: {error}") from None
        self._changes: list[tuple[int, tuple[Scale, ...]]] = [(0, tuple((fmt, UNCHANGED) for fmt in self.formats))]
        self.changes: list[Opened[StepCommitted]] = []
        self._ends = list(accumulate(block.shards for block in start.blocks))

    def _group(self, group: Group) -> GroupRule:
        hyper = {h.name: h.value for h in group.hyper}
        if set(hyper) != set(self.statement.defaults):
            raise FormatError(f"hyper-parameters: expected {sorted(self.statement.defaults)}, got {sorted(hyper)}")
        self.statement.check_hyper(hyper)
        return GroupRule(hyper, Schedule(group.schedule_kind.value.lower(), group.schedule, group.max_lr))

    def _format(self, block: Block) -> Format:
        if block.group >= len(self.groups):
            raise FormatError(f"a block of group {block.group}, there are {len(self.groups)}")
        fmt = Format(block.scale_w, block.scale_g, block.guard, block.clip)
        check_schedule(self.statement, self.groups[block.group].schedule, fmt, self.circuit.P)
        return fmt

    def _check_layout(self, start: RunStarted) -> None:
        """Raises VerificationError unless groups, blocks, shards and sampling fit each other."""
        where = f"run {self.name}: its start declares"
        order = [block.group for block in start.blocks]
        if order != sorted(order) or set(order) != set(range(len(start.groups))):
            raise VerificationError(f"{where} blocks of groups {order[:20]}, expected each of its groups, in order")
        total = sum(block.shards for block in start.blocks)
        if not start.shards == total <= MAX_SHARDS:
            raise VerificationError(
                f"{where} {start.shards} shards, its blocks have {total}, expected at most {MAX_SHARDS}"
            )
        if start.sampled > MAX_SAMPLED:
            raise VerificationError(f"{where} {start.sampled} shards sampled, expected at most {MAX_SAMPLED}, or all")
        # A run is sampled, by a beacon and within a window, or it is not, and has neither.
        if not (bool(start.sampled) == bool(start.beacon) == bool(start.window) and start.sampled <= start.shards):
            raise VerificationError(
                f"{where} {start.sampled} of {start.shards} shards sampled, beacon {start.beacon[:80]!r}, "
                f"window {start.window}: these do not go together"
            )

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
        # 1. key
        if opened.key_id != self.key_id:
            raise self._refusal(event, "signed by another key than the run's start")
        # 2. open
        if self.finished is not None:
            raise self._refusal(event, "comes after the run's end")
        # 3. predecessor
        if event.previous != self._head:
            if self.steps.holds(opened.event_id):
                raise self._refusal(event, "repeated")
            if isinstance(event, StepCommitted) and event.step <= self.steps.forgotten:
                raise self._refusal(event, "repeated, or forks the chain: this step entered long ago")
            known = event.previous == self.run_id or self.steps.holds(event.previous)
            kind = "forks the chain" if known else "leaves a gap"
            raise self._refusal(
                event, f"{kind}: expected predecessor {self._head.hex()[:12]}, got {event.previous.hex()[:12]}"
            )
        # 4. count
        count = len(self.steps)
        if isinstance(event, StepCommitted):
            if event.step != count + 1:
                raise self._refusal(event, f"expected step {count + 1}")
        elif event.steps != count or event.state_root != self.state_root(event.steps):
            raise self._refusal(event, f"names {event.steps} steps, {count} are there, or another state")

    def _refusal(self, event: StepCommitted | RunFinished, text: str) -> VerificationError:
        what = f"step {event.step}" if isinstance(event, StepCommitted) else "the end"
        return VerificationError(f"run {self.name}, {what}: {text}")

    def check_public(self, event: StepCommitted) -> None:
        """Rates, changes of scale and public integers are those that the start declared or allows.

        1. one rate a group; 2. the rounding error is within what was declared; 3. scales change only where an epoch
        begins, and to formats that the statement allows; 4. the rates are the schedules', and resolved; 5. the integers
        follow; 6. it commits to sums only if the statement carries any.

        Raises:
            VerificationError: names the first integer that is off, with both values.
        """
        # 1. rates
        if len(event.rates) != len(self.groups):
            raise self._refusal(event, f"expected {len(self.groups)} learning rates, got {len(event.rates)}")
        # 2. rounding
        if event.rounding > self.start.max_rounding:
            raise self._refusal(
                event,
                f"its rounding error is {event.rounding:.3g}, the run declared at most {self.start.max_rounding:.3g}",
            )
        try:
            # 3. scales
            scales = self._scales(event)
            # 4. schedules
            for group, lr in zip(self.groups, event.rates, strict=True):
                group.schedule.check(event.step, lr)
            self._check_resolved(event.step, scales)
            # 5. integers
            vector = self._vector(event.step, event.rates, scales, event.shifts)
        except (VerificationError, FormatError) as error:
            raise self._refusal(event, str(error)) from None
        if list(event.public) != vector:
            names = self.statement.public
            off = next((i for i, (a, b) in enumerate(zip(event.public, vector, strict=False)) if a != b), None)
            block = f" of block {off // len(names)}" if off is not None and len(self.formats) > 1 else ""
            detail = (
                f"{names[off % len(names)]}{block} is {event.public[off]}, expected {vector[off]}"
                if off is not None
                else f"expected {len(vector)} integers, got {len(event.public)}"
            )
            raise self._refusal(event, f"public integers off their schedule: {detail}")
        # 6. sums
        if not self.statement.carries and event.carry_root != bytes(32):
            raise self._refusal(event, f"commits to sums, which {self.statement.name} does not carry")

    def _check_resolved(self, step: int, scales: Sequence[Scale]) -> None:
        """Raises FormatError if rates held after a table's end are not what their integers stand for."""
        if step <= self._tabled:
            return
        for number, fmt in {(block.group, s[0]) for block, s in zip(self.start.blocks, scales, strict=True)}:
            check_step(self.statement, self.groups[number].schedule, step, fmt, self.circuit.P)

    def formats_after(self, step: int) -> tuple[Format, ...]:
        """Each block's format after a step that was taken; 0: before the first."""
        return tuple(fmt for fmt, _ in self._scales_after(step))

    def _scales_after(self, step: int) -> tuple[Scale, ...]:
        return self._changes[bisect_right(self._changes, step, key=lambda change: change[0]) - 1][1]

    def _scales(self, event: StepCommitted) -> tuple[Scale, ...]:
        """What a step's integers are computed with.

        Raises:
            VerificationError: a change where there may be none, or of another number of blocks.
            FormatError: a format that the statement does not allow.
        """
        scales = self._scales_after(event.step - 1)
        if not event.shifts:
            return scales
        if len(event.shifts) != len(scales):
            raise VerificationError(f"expected changes of scale for {len(scales)} blocks, got {len(event.shifts)}")
        if not begins_epoch(event.step, self.start.epoch_steps):
            raise VerificationError(
                f"scales change, and it does not begin an epoch: the run declared epochs of {self.start.epoch_steps} "
                "steps (0: none)"
            )
        return tuple(self._shifted(event.step, i, scales[i], k) if k else scales[i] for i, k in enumerate(event.shifts))

    def _shifted(self, step: int, number: int, scale: Scale, shift: int) -> Scale:
        group, P = self.groups[self.start.blocks[number].group], self.circuit.P
        try:
            fmt = self.statement.check_shift(group.hyper, group.schedule.max_lr, scale[0], shift, P)
            check_schedule(self.statement, group.schedule, fmt, P)
            return fmt, self.statement.resolution(group.hyper, scale[1], step, shift, P)
        except FormatError as error:
            raise FormatError(f"block {number} changes its scale by {shift} bits: {error}") from None

    def _vector(self, step: int, rates: Sequence[float], scales: Sequence[Scale], shifts: Sequence[int]) -> list[int]:
        """The integers of a step at these rates and scales, block after block."""
        known: dict[tuple[int, Scale, int], list[int]] = {}
        vector: list[int] = []
        for i, (block, scale) in enumerate(zip(self.start.blocks, scales, strict=True)):
            key = block.group, scale, shifts[i] if shifts else 0
            if key not in known:
                hyper, lr = self.groups[block.group].hyper, rates[block.group]
                pub = self.statement.step_integers(hyper, lr, step, scale[0], self.circuit.P, key[2], scale[1])
                known[key] = self.statement.public_vector(pub)
            vector += known[key]
        return vector

    def public_of(self, step: int, shard: int) -> tuple[int, ...]:
        """The public integers of one shard's proof: the step's, as its event states them, and the shard's place."""
        count, block = len(self.statement.public), bisect_right(self._ends, shard)
        public = self.steps.public(step, block * count, count)
        return public + (tuple(self._place(shard).values()) if self.statement.carries else ())

    def _place(self, shard: int) -> dict[str, int]:
        return place_in([block.shards for block in self.start.blocks], shard)

    def check_place(self, proof: ProofAttached, found: Commitments) -> None:
        """A verified proof belongs where it says.

        1. it is about this run's circuit, under its proof system, a committed step and one of its shards;
        2. the state it starts from is the shard's in the state root before the step;
        3. the state it ends in is the shard's in the step's state root;
        4. gradient and hints are the shard's in the step's work root;
        5. its running sums go on from those of the block's shard before, and are the shard's in the step's carry root.

        Raises:
            VerificationError: names what does not belong.
        """
        step, shard, size = proof.step, proof.shard, self.start.shards
        # 1. address
        named = (proof.run_id, proof.circuit_id, proof.proof_system)
        if named != (self.run_id, self.start.circuit_id, self.start.proof_system):
            raise self._misplaced(proof, "proof of another run, circuit or proof system")
        if not 1 <= step <= len(self.steps) or not 0 <= shard < size:
            raise self._misplaced(proof, f"no such step or shard (steps {len(self.steps)}, shards {size})")
        # 2. to 4. roots
        for what, point, path, root in (
            ("state before", found.pre, proof.pre_path, self.state_root(step - 1)),
            ("state after", found.post, proof.post_path, self.state_root(step)),
            ("gradient and hints", found.work, proof.work_path, self.steps.work_root(step)),
        ):
            try:
                verify_inclusion(point, shard, size, path, root)
            except VerificationError:
                raise self._misplaced(proof, f"the proof's {what} is not the one the step committed to") from None
        # 5. sums
        self._check_carry(proof, found)

    def _misplaced(self, proof: ProofAttached, text: str) -> VerificationError:
        return VerificationError(f"run {self.name}, step {proof.step}, shard {proof.shard}: {text}")

    def _check_carry(self, proof: ProofAttached, found: Commitments) -> None:
        shard, size = proof.shard, self.start.shards
        begins = not self.statement.carries or self._place(shard)["first"]
        if (begins and proof.carry_in_path) or (not self.statement.carries and proof.carry_out_path):
            raise self._misplaced(proof, "the proof has a path for sums that there are not")
        if not self.statement.carries:
            return
        root, checks = self.steps.carry_root(proof.step), []
        if not begins:
            checks.append(("sums before", found.carry_in, shard - 1, proof.carry_in_path))
        checks.append(("sums", found.carry_out, shard, proof.carry_out_path))
        for what, point, at, path in checks:
            try:
                verify_inclusion(point, at, size, path, root)
            except VerificationError:
                raise self._misplaced(proof, f"the proof's {what} are not those the step committed to") from None

    def append(self, opened: Opened[StepCommitted | RunFinished]) -> None:
        """Takes an event that the checks have passed."""
        if isinstance(opened.event, RunFinished):
            self.finished = opened  # type: ignore[assignment]
        else:
            self.steps.append(opened)  # type: ignore[arg-type]
            self._keep_formats(opened)  # type: ignore[arg-type]
        self._head = opened.event_id

    def goes_on(self, previous: bytes, step: int) -> bool:
        """Whether a step of this number by the run's key that names this event as the one before it is the next one."""
        return self.finished is None and (previous, step) == (self._head, len(self.steps) + 1)

    def follow(self, head: bytes) -> None:
        """Goes on behind steps that were checked elsewhere and are in :attr:`steps`; ``head`` is the last one's id."""
        self._head = head

    def _keep_formats(self, opened: Opened[StepCommitted]) -> None:
        event = opened.event
        if event.shifts:
            # A change that may not be is no change: what follows is held to the formats from before.
            with suppress(VerificationError, FormatError):
                self._changes.append((event.step, self._scales(event)))
                self.changes.append(opened)

    def state_root(self, step: int) -> bytes:
        """The state root after ``step``; step 0 is the genesis."""
        return self.start.state_root if step == 0 else self.steps.state_root(step)

    def forget(self, count: int) -> None:
        """Keeps no more of the first ``count`` steps than a ledger needs to go on; see :class:`ledger.steps.Steps`."""
        self.steps.forget(count, self.start.epoch_steps)

    def resume(
        self, steps: Steps, changes: Sequence[Opened[StepCommitted]], kept: Sequence[Opened[StepCommitted]]
    ) -> None:
        """Goes on where another chain of this run was.

        Args:
            steps: what it had forgotten, and nothing kept.
            changes: of the forgotten steps those that changed scales.
            kept: the steps that followed.
        """
        self.steps = steps
        for opened in changes:
            self._keep_formats(opened)
        for opened in kept:
            self.append(opened)
