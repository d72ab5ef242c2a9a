"""The events of which a log has millions, decoded in one walk over their bytes.

:func:`envelope` and :func:`event` take only what :func:`schemas.codec.decode` takes, and give what it gives, at a fifth
of its cost. Whatever is not plainly in the one canonical form, or of another kind, they leave (None) to that function,
which then says what is wrong with it. Tests hold the two against each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from struct import Struct

from schemas.avro import HEADER_BYTES, SCHEMAS
from schemas.events import Event, ProofAttached, ProofClaimed, Signed, StepCommitted, StepProven
from schemas.ranges import ITEM_CAPS, MAX_PATH, MAX_SHARDS

_SIGNED = SCHEMAS[Signed].header
_STEP, _PROOF, _CLAIM, _PROVEN = (
    SCHEMAS[kind].header for kind in (StepCommitted, ProofAttached, ProofClaimed, StepProven)
)
_TOKEN = re.compile(rb"[a-z0-9._-]{1,32}")
_DOUBLE = Struct("<d")
_IDS = Struct("32s32s32s32s32s")


class _Other(Exception):
    """Left to the other decoder."""


def envelope(value: bytes) -> Signed | None:
    """The envelope that ``value`` is, or None."""
    if value[:HEADER_BYTES] != _SIGNED:
        return None
    try:
        size, at = _integer(value, HEADER_BYTES)
    except (_Other, IndexError):
        return None
    end = at + size
    if size < 1 or end + 96 != len(value):
        return None
    return Signed(value[at:end], value[end : end + 32], value[end + 32 :])


def event(body: bytes) -> Event | None:
    """The event that ``body`` is, or None."""
    read = _READERS.get(body[:HEADER_BYTES])
    if read is None:
        return None
    try:
        return read(body)
    except (_Other, IndexError):
        return None


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """The zigzag integer at ``at``, in its shortest form, and where it ends."""
    byte = data[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    start, raw, shift = at, byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise _Other
    if not byte or raw >= 1 << 64 or at - start > 9:
        raise _Other
    return (raw >> 1) ^ -(raw & 1), at + 1


def _count(data: bytes, at: int) -> tuple[int, int]:
    """A number from 0 up."""
    value, at = _integer(data, at)
    if value < 0:
        raise _Other
    return value, at


def _real(data: bytes, at: int, high: float) -> tuple[float, int]:
    """A finite number from 0 to ``high``."""
    if at + 8 > len(data):
        raise _Other
    value: float = _DOUBLE.unpack_from(data, at)[0]
    if not 0.0 <= value <= high or not math.isfinite(value):
        raise _Other
    return value, at + 8


def _size(data: bytes, at: int, cap: int) -> tuple[int, int]:
    """How many items an array has, at most ``cap``, and where they begin."""
    count, at = _count(data, at)
    if count > cap:
        raise _Other
    return count, at


def _end(data: bytes, at: int) -> int:
    """Where an array of one block ends that has items up to ``at``."""
    if data[at]:
        raise _Other
    return at + 1


def _integers(data: bytes, at: int, cap: int) -> tuple[tuple[int, ...], int]:
    count, at = _size(data, at, cap)
    if not count:
        return (), at
    found = []
    for _ in range(count):
        value, at = _integer(data, at)
        found.append(value)
    return tuple(found), _end(data, at)


def _reals(data: bytes, at: int, cap: int) -> tuple[tuple[float, ...], int]:
    count, at = _size(data, at, cap)
    if not count:
        return (), at
    found = []
    for _ in range(count):
        value, at = _real(data, at, math.inf)
        found.append(value)
    return tuple(found), _end(data, at)


def _path(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    if not data[at]:
        return (), at + 1
    count, at = _size(data, at, MAX_PATH)
    end = at + 32 * count
    return tuple(data[i : i + 32] for i in range(at, end, 32)), _end(data, end)


def _id(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 32
    if end > len(data):
        raise _Other
    return data[at:end], end


def _step_number(data: bytes) -> tuple[int, int]:
    """The number behind the run's id, which every one of these events begins with."""
    step, at = _integer(data, HEADER_BYTES + 32)
    if step < 1:
        raise _Other
    return step, at


def _step_committed(data: bytes) -> StepCommitted:
    step, at = _step_number(data)
    previous, at = _id(data, at)
    rates, at = _reals(data, at, ITEM_CAPS["rates"])
    shifts, at = _integers(data, at, ITEM_CAPS["shifts"])
    public, at = _integers(data, at, ITEM_CAPS["public"])
    state_root, at = _id(data, at)
    work_root, at = _id(data, at)
    saturated, at = _count(data, at)
    underflow, at = _count(data, at)
    limited, at = _count(data, at)
    rounding, at = _real(data, at, 1.0)
    if not rates or len(data) != at + 32 or (shifts and not -8 <= min(shifts) <= max(shifts) <= 8):
        raise _Other
    return StepCommitted(
        data[HEADER_BYTES : HEADER_BYTES + 32], step, previous, rates, shifts, public, state_root, work_root,
        saturated, underflow, limited, rounding, data[at:],
    )  # fmt: skip


def _proof_attached(data: bytes) -> ProofAttached:
    step, at = _step_number(data)
    shard, at = _count(data, at)
    size, at = _count(data, at)
    system = data[at : at + size]
    if shard >= MAX_SHARDS or size > 32 or not _TOKEN.fullmatch(system):
        raise _Other
    circuit, at = _id(data, at + size)
    size, at = _count(data, at)
    proof = data[at : at + size]
    at += size
    paths = []
    for _ in range(5):
        path, at = _path(data, at)
        paths.append(path)
    if len(proof) != size or at != len(data):
        raise _Other
    run_id = data[HEADER_BYTES : HEADER_BYTES + 32]
    return ProofAttached(run_id, step, shard, system.decode("ascii"), circuit, proof, *paths)


def _proof_claimed(data: bytes) -> ProofClaimed:
    step, at = _step_number(data)
    shard, at = _count(data, at)
    if shard >= MAX_SHARDS or len(data) != at + 64:
        raise _Other
    return ProofClaimed(data[HEADER_BYTES : HEADER_BYTES + 32], step, shard, data[at : at + 32], data[at + 32 :])


def _step_proven(data: bytes) -> StepProven:
    step, at = _step_number(data)
    if len(data) != at + _IDS.size:
        raise _Other
    return StepProven(data[HEADER_BYTES : HEADER_BYTES + 32], step, *_IDS.unpack_from(data, at))


_READERS: dict[bytes, Callable[[bytes], Event]] = {
    _STEP: _step_committed, _PROOF: _proof_attached, _CLAIM: _proof_claimed, _PROVEN: _step_proven,
}  # fmt: skip
