"""Cosignatures and quorums: a published line, the attacks on a quorum, and one spelling of a witness's key."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import VerifierKey, parse_checkpoint
from ledger.checkpoint import Checkpoint
from ledger.cosignature import WitnessKey, cosigned, cosigned_message, verify_quorum
from ledger.note import NoteSignature, add_signatures, parse_note
from ledger.witness import add_checkpoint_request, parse_request
from tests.ledger.signing import (
    ORIGIN,
    PUBLIC,
    TIME,
    TREE,
    VERIFIER,
    WITNESSES,
    checkpoint,
    cosignature,
    cosigned_by,
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


def test_sixteen_cosignatures_fit_into_a_note() -> None:
    """c2sp.org/signed-note asks that at least so many be taken."""
    note = checkpoint()
    keys = [
        WitnessKey(f"witness-{i}.an-operator-with-a-rather-long-name.example/w{i}", bytes([i]) * 32) for i in range(15)
    ]
    longer = add_signatures(note, [NoteSignature(k.name, k.key_id, bytes(72)) for k in keys])
    assert len(parse_note(longer).signatures) == 16


def test_what_would_not_be_a_note_is_not_made() -> None:
    with pytest.raises(UsageError, match="cannot stand in this note"):
        add_signatures(checkpoint(), [NoteSignature("two words", bytes(4), bytes(72))])
    with pytest.raises(UsageError, match="cannot stand in this note"):
        add_signatures(checkpoint(), [cosignature(0, "x")] * 60)


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
