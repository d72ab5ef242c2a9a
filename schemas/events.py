"""The events, as frozen values. Fields stand in the order of the Avro schemas (``schemas/NAME.avsc``), which document
the meaning and unit of each. Sizes of ``bytes`` fields: ids and roots 32, points 64, signatures 64, public keys 32.

Nothing is checked here: :func:`schemas.codec.encode` and :func:`schemas.codec.decode` hold every field to
:mod:`schemas.ranges`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Role(StrEnum):
    """What an enclave does, and so what its key may sign for."""

    TRAINER = "TRAINER"
    PROVER = "PROVER"
    LEDGER = "LEDGER"
    ANCHOR = "ANCHOR"


class EvidenceClass(StrEnum):
    """Under whose root the evidence for a key verifies."""

    SIMULATED = "SIMULATED"
    NITRO = "NITRO"
    SEV_SNP = "SEV_SNP"


class ScheduleKind(StrEnum):
    """How a run's learning rates were fixed beforehand."""

    CONSTANT = "CONSTANT"
    TABLE = "TABLE"
    OPEN = "OPEN"


class SrsClass(StrEnum):
    """Who made the structured reference string."""

    CEREMONY = "CEREMONY"
    DEV = "DEV"


@dataclass(frozen=True, slots=True)
class Signed:
    """The envelope of everything on the wire."""

    body: bytes
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class EnclaveAttested:
    """An enclave introduces its signing key."""

    role: Role
    public_key: bytes
    evidence_class: EvidenceClass
    evidence: bytes
    issued_ms: int


@dataclass(frozen=True, slots=True)
class Hyper:
    """One hyper-parameter other than the learning rate (a part of :class:`Group`, no event)."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Group:
    """A parameter group's hyper-parameters and schedule (a part of :class:`RunStarted`, no event)."""

    hyper: tuple[Hyper, ...]
    max_lr: float
    schedule_kind: ScheduleKind
    schedule: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive shards of one group in one fixed-point format (a part of :class:`RunStarted`, no event)."""

    group: int
    shards: int
    scale_w: int
    scale_g: int
    guard: int
    clip: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins; the event's id is the run's id."""

    name: str
    nonce: bytes
    trainer_key_id: bytes
    optimizer: str
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    proof_system: str
    circuit_id: bytes
    srs_id: bytes
    srs_class: SrsClass
    shard_size: int
    shards: int
    sampled: int
    beacon: str
    window: int
    epoch_steps: int
    max_rounding: float
    state_root: bytes
    data_key_id: bytes


@dataclass(frozen=True, slots=True)
class StepCommitted:
    """The training enclave has taken one step and commits to it."""

    run_id: bytes
    step: int
    previous: bytes
    rates: tuple[float, ...]
    shifts: tuple[int, ...]
    public: tuple[int, ...]
    state_root: bytes
    work_root: bytes
    saturated: int
    underflow: int
    limited: int
    rounding: float
    carry_root: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The training enclave ends a run."""

    run_id: bytes
    previous: bytes
    steps: int
    state_root: bytes


@dataclass(frozen=True, slots=True)
class WitnessShard:
    """The encrypted witness of one shard of one step."""

    run_id: bytes
    step: int
    shard: int
    circuit_id: bytes
    public: tuple[int, ...]
    pre: bytes
    post: bytes
    work: bytes
    pre_path: tuple[bytes, ...]
    post_path: tuple[bytes, ...]
    work_path: tuple[bytes, ...]
    ciphertext: bytes
    carry: tuple[bytes, ...] = ()
    carry_in_path: tuple[bytes, ...] = ()
    carry_out_path: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ProofAttached:
    """A proof that one shard of one step obeys the optimizer's rule."""

    run_id: bytes
    step: int
    shard: int
    proof_system: str
    circuit_id: bytes
    proof: bytes
    pre_path: tuple[bytes, ...]
    post_path: tuple[bytes, ...]
    work_path: tuple[bytes, ...]
    carry_in_path: tuple[bytes, ...] = ()
    carry_out_path: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ProofClaimed:
    """A prover has a proof of one shard of one step, and publishes it if this is the first claim to it."""

    run_id: bytes
    step: int
    shard: int
    proof: bytes
    replaces: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class RunOpened:
    """Ledger entry: a run was taken into the log."""

    run_id: bytes


@dataclass(frozen=True, slots=True)
class StepRecorded:
    """Ledger entry of a sampled run: a step's commitment is in the log."""

    run_id: bytes
    step: int
    event_id: bytes


@dataclass(frozen=True, slots=True)
class StepProven:
    """Ledger entry: every shard of a step that has to be proven is."""

    run_id: bytes
    step: int
    event_id: bytes
    proofs_digest: bytes
    challenge: bytes
    state_root: bytes
    work_root: bytes


@dataclass(frozen=True, slots=True)
class EpochClosed:
    """Ledger entry: all steps of an epoch are proven."""

    run_id: bytes
    epoch: int
    first_step: int
    last_step: int
    before: bytes
    after: bytes
    last_event: bytes
    entries_root: bytes


@dataclass(frozen=True, slots=True)
class RunClosed:
    """Ledger entry: a run's end was taken into the log."""

    run_id: bytes
    event_id: bytes
    steps: int


@dataclass(frozen=True, slots=True)
class CheckpointIssued:
    """The ledger signs its tree: a C2SP signed note."""

    note: str


@dataclass(frozen=True, slots=True)
class Anchored:
    """A checkpoint was written to a monotonic counter outside."""

    anchor: str
    counter: int
    size: int
    root: bytes
    checkpoint_id: bytes
    receipt: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A consumer could not take a record, and why."""

    source_topic: str
    partition: int
    offset: int
    role: str
    reason: str
    digest: bytes
    value: bytes


Event: TypeAlias = (
    EnclaveAttested
    | RunStarted
    | StepCommitted
    | RunFinished
    | WitnessShard
    | ProofAttached
    | ProofClaimed
    | RunOpened
    | StepRecorded
    | StepProven
    | EpochClosed
    | RunClosed
    | CheckpointIssued
    | Anchored
    | DeadLetter
)
"""Whatever a topic may carry inside the envelope."""

Message: TypeAlias = Signed | Event
"""Whatever has a schema of its own."""
