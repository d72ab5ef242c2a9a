"""The scalar field of BN254, in the encodings that EZKL uses."""

from __future__ import annotations

from collections.abc import Iterable

MODULUS = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
"""Order of BN254's groups (r), EIP-196."""


def to_hex(x: int) -> str:
    """``x mod r`` as 32 little-endian bytes in hex: the one way to pass EZKL an integer without losing bits."""
    return (x % MODULUS).to_bytes(32, "little").hex()


def to_hex_list(xs: Iterable[int]) -> list[str]:
    """:func:`to_hex` of each element."""
    return [to_hex(x) for x in xs]
