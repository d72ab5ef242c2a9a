"""The training enclave's sealed checkpoint: what a restart needs, and what was about to be published.

It is written before a step's events are sent. So after a crash the log is either where the checkpoint is, or one step
behind it, and then the checkpoint holds the very bytes to send.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from zk_autograd.errors import UsageError
from zk_autograd.proofs.witness import SALT, Salt
from zk_autograd.tee.keys import write_private
from zk_autograd.tee.sealing import seal, unseal

_VERSION = 1


@dataclass(frozen=True)
class Outgoing:
    """One record to publish; ``partition`` None lets the key decide."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Attributes:

    run_id: id of the run's RunStarted event.
    step: steps taken.
    head: id of the chain's last event once ``outbox`` is published.
    state_root: state root after ``step``.
    salts: per shard, the salt of its current state column.
    outbox: the records of the last step (or of the start, at step 0).
    training: the training loop's own state (model, optimizer), opaque here.
    """

    run_id: bytes
    step: int
    head: bytes
    state_root: bytes
    salts: list[Salt]
    outbox: list[Outgoing]
    training: bytes


def save(path: Path, checkpoint: Checkpoint, data_key: bytes) -> None:
    """Seals and writes atomically and durably."""
    header = {
        "version": _VERSION,
        "run_id": checkpoint.run_id.hex(),
        "step": checkpoint.step,
        "head": checkpoint.head.hex(),
        "state_root": checkpoint.state_root.hex(),
        "shards": len(checkpoint.salts),
        "outbox": [[m.topic, m.key.hex(), m.partition, len(m.value)] for m in checkpoint.outbox],
        "training": len(checkpoint.training),
    }
    encoded = json.dumps(header).encode()
    salts = b"".join(s.to_bytes(32, "little") for salt in checkpoint.salts for s in salt)
    blobs = [
        struct.pack("<I", len(encoded)),
        encoded,
        salts,
        *(m.value for m in checkpoint.outbox),
        checkpoint.training,
    ]
    write_private(path, seal(data_key, _place(checkpoint.run_id), b"".join(blobs)), replace=True)


def load(path: Path, run_id: bytes, data_key: bytes) -> Checkpoint:
    """Inverse of :func:`save`.

    Raises:
        UsageError: no such file, or of another version.
        SealingError: not this run's checkpoint, or altered.
    """
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"checkpoint {path}: {error.strerror}; without it the run cannot go on, start a new one"
        ) from None
    data = unseal(data_key, _place(run_id), sealed)
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    if header["version"] != _VERSION:
        raise UsageError(f"checkpoint {path}: written by another release (version {header['version']})")
    at = 4 + length

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return data[at - count : at]

    flat = [int.from_bytes(take(32), "little") for _ in range(header["shards"] * SALT)]
    salts = [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), SALT)]
    outbox = [Outgoing(t, bytes.fromhex(k), take(n), p) for t, k, p, n in header["outbox"]]
    return Checkpoint(
        run_id=bytes.fromhex(header["run_id"]),
        step=header["step"],
        head=bytes.fromhex(header["head"]),
        state_root=bytes.fromhex(header["state_root"]),
        salts=salts,
        outbox=outbox,
        training=take(header["training"]),
    )


def _place(run_id: bytes) -> bytes:
    return b"checkpoint\0" + run_id
