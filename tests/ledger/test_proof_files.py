"""Proof files (c2sp.org/tlog-proof): every entry of every size, one spelling, and forgeries."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Tree, VerifierKey
from ledger.note import add_signatures
from ledger.proof import HEADER, MAX_EXTRA_BYTES, MAX_PROOF_BYTES, LogProof, parse_proof, verify_proof
from tests.ledger.signing import (
    LEAVES,
    ORIGIN,
    TREE,
    VERIFIER,
    WITNESSES,
    checkpoint,
    cosignature,
    cosigned_by,
    proof,
    text_of,
)
from zk_autograd.errors import DecodeError, UsageError, VerificationError


def check(text: str, entry: bytes) -> int:
    return verify_proof(parse_proof(text), entry, ORIGIN, [VERIFIER]).size


@settings(deadline=None)
@given(st.integers(1, 70), st.data())
def test_every_entry_of_every_size_is_proven_by_a_file_and_no_other_is(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    extra = data.draw(st.none() | st.binary(min_size=1, max_size=100))
    made = proof(index, size, extra)
    text = made.encode()
    assert parse_proof(text) == made
    assert check(text, LEAVES[index]) == size
    for other in {*LEAVES, b"", TREE.node(0, index)} - {LEAVES[index]}:
        with pytest.raises(VerificationError, match="inclusion"):
            check(text, other)


def test_a_file_looks_like_that_of_the_specification() -> None:
    lines = proof(3, 5, b"any").encode().split("\n")
    assert lines[:3] == [HEADER, "extra YW55", "index 3"]
    at = lines.index("")
    assert [base64.b64decode(line) for line in lines[3:at]] == TREE.inclusion_proof(3, 5)
    assert "\n".join(lines[at + 1 :]) == checkpoint(5)


def test_an_entry_alone_in_its_log_has_a_path_of_no_hashes() -> None:
    text = proof(0, 1).encode()
    assert text.startswith(f"{HEADER}\nindex 0\n\n{ORIGIN}\n1\n")
    assert check(text, LEAVES[0]) == 1


def test_extra_data_is_nobodys_word_until_the_path_leads_from_it() -> None:
    forged = replace(proof(3, 5), extra=b"another entry")
    assert check(forged.encode(), LEAVES[3]) == 5, "it is not part of what is proven"
    with pytest.raises(VerificationError, match="inclusion"):
        verify_proof(forged, forged.extra or b"", ORIGIN, [VERIFIER])


def test_a_quorum_of_witnesses_can_be_asked_for() -> None:
    good = replace(proof(3), note=cosigned_by(checkpoint(), 0, 2))
    verify_proof(parse_proof(good.encode()), LEAVES[3], ORIGIN, [VERIFIER], WITNESSES[:3], 2)
    for note in (checkpoint(), cosigned_by(checkpoint(), 1), cosigned_by(checkpoint(), 1, 3)):
        with pytest.raises(VerificationError, match="2 of 3 witnesses"):
            verify_proof(replace(good, note=note), LEAVES[3], ORIGIN, [VERIFIER], WITNESSES[:3], 2)
    with pytest.raises(UsageError, match="quorum"):
        verify_proof(good, LEAVES[3], ORIGIN, [VERIFIER], WITNESSES[:3], 0)


def test_a_split_view_signed_by_the_log_itself_needs_witnesses_that_it_does_not_have() -> None:
    """The log shows one reader a tree with another entry 3. It can sign that; the witnesses saw the first."""
    forked = Tree([*LEAVES[:3], b"forked", *LEAVES[4:]])
    note = checkpoint(tree=forked)
    lie = LogProof(3, tuple(forked.inclusion_proof(3)), note)
    verify_proof(lie, b"forked", ORIGIN, [VERIFIER])
    with pytest.raises(VerificationError, match="found 0"):
        verify_proof(lie, b"forked", ORIGIN, [VERIFIER], WITNESSES, 2)
    moved = add_signatures(note, [cosignature(n, text_of(checkpoint())) for n in range(3)])
    with pytest.raises(VerificationError, match="does not verify"):
        verify_proof(replace(lie, note=moved), b"forked", ORIGIN, [VERIFIER], WITNESSES, 2)


def test_another_logs_proof_and_one_by_another_key_are_refused() -> None:
    with pytest.raises(VerificationError, match="expected origin"):
        verify_proof(replace(proof(3), note=checkpoint(origin="example.com/b")), LEAVES[3], ORIGIN, [VERIFIER])
    with pytest.raises(VerificationError, match="expected a signature"):
        verify_proof(proof(3), LEAVES[3], ORIGIN, [VerifierKey(ORIGIN, bytes(32))])


@pytest.mark.parametrize("index", [5, 6, 2**62])
def test_an_index_beyond_the_tree_is_refused(index: int) -> None:
    with pytest.raises(VerificationError, match="in a tree of 5 entries"):
        verify_proof(replace(proof(3, 5), index=index), LEAVES[3], ORIGIN, [VERIFIER])


GOOD = proof(3, 70, b"extra data").encode()
PATH = GOOD.split("\n")[3:-7]
NOT_PROOFS = {
    "empty": "",
    "another-version": GOOD.replace("@v1", "@v2"),
    "no-header": GOOD.partition("\n")[2],
    "space-before-the-header": " " + GOOD,
    "byte-order-mark": "\ufeff" + GOOD,
    "carriage-returns": GOOD.replace("\n", "\r\n"),
    "no-index": GOOD.replace("index 3\n", ""),
    "index-with-a-zero": GOOD.replace("index 3", "index 03"),
    "index-with-a-sign": GOOD.replace("index 3", "index +3"),
    "index-in-other-digits": GOOD.replace("index 3", "index ٣"),
    "index-with-a-space": GOOD.replace("index 3", "index 3 "),
    "index-2^63": GOOD.replace("index 3", f"index {2**63}"),
    "index-of-9000-digits": GOOD.replace("index 3", "index " + "9" * 9000),
    "two-indexes": GOOD.replace("index 3", "index 3\nindex 3"),
    "extra-after-the-index": f"{HEADER}\nindex 3\nextra YW55\n" + GOOD.partition("index 3\n")[2],
    "two-extras": GOOD.replace("extra ", "extra YW55\nextra "),
    "empty-extra": GOOD.replace("extra ZXh0cmEgZGF0YQ==", "extra "),
    "extra-unpadded": GOOD.replace("ZGF0YQ==", "ZGF0YQ"),
    "extra-loose-bits": GOOD.replace("ZGF0YQ==", "ZGF0YR=="),
    "extra-with-a-tab": GOOD.replace("extra ", "extra\t"),
    "hash-of-31-bytes": GOOD.replace(PATH[0], base64.b64encode(bytes(31)).decode()),
    "hash-of-33-bytes": GOOD.replace(PATH[0], base64.b64encode(bytes(33)).decode()),
    "hash-in-hex": GOOD.replace(PATH[0], base64.b64decode(PATH[0]).hex()),
    "empty-line-in-the-path": GOOD.replace(PATH[0], ""),
    "64-hashes": GOOD.replace(PATH[0], "\n".join([base64.b64encode(bytes(32)).decode()] * 64)),
    "no-blank-line": GOOD.replace("\n\n", "\n", 1),
    "two-blank-lines": GOOD.replace("\n\n", "\n\n\n", 1),
    "no-checkpoint": GOOD.partition("\n\n")[0] + "\n\n",
    "checkpoint-unsigned": GOOD.rpartition("\n\n")[0] + "\n",
    "checkpoint-with-an-extension": GOOD.replace("\n\n\N{EM DASH}", "\nmore\n\n\N{EM DASH}"),
    "text-after-it": GOOD + "more\n",
    "line-feed-after-it": GOOD + "\n",
    "cut": GOOD[:-1],
    "nul": GOOD.replace("index", "\0index"),
    "lone-surrogate": GOOD.replace("ZXh0", "\ud800"),
    "too-large": GOOD.replace("extra ", "extra " + "A" * 4 * (MAX_PROOF_BYTES // 4)),
    "extra-too-large": GOOD.replace("ZXh0cmEgZGF0YQ==", base64.b64encode(bytes(MAX_EXTRA_BYTES + 1)).decode()),
}


@pytest.mark.parametrize("name", NOT_PROOFS)
def test_what_is_not_exactly_a_proof_file_is_refused(name: str) -> None:
    assert NOT_PROOFS[name] != GOOD
    with pytest.raises(DecodeError):
        parse_proof(NOT_PROOFS[name])


@pytest.mark.parametrize(
    "bad",
    [
        replace(proof(3), index=-1),
        replace(proof(3), index=2**63),
        replace(proof(3), path=(bytes(31),)),
        replace(proof(3), path=(bytes(32),) * 64),
        replace(proof(3), extra=b""),
        replace(proof(3), extra=bytes(MAX_EXTRA_BYTES + 1)),
        replace(proof(3), note="note"),
    ],
    ids=range(7),
)
def test_what_cannot_be_a_proof_is_not_written(bad: LogProof) -> None:
    with pytest.raises(UsageError, match="not a proof"):
        bad.encode()


def test_the_largest_proof_can_be_read() -> None:
    path, note = (b"\xff" * 32,) * 63, cosigned_by(checkpoint(), 0)
    made = LogProof(2**63 - 2, path, note, bytes(MAX_EXTRA_BYTES))
    assert parse_proof(made.encode()) == made
