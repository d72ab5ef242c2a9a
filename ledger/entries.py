"""The log's entries: what each says, and how an auditor recomputes it from the public topics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ledger.chain import RunChain
from schemas.codec import encode
from schemas.events import RunClosed, RunOpened, StepProven
from zk_autograd.errors import UsageError

_DOMAIN = b"zk-autograd/step-proofs/v1\0"


def proofs_digest(proof_ids: Sequence[bytes]) -> bytes:
    """SHA-256 over the event ids of a step's proofs in shard order (32 bytes each)."""
    return hashlib.sha256(_DOMAIN + b"".join(proof_ids)).digest()


def run_opened(chain: RunChain) -> RunOpened:
    """The entry for a run's start."""
    return RunOpened(chain.run_id)


def step_proven(chain: RunChain, step: int, proof_ids: Sequence[bytes]) -> StepProven:
    """The entry for a step of which every shard has a proof; ``proof_ids`` in shard order."""
    opened = chain.steps[step - 1]
    return StepProven(
        run_id=chain.run_id,
        step=step,
        event_id=opened.event_id,
        proofs_digest=proofs_digest(proof_ids),
        state_root=opened.event.state_root,
        work_root=opened.event.work_root,
    )


def run_closed(chain: RunChain) -> RunClosed:
    """The entry for a run's end."""
    if chain.finished is None:
        raise UsageError(f"run {chain.name} is not finished")
    return RunClosed(chain.run_id, chain.finished.event_id, chain.finished.event.steps)


def leaf_data(entry: RunOpened | StepProven | RunClosed) -> bytes:
    """What the Merkle leaf holds: the entry's encoding, without envelope, so that anyone can recompute it."""
    return encode(entry)
