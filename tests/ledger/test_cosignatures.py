"""Cosignatures and quorums: a published line, the attacks on a quorum, and one spelling of a witness's key."""

from __future__ import annotations

import base64
from dataclasses import replace
from types import SimpleNamespace

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import ledger.cosignature
from ledger import VerifierKey, parse_checkpoint, sign_checkpoint
from ledger.checkpoint import Checkpoint
from ledger.cosignature import WitnessKey, cosigned, cosigned_message, subtree_message, verify_quorum
from ledger.note import NoteSignature, add_signatures, parse_note
from ledger.witness import add_checkpoint_request, parse_request
from tests.ledger.signing import (
    KEY,
    ORIGIN,
    PQ,
    PUBLIC,
    TIME,
    TREE,
    VERIFIER,
    WITNESSES,
    checkpoint,
    cosignature,
    cosigned_by,
    pq_cosignature,
    private,
    text_of,
)
from zk_autograd.errors import DecodeError, UsageError, VerificationError


def quorum(note: str, count: int = 2, keys: list[WitnessKey] | None = None) -> set[str]:
    found = verify_quorum(parse_checkpoint(note), keys or WITNESSES[:3], count)
    return {key.name for key in found}


def test_what_a_witness_signs_is_two_lines_and_the_checkpoints_text() -> None:
    assert cosigned_message("o\n1\nr\n", 1679315147) == b"cosignature/v1\ntime 1679315147\no\n1\nr\n"


def test_a_key_id_is_of_the_kind_four() -> None:
    """The same key as a log's has another id, so that neither's signatures pass for the other's."""
    witness = WitnessKey(ORIGIN, PUBLIC)
    assert witness.key_id != VERIFIER.key_id
    assert base64.b64decode(str(witness).split("+", 2)[2])[0] == 4
    assert WitnessKey.parse(str(witness)) == witness


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_quorum_is_met_by_so_many_witnesses_or_more(count: int) -> None:
    note = cosigned_by(checkpoint(), *range(count))
    for wanted in range(1, count + 1):
        assert quorum(note, wanted) == {w.name for w in WITNESSES[:count]}
    parse_note(note).verify([VERIFIER])


def test_too_few_witnesses_are_no_quorum() -> None:
    with pytest.raises(VerificationError, match=r"2 of 3 witnesses, found 1 \(w1.example\)"):
        quorum(cosigned_by(checkpoint(), 1))
    with pytest.raises(VerificationError, match=r"found 0 \(nobody\)"):
        quorum(checkpoint())


def test_a_witness_that_cosigned_twice_counts_once() -> None:
    note = cosigned_by(checkpoint(), 0)
    again = add_signatures(note, [cosignature(0, text_of(note), TIME + 1), cosignature(0, text_of(note), TIME)])
    with pytest.raises(VerificationError, match="found 1"):
        quorum(again)
    assert cosigned(parse_note(again), WITNESSES) == {WITNESSES[0]: TIME + 1}


def test_a_witness_under_two_names_cannot_be_configured() -> None:
    """Nor under one name with two keys: whoever owns the name owns both."""
    twin = WitnessKey("twin.example", WITNESSES[0].public_key)
    note = add_signatures(checkpoint(), [])
    with pytest.raises(UsageError, match="same public key"):
        quorum(note, keys=[*WITNESSES[:2], twin])
    with pytest.raises(UsageError, match="same name"):
        quorum(note, keys=[*WITNESSES[:2], WitnessKey(WITNESSES[0].name, WITNESSES[3].public_key)])


def test_a_forged_cosignature_spoils_the_note_whoever_else_signed() -> None:
    note = cosigned_by(checkpoint(), 0, 1)
    forged = add_signatures(note, [cosignature(2, text_of(note), key=Ed25519PrivateKey.generate())])
    with pytest.raises(VerificationError, match=r"witness w2.example does not verify"):
        quorum(forged)


def test_a_foreign_witness_does_not_count() -> None:
    with pytest.raises(VerificationError, match="found 1"):
        quorum(cosigned_by(checkpoint(), 0, 3))


def test_a_cosignature_of_another_size_does_not_count_for_this_one() -> None:
    old = text_of(checkpoint(69))
    with pytest.raises(VerificationError, match="does not verify"):
        quorum(add_signatures(checkpoint(70), [cosignature(0, old), cosignature(1, old)]))


def test_a_cosignature_of_another_log_does_not_count_for_this_one() -> None:
    other = text_of(checkpoint(origin="example.com/other"))
    with pytest.raises(VerificationError, match="does not verify"):
        quorum(add_signatures(checkpoint(), [cosignature(0, other), cosignature(1, other)]))


@pytest.mark.parametrize("change", [-1, 1, 2**62])
def test_the_time_is_signed(change: int) -> None:
    line = cosignature(0, text_of(checkpoint()))
    moved = (TIME + change).to_bytes(8, "big") + line.signature[8:]
    with pytest.raises(VerificationError, match="does not verify"):
        cosigned(parse_note(add_signatures(checkpoint(), [NoteSignature(line.name, line.key_id, moved)])), WITNESSES)


def test_a_time_after_all_times_is_refused() -> None:
    note = add_signatures(checkpoint(), [cosignature(0, text_of(checkpoint()), 2**63)])
    with pytest.raises(VerificationError, match=r"over 2\^63 - 1"):
        cosigned(parse_note(note), WITNESSES)


@pytest.mark.parametrize("length", [1, 64, 71, 73])
def test_a_cosignature_of_another_length_is_refused(length: int) -> None:
    witness = WITNESSES[0]
    note = add_signatures(checkpoint(), [NoteSignature(witness.name, witness.key_id, bytes(length))])
    with pytest.raises(VerificationError, match=f"expected 72 bytes, got {length}"):
        cosigned(parse_note(note), WITNESSES)


def test_a_plain_signature_by_a_witness_is_no_cosignature() -> None:
    """Over the text alone, without a time: what an untimed note's key would sign."""
    text, witness = text_of(checkpoint()), WITNESSES[0]
    plain = NoteSignature(witness.name, witness.key_id, bytes(8) + private("w0").sign(text.encode()))
    with pytest.raises(VerificationError, match="does not verify"):
        cosigned(parse_note(add_signatures(checkpoint(), [plain])), WITNESSES)


def test_a_logs_signature_does_not_pass_for_a_cosignature_by_the_same_key() -> None:
    same = WitnessKey(ORIGIN, PUBLIC)
    assert cosigned(parse_note(checkpoint()), [same]) == {}


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_quorum_that_cannot_be_is_a_usage_error(count: int) -> None:
    with pytest.raises(UsageError, match="quorum"):
        quorum(cosigned_by(checkpoint(), 0, 1, 2), count)


def test_a_logs_key_is_no_witness_key_and_the_other_way_round() -> None:
    with pytest.raises(DecodeError, match="witness key: expected a name without spaces, and 0x04"):
        WitnessKey.parse(str(VERIFIER))
    with pytest.raises(DecodeError, match="verifier key: expected a name without spaces, and 0x01"):
        VerifierKey.parse(str(WITNESSES[0]))


def test_no_part_or_change_of_a_witness_key_is_one() -> None:
    good = str(WITNESSES[0])
    manglings = {good[i:j] for i in range(len(good)) for j in range(i + 1, len(good) + 1)} - {good}
    manglings |= {good[:i] + chr(ord(good[i]) + 1) + good[i + 1 :] for i in range(len(good))}
    manglings |= {good + "=", good + "\n", " " + good, good.upper(), good + "x" * 5000}
    for text in manglings:
        with pytest.raises(DecodeError):
            WitnessKey.parse(text)


@pytest.mark.parametrize(("key_bytes", "line_bytes"), [(32, 72), (1312, 2428)])
def test_sixteen_cosignatures_of_either_kind_fit_into_a_note(key_bytes: int, line_bytes: int) -> None:
    """c2sp.org/signed-note asks that at least so many be taken."""
    names = [f"witness-{i}.an-operator-with-a-rather-long-name.example/w{i}" for i in range(15)]
    keys = [WitnessKey(name, bytes([i]) * key_bytes) for i, name in enumerate(names)]
    longer = add_signatures(checkpoint(), [NoteSignature(k.name, k.key_id, bytes(line_bytes)) for k in keys])
    assert len(parse_note(longer).signatures) == 16


# ML-DSA-44


def pq_quorum(*lines: NoteSignature, note: str | None = None, keys: list[WitnessKey] | None = None) -> set[str]:
    return quorum(add_signatures(note or checkpoint(), lines), 2, keys or [PQ, *WITNESSES[:2]])


def test_witnesses_of_both_kinds_make_a_quorum() -> None:
    text = text_of(checkpoint())
    assert pq_quorum(pq_cosignature(text), cosignature(0, text)) == {PQ.name, WITNESSES[0].name}
    with pytest.raises(VerificationError, match=r"found 1 \(pq.example\)"):
        pq_quorum(pq_cosignature(text), pq_cosignature(text, TIME + 1))


def test_what_a_post_quantum_witness_signs_is_a_subtree_from_the_first_entry_on() -> None:
    """Byte by byte as c2sp.org/tlog-cosignature has it."""
    text = text_of(checkpoint(7))
    expected = bytes.fromhex("737562747265652f76310a00") + b"\x03w/1" + bytes.fromhex("00000000641850cb")
    expected += b"\x0f" + ORIGIN.encode() + bytes(8) + bytes.fromhex("0000000000000007") + TREE.root_at(7)
    assert subtree_message(text, 0x641850CB, "w/1") == expected


def test_a_post_quantum_key_has_the_kind_six() -> None:
    assert base64.b64decode(str(PQ).split("+", 2)[2])[0] == 6
    assert WitnessKey.parse(str(PQ)) == PQ
    for text in (str(PQ)[:-4], str(PQ).replace("+B", "+A"), str(PQ)[:-1]):
        with pytest.raises(DecodeError):
            WitnessKey.parse(text)
    with pytest.raises(UsageError, match="expected a key of 32 or 1312 bytes"):
        WitnessKey("w", bytes(1311))


def test_a_post_quantum_cosignature_is_of_its_own_name_time_size_and_log_only() -> None:
    text, good = text_of(checkpoint()), pq_cosignature(text_of(checkpoint()))
    moved = (TIME + 1).to_bytes(8, "big") + good.signature[8:]
    forgeries = [
        pq_cosignature(text, name="another.example"),
        replace(good, signature=moved),
        replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1])),
        replace(good, signature=good.signature[:72]),
        pq_cosignature(text_of(checkpoint(69))),
        pq_cosignature(text_of(checkpoint(origin="example.com/other"))),
    ]
    for line in forgeries:
        with pytest.raises(VerificationError, match=r"witness pq.example.* (does not verify|expected 2428 bytes)"):
            pq_quorum(line, cosignature(0, text), cosignature(1, text))


def test_names_that_its_message_cannot_hold_are_refused() -> None:
    with pytest.raises(DecodeError, match="at most 255 bytes"):
        subtree_message(text_of(checkpoint()), TIME, "w" * 256)
    long = "example.com/" + "x" * 250
    note = sign_checkpoint(long, 70, TREE.root(), long, KEY.sign, PUBLIC)
    line = NoteSignature(PQ.name, PQ.key_id, bytes(2428))
    with pytest.raises(VerificationError, match="does not verify"):
        pq_quorum(line, cosignature(0, text_of(note)), note=note)


def test_where_the_library_cannot_verify_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither a good cosignature nor a bad one."""

    def missing(data: bytes) -> None:
        raise UnsupportedAlgorithm("ML-DSA")

    monkeypatch.setattr(ledger.cosignature, "MLDSA44PublicKey", SimpleNamespace(from_public_bytes=missing))
    text = text_of(checkpoint())
    with pytest.raises(UsageError, match="was built without"):
        pq_quorum(pq_cosignature(text), cosignature(0, text))


# Notes


def test_what_would_not_be_a_note_is_not_made() -> None:
    with pytest.raises(UsageError, match="cannot stand in this note"):
        add_signatures(checkpoint(), [NoteSignature("two words", bytes(4), bytes(72))])
    with pytest.raises(UsageError, match="cannot stand in this note"):
        add_signatures(checkpoint(), [cosignature(0, "x")] * 600)


# What a log sends


@pytest.mark.parametrize(("old", "size"), [(0, 1), (0, 70), (1, 70), (64, 64), (64, 65), (69, 70)])
def test_a_request_is_read_as_it_was_written(old: int, size: int) -> None:
    steps = TREE.consistency_proof(old, size)
    got_old, got_steps, got = parse_request(add_checkpoint_request(old, steps, checkpoint(size)))
    assert (got_old, got_steps, got) == (old, steps, parse_checkpoint(checkpoint(size)))
    assert isinstance(got, Checkpoint)


def test_a_request_looks_like_that_of_the_specification() -> None:
    lines = add_checkpoint_request(69, TREE.consistency_proof(69, 70), checkpoint()).decode().split("\n")
    at = lines.index("")
    assert lines[0] == "old 69"
    assert [base64.b64decode(line) for line in lines[1:at]] == TREE.consistency_proof(69, 70)
    assert "\n".join(lines[at + 1 :]) == checkpoint()


BASE = add_checkpoint_request(3, TREE.consistency_proof(3, 5), checkpoint(5)).decode()
NOT_REQUESTS = {
    "empty": "",
    "only-a-checkpoint": checkpoint(5),
    "no-checkpoint": BASE.partition("\n\n")[0] + "\n\n",
    "size-with-a-zero": BASE.replace("old 3", "old 03", 1),
    "size-with-a-sign": BASE.replace("old 3", "old +3", 1),
    "size-in-other-digits": BASE.replace("old 3", "old ٣", 1),
    "size-2^63": BASE.replace("old 3", f"old {2**63}", 1),
    "two-spaces": BASE.replace("old 3", "old  3", 1),
    "capital": BASE.replace("old 3", "Old 3", 1),
    "carriage-returns": BASE.replace("\n", "\r\n"),
    "hash-of-31-bytes": BASE.replace("\n\n", f"\n{base64.b64encode(bytes(31)).decode()}\n\n", 1),
    "hash-not-base64": BASE.replace("\n\n", "\n!\n\n", 1),
    "64-hashes": BASE.replace("\n\n", f"\n{base64.b64encode(bytes(32)).decode()}" * 64 + "\n\n", 1),
    "too-large": BASE + "x" * 10_000,
}


@pytest.mark.parametrize("name", NOT_REQUESTS)
def test_what_is_not_exactly_a_request_is_refused(name: str) -> None:
    with pytest.raises(DecodeError):
        parse_request(NOT_REQUESTS[name].encode())


def test_a_request_that_no_witness_can_take_is_not_made() -> None:
    for old, steps in ((6, []), (-1, []), (0, [bytes(32)]), (3, [bytes(31)]), (3, [bytes(32)] * 64)):
        with pytest.raises(UsageError, match="witness"):
            add_checkpoint_request(old, steps, checkpoint(5))
