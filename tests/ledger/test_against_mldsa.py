"""ML-DSA-44 cosignatures against another implementation (Go's, through ``filippo.io/mldsa``), both ways."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger import parse_checkpoint
from ledger.cosignature import WitnessKey, subtree_message, verify_quorum
from ledger.note import NoteSignature, add_signatures
from tests.ledger.signing import PQ, PQ_KEY, TIME, checkpoint, pq_cosignature, text_of
from tests.support.go_tools import MLDSA, built_source
from zk_autograd.errors import VerificationError

Peer = Callable[..., list[str]]


@pytest.fixture(scope="module")
def peer() -> Peer:
    """Asks the other implementation one question; its words."""
    program = built_source(Path(__file__).with_name("mldsa_peer.go"), MLDSA)

    def ask(op: str, *parts: bytes) -> list[str]:
        line = " ".join([op, *(part.hex() for part in parts)])
        return subprocess.run(
            [program], input=line, capture_output=True, text=True, timeout=60, check=True
        ).stdout.split()

    return ask


@pytest.mark.parametrize("size", [1, 7, 64, 70])
def test_the_other_takes_our_cosignatures_and_no_others(peer: Peer, size: int) -> None:
    text = text_of(checkpoint(size))
    message, signature = subtree_message(text, TIME, PQ.name), pq_cosignature(text).signature[8:]
    assert peer("verify", PQ.public_key, message, signature) == ["ok"]
    assert peer("verify", PQ.public_key, message + b"x", signature) == ["bad"]
    assert peer("verify", PQ.public_key, message, signature[:-1] + bytes([signature[-1] ^ 1])) == ["bad"]


@pytest.mark.parametrize("number", range(4))
def test_we_take_the_others_cosignatures_and_no_others(peer: Peer, number: int) -> None:
    seed, note = hashlib.sha256(b"witness %d" % number).digest(), checkpoint()
    text, name = text_of(note), f"go.example/{number}"
    public, signature = (bytes.fromhex(w) for w in peer("sign", seed, subtree_message(text, TIME, name)))
    key = WitnessKey(name, public)

    def signed(time: int) -> NoteSignature:
        return NoteSignature(name, key.key_id, struct.pack(">Q", time) + signature)

    found = verify_quorum(parse_checkpoint(add_signatures(note, [signed(TIME)])), [key], 1)
    assert set(found) == {key}
    with pytest.raises(VerificationError, match="does not verify"):
        verify_quorum(parse_checkpoint(add_signatures(note, [signed(TIME + 1)])), [key], 1)


def test_both_make_the_same_key_of_one_seed(peer: Peer) -> None:
    assert peer("sign", PQ_KEY.private_bytes_raw(), b"")[0] == PQ.public_key.hex()
