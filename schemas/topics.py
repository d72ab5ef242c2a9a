"""The topics: what each may carry, how large a value may be, how it is kept.

Everything here goes by a topic's short name (``steps``), which is what signatures bind; a deployment's prefix
(``zk.steps``) appears in the event log only, so a log can be copied under another prefix and still verifies.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import (
    Anchored,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    EpochClosed,
    Event,
    ProofAttached,
    ProofClaimed,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    StepCommitted,
    StepProven,
    StepRecorded,
    WitnessShard,
)
from zk_autograd.errors import UsageError

PREFIX = "zk."
"""Default prefix of the topics' names in the event log."""

FOR_EVER = -1
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: short name, ASCII.
        events: the only events it may carry.
        cap: largest value (a sealed event) in bytes.
        partitions: default number of partitions.
        retention_ms: how long records are kept, in milliseconds; -1 means for ever.
    """

    name: str
    events: frozenset[type[Event]]
    cap: int
    partitions: int = 1
    retention_ms: int = FOR_EVER

    def log_name(self, prefix: str = PREFIX) -> str:
        """The topic's name in the event log."""
        return prefix + self.name


TOPICS: dict[str, Topic] = {
    t.name: t
    for t in (
        Topic("steps", frozenset({RunStarted, StepCommitted, RunFinished, EnclaveAttested}), 720_000, partitions=4),
        Topic("witness", frozenset({WitnessShard}), 900_000, partitions=8, retention_ms=24 * HOUR_MS),
        Topic("proofs", frozenset({ProofAttached}), 64 << 10, partitions=4),
        Topic("claims", frozenset({ProofClaimed, EnclaveAttested}), 128 << 10),
        Topic("ledger", frozenset({RunOpened, StepRecorded, StepProven, EpochClosed, RunClosed}), 4 << 10),
        Topic("checkpoints", frozenset({CheckpointIssued}), 64 << 10),
        Topic("anchors", frozenset({Anchored}), 64 << 10),
        Topic("dead-letters", frozenset({DeadLetter}), 128 << 10),
    )
}


def witness_partition(step: int, shard: int, shards: int, partitions: int) -> int:
    """The only partition of ``witness`` in which this witness counts.

    Proofs need no order among each other, so they go round the partitions: provers share evenly. A copy elsewhere would
    be proven a second time, at the same time, by another prover.
    """
    return ((step - 1) * shards + shard) % partitions


def topic(name: str) -> Topic:
    """The topic with this short name.

    Raises:
        UsageError: there is none; the message names those there are.
    """
    try:
        return TOPICS[name]
    except KeyError:
        raise UsageError(f"unknown topic {name[:40]!r}: expected one of {', '.join(TOPICS)}") from None
