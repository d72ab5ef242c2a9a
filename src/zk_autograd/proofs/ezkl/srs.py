"""The structured reference string: EZKL's file layout, its identity, and where it came from.

File (little-endian): 4 bytes k, then N = 2**k points g, N points g_lagrange (x, y, 32 bytes each, Montgomery form),
two G2 points of 128 bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from stat import S_ISREG

from zk_autograd.errors import UsageError, VerificationError

FIELD_MODULUS = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
"""The prime of BN254's coordinates (q), EIP-196."""

_MONTGOMERY_INVERSE = pow(1 << 256, -1, FIELD_MODULUS)

CEREMONY_DIGESTS: dict[int, str] = {
    14: "c09129f064c08ecb07ea3689a2247dcc177de6837e7d2f5f946e30453abbccef",
    15: "90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
    16: "2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
    17: "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
    18: "d0148475717a2ba269784a178cb0ab617bc77f16c58d4a3cbdfe785b591c7034",
    19: "d1a1655b4366a766d1578beb257849a92bf91cb1358c1a2c37ab180c5d3a204d",
    20: "54ef75911da76d7a6b7ea341998aaf66cb06c679c53e0a88a4fe070dd3add963",
}
"""SHA-256 by logrows of the public perpetual-powers-of-tau files that EZKL distributes, as pinned in EZKL 23.0.5."""


def expected_bytes(logrows: int) -> int:
    """Exact size of an SRS file."""
    return int(4 + 2 * 64 * 2**logrows + 2 * 128)


def identify(path: Path, logrows: int) -> tuple[bytes, str]:
    """``(SHA-256, class)`` of an SRS file for ``logrows``; class is ``CEREMONY`` or ``DEV``.

    Raises:
        UsageError: no such file, or one made for other rows.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UsageError(f"SRS file {path}: expected a regular file")
        size = status.st_size
        with path.open("rb") as file:
            k = int.from_bytes(file.read(4), "little")
            if k != logrows or size != expected_bytes(logrows):
                found = f"one for 2^{k} rows of {size} bytes" if k < 64 else f"{size} bytes that are none"
                raise UsageError(
                    f"{path}: expected an SRS for 2^{logrows} rows ({expected_bytes(logrows)} bytes), got {found}; "
                    f"take the ceremony's file for {logrows} or another --profile"
                )
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UsageError(
            f"SRS file {path}: {error.strerror}; give one with --srs, or --dev to make an insecure one"
        ) from None
    return digest, "CEREMONY" if CEREMONY_DIGESTS.get(logrows) == digest.hex() else "DEV"


def affine(raw: bytes) -> tuple[int, ...]:
    """Coordinates of a point as EZKL writes it: 32 little-endian bytes each, in Montgomery form."""
    return tuple(
        int.from_bytes(raw[i : i + 32], "little") * _MONTGOMERY_INVERSE % FIELD_MODULUS for i in range(0, len(raw), 32)
    )


def g2_points(path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The file's two G2 points, the generator and its multiple by the secret: x then y, real part first."""
    with path.open("rb") as file:
        file.seek(-256, 2)
        raw = file.read(256)
    return affine(raw[:128]), affine(raw[128:])


def write_verifier_srs(path: Path, logrows: int, target: Path) -> None:
    """An SRS file for 2 rows with the first points of ``path``: all that EZKL's verifier uses, in half a kilobyte."""
    with path.open("rb") as file:

        def read(at: int, count: int) -> bytes:
            file.seek(at)
            return file.read(count)

        points = read(4, 128) + read(4 + 64 * 2**logrows, 128) + read(4 + 128 * 2**logrows, 256)
    target.write_bytes((1).to_bytes(4, "little") + points)


def lagrange_points(
    path: Path, logrows: int, count: int, tail: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The first ``count`` and the last ``tail`` Lagrange points as affine coordinates.

    Raises:
        VerificationError: a point is not on the curve.
    """
    rows = 2**logrows
    with path.open("rb") as file:

        def read(first: int, n: int) -> list[tuple[int, int]]:
            file.seek(4 + 64 * (rows + first))
            raw = file.read(64 * n)
            out = []
            for i in range(0, len(raw), 64):
                x, y = affine(raw[i : i + 64])
                if (y * y - x * x * x - 3) % FIELD_MODULUS:
                    raise VerificationError(f"{path}: Lagrange point {first + i // 64} is not on the curve")
                out.append((x, y))
            return out

        return read(0, count), read(rows - tail, tail)
