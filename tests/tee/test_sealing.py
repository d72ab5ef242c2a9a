"""Sealed witnesses open with one key, in one place, as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from zk_autograd.errors import SealingError
from zk_autograd.tee.sealing import NONCE_BYTES, OVERHEAD_BYTES, seal, unseal

KEY, PLACE, PLAIN = bytes(range(32)), b"run 1, step 2, shard 3", b"the witness" * 20


@given(key=some.binary(min_size=32, max_size=32), place=some.binary(max_size=300), plain=some.binary(max_size=2000))
def test_what_was_sealed_opens(key: bytes, place: bytes, plain: bytes) -> None:
    sealed = seal(key, place, plain)
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert unseal(key, place, sealed) == plain


def test_sealing_twice_gives_other_bytes() -> None:
    once, twice = seal(KEY, PLACE, PLAIN), seal(KEY, PLACE, PLAIN)
    assert once[:NONCE_BYTES] != twice[:NONCE_BYTES]
    assert once[NONCE_BYTES:] != twice[NONCE_BYTES:]


def test_sealed_bytes_do_not_hold_the_plain_ones() -> None:
    assert b"witness" not in seal(KEY, PLACE, PLAIN)


def test_any_changed_bit_keeps_it_shut() -> None:
    sealed = seal(KEY, PLACE, b"abc")
    for at in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            with pytest.raises(SealingError, match="altered bytes"):
                unseal(KEY, PLACE, bytes(changed))


@pytest.mark.parametrize("place", [b"", PLACE[:-1], PLACE + b"\0", b"run 1, step 2, shard 4", PLACE.upper()])
def test_another_place_keeps_it_shut(place: bytes) -> None:
    with pytest.raises(SealingError, match="another place"):
        unseal(KEY, place, seal(KEY, PLACE, PLAIN))


def test_another_key_keeps_it_shut() -> None:
    with pytest.raises(SealingError, match="another key"):
        unseal(bytes([*KEY[:-1], KEY[-1] ^ 1]), PLACE, seal(KEY, PLACE, PLAIN))


def test_what_was_cut_or_extended_keeps_shut() -> None:
    sealed = seal(KEY, PLACE, PLAIN)
    for other in (sealed[:-1], sealed[1:], sealed + b"\0", b"\0" + sealed, sealed[: OVERHEAD_BYTES + 1]):
        with pytest.raises(SealingError):
            unseal(KEY, PLACE, other)


@pytest.mark.parametrize("length", [0, 1, NONCE_BYTES, OVERHEAD_BYTES - 1])
def test_what_is_too_short_to_be_sealed_is_refused_as_such(length: int) -> None:
    with pytest.raises(SealingError, match=f"at least {OVERHEAD_BYTES} bytes, got {length}"):
        unseal(KEY, PLACE, bytes(length))


def test_an_empty_witness_can_be_sealed() -> None:
    assert unseal(KEY, PLACE, seal(KEY, PLACE, b"")) == b""


def test_a_refusal_tells_nothing_of_key_or_content() -> None:
    with pytest.raises(SealingError) as refused:
        unseal(KEY, b"elsewhere", seal(KEY, PLACE, PLAIN))
    assert KEY.hex()[:8] not in str(refused.value)
    assert "witness" not in str(refused.value)
    assert refused.value.__cause__ is None
