"""What a run declares before its first step, from which an auditor recomputes every public integer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.chain import MAX_SAMPLED
from producer.shards import shard_counts
from schemas.events import Block, Group, Hyper, RunStarted, ScheduleKind, SrsClass
from zk_autograd.errors import FormatError, UsageError
from zk_autograd.fixed_point import ParameterBlock
from zk_autograd.proofs.base import Circuit, Ints
from zk_autograd.rates import check_schedule
from zk_autograd.schedule import Schedule
from zk_autograd.statement import Statement


class OptimizerLike(Protocol):
    """What the recorder reads of an optimizer: see ``zk_autograd.optim.FixedPointOptimizer``."""

    @property
    def statement(self) -> Statement: ...
    @property
    def groups(self) -> Sequence[Mapping[str, float]]: ...
    @property
    def blocks(self) -> Sequence[ParameterBlock]: ...
    @property
    def P(self) -> int: ...
    @property
    def parameter_count(self) -> int: ...
    @property
    def last_step(self) -> Any: ...
    def state_arrays(self) -> dict[str, Ints]: ...


@dataclass(frozen=True)
class Terms:
    """What a run undertakes beside its arithmetic.

    Attributes:
        sampled: shards of each step that will be proven, drawn after the step was anchored; 0: all.
        beacon: identity of the anchor whose receipts draw them; empty if all are proven.
        window: steps that may be recorded beyond the last proven one; 0 if all are proven.
        epoch_steps: steps of an epoch; 0: no epochs.
        max_rounding: largest rounding error that a step's gradient may have, 0 to 1.
    """

    sampled: int = 0
    beacon: str = ""
    window: int = 0
    epoch_steps: int = 0
    max_rounding: float = 1.0


def run_started(
    name: str, trainer_key_id: bytes, optimizer: OptimizerLike, circuit: Circuit, schedules: Sequence[Schedule],
    terms: Terms, state_root: bytes, data_key_id: bytes,
) -> RunStarted:  # fmt: skip
    """The run's first event; its nonce makes every run's id its own.

    Args:
        trainer_key_id: of the key that signs all of the run's events, 32 bytes.
        schedules: one per parameter group.
        state_root: root over the shards' initial state commitments, 32 bytes.
        data_key_id: the public name of the key that the run's witnesses are encrypted under, 32 bytes.
    Raises:
        UsageError: another number of schedules than groups, a schedule whose rates the optimizer's format does not
            resolve, or more shards sampled than there are.
    """
    if len(schedules) != len(optimizer.groups):
        raise UsageError(f"run: expected a schedule for each of {len(optimizer.groups)} groups, got {len(schedules)}")
    for block in optimizer.blocks:
        try:
            check_schedule(optimizer.statement, schedules[block.group], block.format, optimizer.P)
        except FormatError as error:
            raise UsageError(
                f"run: the optimizer's format was chosen from its max_lr, and does not resolve the schedule of group "
                f"{block.group}: {error}. Where no rate comes near max_lr, make the optimizer with a smaller one"
            ) from None
    counts = shard_counts(optimizer.blocks, circuit.shard, bool(circuit.statement.carries))
    if terms.sampled > (most := min(sum(counts), MAX_SAMPLED)):
        raise UsageError(
            f"run: {terms.sampled} shards of a step to be sampled, but a step of this run has {sum(counts)}: sample "
            f"1 to {most} (--prove sample:K), or prove all"
        )
    return RunStarted(
        name=name,
        nonce=secrets.token_bytes(32),
        trainer_key_id=trainer_key_id,
        optimizer=circuit.statement.name,
        groups=tuple(_group(hyper, s) for hyper, s in zip(optimizer.groups, schedules, strict=True)),
        blocks=tuple(_block(block, count) for block, count in zip(optimizer.blocks, counts, strict=True)),
        proof_system=circuit.system,
        circuit_id=circuit.id,
        srs_id=circuit.srs_id,
        srs_class=SrsClass(circuit.srs_class),
        shard_size=circuit.shard,
        shards=sum(counts),
        sampled=terms.sampled,
        beacon=terms.beacon,
        window=terms.window,
        epoch_steps=terms.epoch_steps,
        max_rounding=terms.max_rounding,
        state_root=state_root,
        data_key_id=data_key_id,
    )  # fmt: skip


def _group(hyper: Mapping[str, float], schedule: Schedule) -> Group:
    named = tuple(Hyper(n, v) for n, v in sorted(hyper.items()))
    return Group(named, schedule.max_lr, ScheduleKind(schedule.kind.upper()), schedule.values)


def _block(block: ParameterBlock, shards: int) -> Block:
    fmt = block.format
    return Block(block.group, shards, fmt.scale_w, fmt.scale_g, fmt.guard, fmt.clip)
