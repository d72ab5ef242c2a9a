"""Keccak-256 of many messages of one length at once, in numpy.

Python has SHA-3, whose padding differs by one bit, but no Keccak. One message at a time would take a Python loop about
ten milliseconds a proof; in lockstep the loop's cost is shared by all messages.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint64]

RATE = 136
"""Bytes of the state that take input: 200 - 2 * 32."""


def _constants() -> tuple[list[np.uint64], Words, npt.NDArray[np.intp]]:
    """Round constants, rotation by lane, and each lane's source after the rho and pi steps (FIPS 202, 3.2)."""
    rounds, lfsr = [], 1
    for _ in range(24):
        value = 0
        for j in range(7):
            if lfsr & 1:
                value |= 1 << ((1 << j) - 1)
            lfsr = lfsr << 1 ^ (0x171 if lfsr & 0x80 else 0)
        rounds.append(np.uint64(value))
    turns, x, y = [0] * 25, 1, 0
    for t in range(24):
        turns[x + 5 * y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    source = [0] * 25
    for x in range(5):
        for y in range(5):
            source[y + 5 * ((2 * x + 3 * y) % 5)] = x + 5 * y
    return rounds, np.array(turns, dtype=np.uint64), np.array(source, dtype=np.intp)


_ROUNDS, _TURNS, _SOURCE = _constants()
_LEFT = _TURNS[_SOURCE][:, None]
_RIGHT = (np.uint64(64) - _LEFT) % np.uint64(64)
_BEFORE, _AFTER, _AFTER2 = (np.roll(np.arange(5), n) for n in (1, -1, -2))
_ONE, _REST = np.uint64(1), np.uint64(63)


def _permute(a: Words) -> Words:
    """Keccak-f[1600] on each column of ``a``: 25 lanes (x + 5 y) by messages."""
    n = a.shape[1]
    for constant in _ROUNDS:
        c = np.bitwise_xor.reduce(a.reshape(5, 5, n), axis=0)
        ahead = c[_AFTER]
        d = c[_BEFORE] ^ (ahead << _ONE | ahead >> _REST)
        b = (a.reshape(5, 5, n) ^ d).reshape(25, n)[_SOURCE]
        b = (b << _LEFT | b >> _RIGHT).reshape(5, 5, n)
        a = (b ^ (~b[:, _AFTER] & b[:, _AFTER2])).reshape(25, n)
        a[0] ^= constant
    return a


def keccak_256(messages: Bytes, end: int = 0x01) -> Bytes:
    """Digests, 32 bytes a row, of the rows of ``messages``.

    Args:
        end: the padding's first byte; with 6 this is SHA3-256, which tests hold it against.
    """
    n, length = messages.shape
    blocks = length // RATE + 1
    padded = np.zeros((n, blocks * RATE), dtype=np.uint8)
    padded[:, :length] = messages
    padded[:, length] ^= end
    padded[:, -1] ^= 0x80
    lanes = np.ascontiguousarray(padded.view("<u8").astype(np.uint64).T)
    state = np.zeros((25, n), dtype=np.uint64)
    for i in range(blocks):
        state[: RATE // 8] ^= lanes[i * (RATE // 8) : (i + 1) * (RATE // 8)]
        state = _permute(state)
    return np.ascontiguousarray(state[:4].T).astype("<u8").view(np.uint8).reshape(n, 32)
