"""What a run declares before its first step, from which an auditor recomputes every public integer."""

from __future__ import annotations

import secrets
from typing import Any, Protocol

from schemas.events import Hyper, RunStarted, ScheduleKind, SrsClass
from zk_autograd.fixed_point import Format
from zk_autograd.proofs.base import Circuit, Ints
from zk_autograd.schedule import Schedule
from zk_autograd.statement import Statement


class OptimizerLike(Protocol):
    """What the recorder reads of an optimizer: see ``zk_autograd.optim.FixedPointOptimizer``."""

    @property
    def statement(self) -> Statement: ...
    @property
    def format(self) -> Format: ...
    @property
    def hyper(self) -> dict[str, float]: ...
    @property
    def P(self) -> int: ...
    @property
    def parameter_count(self) -> int: ...
    @property
    def last_step(self) -> Any: ...
    def state_arrays(self) -> dict[str, Ints]: ...


def run_started(
    name: str, trainer_key_id: bytes, optimizer: OptimizerLike, circuit: Circuit, schedule: Schedule, shards: int,
    state_root: bytes, data_key_id: bytes,
) -> RunStarted:  # fmt: skip
    """The run's first event; its nonce makes every run's id its own.

    Args:
        trainer_key_id: of the key that signs all of the run's events, 32 bytes.
        shards: proofs per step.
        state_root: root over the shards' initial state commitments, 32 bytes.
        data_key_id: the public name of the key that the run's witnesses are encrypted under, 32 bytes.
    """
    fmt = optimizer.format
    return RunStarted(
        name=name,
        nonce=secrets.token_bytes(32),
        trainer_key_id=trainer_key_id,
        optimizer=circuit.statement.name,
        hyper=tuple(Hyper(n, v) for n, v in sorted(optimizer.hyper.items())),
        max_lr=schedule.max_lr,
        schedule_kind=ScheduleKind(schedule.kind.upper()),
        schedule=schedule.values,
        scale_w=fmt.scale_w, scale_g=fmt.scale_g, guard=fmt.guard, clip=fmt.clip,
        proof_system=circuit.system,
        circuit_id=circuit.id,
        srs_id=circuit.srs_id,
        srs_class=SrsClass(circuit.srs_class),
        shard_size=circuit.shard,
        shards=shards,
        state_root=state_root,
        data_key_id=data_key_id,
    )  # fmt: skip
