"""The log's entries: what each says, and how an auditor recomputes it from the public topics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

from ledger.chain import RunChain
from schemas.codec import encode
from schemas.events import EpochClosed, RunClosed, RunOpened, StepProven, StepRecorded
from zk_autograd.errors import UsageError

Entry: TypeAlias = RunOpened | StepRecorded | StepProven | EpochClosed | RunClosed
"""Whatever a leaf of the log may be."""

_DOMAIN = b"zk-autograd/step-proofs/v1\0"


def proofs_digest(proof_ids: Sequence[bytes]) -> bytes:
    """SHA-256 over the event ids of a step's proofs in shard order (32 bytes each)."""
    return hashlib.sha256(_DOMAIN + b"".join(proof_ids)).digest()


def run_opened(chain: RunChain) -> RunOpened:
    """The entry for a run's start."""
    return RunOpened(chain.run_id)


NO_CHALLENGE = bytes(32)
"""Stands in the entry of a step of which every shard was to be proven."""


def step_proven(chain: RunChain, step: int, proof_ids: Sequence[bytes], challenge: bytes = NO_CHALLENGE) -> StepProven:
    """The entry for a step of which every shard that has to be has a proof; ``proof_ids`` in shard order."""
    return StepProven(
        run_id=chain.run_id,
        step=step,
        event_id=chain.steps.event_id(step),
        proofs_digest=proofs_digest(proof_ids),
        challenge=challenge,
        state_root=chain.steps.state_root(step),
        work_root=chain.steps.work_root(step),
    )


def run_closed(chain: RunChain) -> RunClosed:
    """The entry for a run's end."""
    if chain.finished is None:
        raise UsageError(f"run {chain.name} is not finished")
    return RunClosed(chain.run_id, chain.finished.event_id, chain.finished.event.steps)


def leaf_data(entry: Entry) -> bytes:
    """What the Merkle leaf holds: the entry's encoding, without envelope, so that anyone can recompute it."""
    return encode(entry)
