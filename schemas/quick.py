"""The events of which a log has millions, decoded in one walk over their bytes.

:func:`parts`, :func:`envelope` and :func:`event` take only what :func:`schemas.codec.decode` takes, and give what it
gives, at a fifth of its cost. Whatever is not plainly in the one canonical form, or of another kind, they leave (None)
to that function, which then says what is wrong with it. Tests hold the two against each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from schemas.avro import HEADER_BYTES, SCHEMAS
from schemas.events import Event, ProofAttached, ProofClaimed, Signed, StepCommitted, StepProven
from schemas.ranges import ITEM_CAPS, MAX_PATH, MAX_SHARDS

_SIGNED = SCHEMAS[Signed].header
_STEP, _PROOF, _CLAIM, _PROVEN = (
    SCHEMAS[kind].header for kind in (StepCommitted, ProofAttached, ProofClaimed, StepProven)
)
_TOKEN = re.compile(rb"[a-z0-9._-]{1,32}")
_AFTER_RUN = HEADER_BYTES + 32
_LAST = Struct("<d32s")
_IDS = Struct("32s32s32s32s32s")
_NO_PATHS = bytes(5)


class _Other(Exception):
    """Left to the other decoder."""


def parts(value: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Body, key id and signature of the envelope that ``value`` is, or None."""
    if value[:HEADER_BYTES] != _SIGNED:
        return None
    try:
        low, high = value[HEADER_BYTES], value[HEADER_BYTES + 1]
        if low & 0x81 == 0x80 and 0 < high < 0x80:  # as it mostly is: two bytes
            size, at = low >> 1 & 0x3F | high << 6, HEADER_BYTES + 2
        else:
            size, at = _integer(value, HEADER_BYTES)
    except (_Other, IndexError):
        return None
    end = at + size
    if size < 1 or end + 96 != len(value):
        return None
    return value[at:end], value[end : end + 32], value[end + 32 :]


def envelope(value: bytes) -> Signed | None:
    """The envelope that ``value`` is, or None."""
    found = parts(value)
    return None if found is None else Signed(*found)


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


def _end(data: bytes, at: int) -> int:
    """Where an array of one block ends that has items up to ``at``."""
    if data[at]:
        raise _Other
    return at + 1


def _integers(data: bytes, at: int, cap: int) -> tuple[tuple[int, ...], int]:
    """An array of integers, at most ``cap``."""
    if not data[at]:
        return (), at + 1
    count, at = _count(data, at)
    if count > cap:
        raise _Other
    found = []
    for _ in range(count):
        # What _integer does, without a call for numbers of up to three bytes.
        raw, size = data[at], 1
        if raw >= 0x80:
            byte, size = data[at + 1], 2
            raw = raw & 0x7F | (byte & 0x7F) << 7
            if byte >= 0x80:
                byte, size = data[at + 2], 3
                raw |= byte << 14
            if byte >= 0x80:
                value, at = _integer(data, at)
                found.append(value)
                continue
            if not byte:
                raise _Other
        found.append((raw >> 1) ^ -(raw & 1))
        at += size
    return tuple(found), _end(data, at)


def _reals(data: bytes, at: int, cap: int) -> tuple[tuple[float, ...], int]:
    """An array of finite numbers from 0 up, at most ``cap``."""
    if not data[at]:
        return (), at + 1
    count, at = _count(data, at)
    if count > cap or at + 8 * count > len(data):
        raise _Other
    found = _doubles(count).unpack_from(data, at)
    for value in found:
        if not 0.0 <= value < math.inf:
            raise _Other
    return found, _end(data, at + 8 * count)


@lru_cache(64)
def _doubles(count: int) -> Struct:
    return Struct(f"<{count}d")


def _path(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    if not data[at]:
        return (), at + 1
    count, at = _count(data, at)
    if count > MAX_PATH:
        raise _Other
    end = at + 32 * count
    return tuple(data[i : i + 32] for i in range(at, end, 32)), _end(data, end)


def _id(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 32
    if end > len(data):
        raise _Other
    return data[at:end], end


def _step_number(data: bytes) -> tuple[int, int]:
    """The number behind the run's id, which every one of these events begins with."""
    step, at = _integer(data, _AFTER_RUN)
    if step < 1:
        raise _Other
    return step, at


def _step_committed(data: bytes) -> StepCommitted:
    step, at = _step_number(data)
    previous, at = _id(data, at)
    rates, at = _reals(data, at, ITEM_CAPS["rates"])
    shifts, at = _integers(data, at, ITEM_CAPS["shifts"])
    public, at = _integers(data, at, ITEM_CAPS["public"])
    middle = at + 64
    saturated, underflow, limited = data[middle], data[middle + 1], data[middle + 2]
    if (saturated | underflow | limited) & 0x81:
        saturated, last = _count(data, middle)
        underflow, last = _count(data, last)
        limited, last = _count(data, last)
    else:  # small numbers, from 0 up
        saturated, underflow, limited, last = saturated >> 1, underflow >> 1, limited >> 1, middle + 3
    if len(data) != last + _LAST.size:
        raise _Other
    rounding, carry_root = _LAST.unpack_from(data, last)
    if not rates or not 0.0 <= rounding <= 1.0 or (shifts and not -8 <= min(shifts) <= max(shifts) <= 8):
        raise _Other
    return StepCommitted(
        data[HEADER_BYTES:_AFTER_RUN], step, previous, rates, shifts, public, data[at : at + 32],
        data[at + 32 : middle], saturated, underflow, limited, rounding, carry_root,
    )  # fmt: skip


@lru_cache(64)
def _token(system: bytes) -> str:
    if not _TOKEN.fullmatch(system):
        raise _Other
    return system.decode("ascii")


def _proof_attached(data: bytes) -> ProofAttached:
    step, at = _step_number(data)
    shard, at = _count(data, at)
    size, at = _count(data, at)
    if shard >= MAX_SHARDS or size > 32:
        raise _Other
    system = _token(data[at : at + size])
    circuit, at = _id(data, at + size)
    size, at = _count(data, at)
    end = at + size
    proof = data[at:end]
    if len(proof) != size:
        raise _Other
    run_id = data[HEADER_BYTES:_AFTER_RUN]
    if data[end:] == _NO_PATHS:
        return ProofAttached(run_id, step, shard, system, circuit, proof, (), (), ())
    paths, at = [], end
    for _ in range(5):
        path, at = _path(data, at)
        paths.append(path)
    if at != len(data):
        raise _Other
    return ProofAttached(run_id, step, shard, system, circuit, proof, *paths)


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
    return StepProven(data[HEADER_BYTES:_AFTER_RUN], step, *_IDS.unpack_from(data, at))


_READERS: dict[bytes, Callable[[bytes], Event]] = {
    _STEP: _step_committed, _PROOF: _proof_attached, _CLAIM: _proof_claimed, _PROVEN: _step_proven,
}  # fmt: skip
