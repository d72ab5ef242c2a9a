"""Checkpoints and signed notes: vectors of other implementations, one spelling only, and forgeries."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import Tree, VerifierKey, parse_checkpoint, sign_checkpoint, verify_checkpoint
from ledger.note import MAX_NOTE_BYTES, parse_note, sign_note
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT

# Published with Go's golang.org/x/mod/sumdb/note, its example seed included.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=")
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)

# A real checkpoint of Go's checksum database, under its well-known key.
SUMDB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_NOTE = (
    "go.sum database tree\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— sum.golang.org Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)

ORIGIN = "example.com/log"
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"checkpoint tests").digest())
VERIFIER = VerifierKey("example.com/log", KEY.public_key().public_bytes_raw())
TREE = Tree([b"one", b"two", b"three"])


def checkpoint(origin: str = ORIGIN, size: int = 3, root: bytes | None = None) -> str:
    root = TREE.root() if root is None else root
    return sign_checkpoint(origin, size, root, VERIFIER.name, KEY.sign, VERIFIER.public_key)


def signed(text: str) -> str:
    """A note over any text at all, made without our own encoder."""
    line = base64.b64encode(VERIFIER.key_id + KEY.sign(text.encode())).decode()
    return f"{text}\n— {VERIFIER.name} {line}\n"


# Vectors


def test_gos_example_key_has_one_spelling_and_comes_back_as_it_was() -> None:
    key = VerifierKey.parse(PETER)
    assert (key.name, key.key_id.hex(), str(key)) == ("PeterNeumann", "c74f20a3", PETER)


def test_gos_example_note_is_made_byte_for_byte() -> None:
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    assert sign_note(GO_TEXT, VerifierKey.parse(PETER), private.sign) == GO_TEXT + "\n" + PETER_LINE


def test_gos_doubly_signed_example_verifies_under_either_key_or_both() -> None:
    note = parse_note(GO_TEXT + "\n" + PETER_LINE + ENOCH_LINE)
    assert note.text == GO_TEXT
    for keys in ([PETER], [ENOCH], [PETER, ENOCH], [SUMDB, ENOCH]):
        note.verify([VerifierKey.parse(key) for key in keys])


def test_a_real_checkpoint_of_gos_checksum_database_verifies() -> None:
    found = verify_checkpoint(SUMDB_NOTE, "go.sum database tree", [VerifierKey.parse(SUMDB)])
    assert (found.size, found.root.hex()[:8]) == (20852163, "0ac5186a")


def test_no_part_or_change_of_gos_example_key_is_a_key() -> None:
    manglings = {PETER[i:j] for i in range(len(PETER)) for j in range(i + 1, len(PETER) + 1)} - {PETER}
    manglings |= {PETER[:i] + chr(ord(PETER[i]) + 1) + PETER[i + 1 :] for i in range(len(PETER))}
    manglings.add("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==")
    manglings.add("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    manglings.add(PETER.replace("c74f20a3", "C74F20A3"))
    for mangling in manglings:
        with pytest.raises(DecodeError, match="verifier key"):
            VerifierKey.parse(mangling)


# Behaviour


def test_a_signed_checkpoint_verifies_and_states_what_was_signed() -> None:
    note = checkpoint()
    root_text = base64.b64encode(TREE.root()).decode()
    assert note.startswith(f"{ORIGIN}\n3\n{root_text}\n\n— {VERIFIER.name} ")
    found = verify_checkpoint(note, ORIGIN, [VERIFIER])
    assert (found.origin, found.size, found.root) == (ORIGIN, 3, TREE.root())


def test_the_empty_trees_checkpoint_has_size_zero_and_the_empty_root() -> None:
    assert parse_checkpoint(checkpoint(size=0, root=EMPTY_ROOT)).size == 0


def test_signatures_by_unknown_keys_and_algorithms_are_ignored() -> None:
    cosigned = checkpoint() + ENOCH_LINE + "— witness.example/w1 " + base64.b64encode(bytes(2000)).decode() + "\n"
    verify_checkpoint(cosigned, ORIGIN, [VERIFIER])


def test_the_largest_size_and_sixteen_signatures_fit() -> None:
    note = checkpoint(size=2**63 - 1) + ENOCH_LINE * 15
    assert verify_checkpoint(note, ORIGIN, [VERIFIER]).size == 2**63 - 1


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 3, TREE.root()),
        ("two\nlines", 3, TREE.root()),
        ("bell\a", 3, TREE.root()),
        ("lone \ud800 surrogate", 3, TREE.root()),
        ("x" * MAX_NOTE_BYTES, 3, TREE.root()),
        ("x" * (MAX_NOTE_BYTES - 80), 3, TREE.root()),
        (ORIGIN, -1, TREE.root()),
        (ORIGIN, 2**63, TREE.root()),
        (ORIGIN, 3, b"short"),
        (ORIGIN, 3, EMPTY_ROOT),
        (ORIGIN, 0, TREE.root()),
    ],
)
def test_what_cannot_stand_in_a_checkpoint_is_not_signed(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(UsageError, match="signed"):
        checkpoint(origin, size, root)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "no\u00a0break", "line\nbreak", "bell\a"])
def test_a_key_name_that_cannot_stand_in_a_note_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="key name"):
        VerifierKey(name, VERIFIER.public_key)


def test_signing_with_another_key_than_the_public_one_is_noticed() -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(VerificationError, match="does not verify"):
        sign_checkpoint(ORIGIN, 3, TREE.root(), VERIFIER.name, other.sign, VERIFIER.public_key)


def test_text_without_a_final_newline_is_not_signed() -> None:
    with pytest.raises(UsageError, match="newline"):
        sign_note("text", VERIFIER, KEY.sign)


# One spelling only

ROOT_TEXT = base64.b64encode(TREE.root()).decode()
NOT_CHECKPOINTS = {
    "no-root": f"{ORIGIN}\n3\n",
    "extension-line": f"{ORIGIN}\n3\n{ROOT_TEXT}\nextension\n",
    "empty-line-inside": f"{ORIGIN}\n3\n\n{ROOT_TEXT}\n",
    "empty-origin": f"\n3\n{ROOT_TEXT}\n",
    "leading-zero": f"{ORIGIN}\n03\n{ROOT_TEXT}\n",
    "plus-sign": f"{ORIGIN}\n+3\n{ROOT_TEXT}\n",
    "minus-zero": f"{ORIGIN}\n-0\n{ROOT_TEXT}\n",
    "space-in-size": f"{ORIGIN}\n3 \n{ROOT_TEXT}\n",
    "underscore-in-size": f"{ORIGIN}\n1_0\n{ROOT_TEXT}\n",
    "arabic-digit": f"{ORIGIN}\n٣\n{ROOT_TEXT}\n",
    "hex-size": f"{ORIGIN}\n0x3\n{ROOT_TEXT}\n",
    "no-size": f"{ORIGIN}\n\n{ROOT_TEXT}\n",
    "size-2^63": f"{ORIGIN}\n{2**63}\n{ROOT_TEXT}\n",
    "size-of-3000-digits": f"{ORIGIN}\n{'9' * 3000}\n{ROOT_TEXT}\n",
    "root-unpadded": f"{ORIGIN}\n3\n{ROOT_TEXT[:-1]}\n",
    "root-loose-bits": f"{ORIGIN}\n3\n{ROOT_TEXT[:-2]}{chr(ord(ROOT_TEXT[-2]) + 1)}=\n",
    "root-url-alphabet": f"{ORIGIN}\n3\n{base64.urlsafe_b64encode(bytes([255] * 32)).decode()}\n",
    "root-31-bytes": f"{ORIGIN}\n3\n{base64.b64encode(bytes(31)).decode()}\n",
    "root-33-bytes": f"{ORIGIN}\n3\n{base64.b64encode(bytes(33)).decode()}\n",
    "root-trailing-space": f"{ORIGIN}\n3\n{ROOT_TEXT} \n",
    "empty-root-at-size-3": f"{ORIGIN}\n3\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
    "size-0-with-a-root": f"{ORIGIN}\n0\n{ROOT_TEXT}\n",
    "carriage-returns": f"{ORIGIN}\r\n3\r\n{ROOT_TEXT}\r\n",
    "nul": f"{ORIGIN}\0\n3\n{ROOT_TEXT}\n",
}


@pytest.mark.parametrize("text", NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS)
def test_validly_signed_text_that_is_not_exactly_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        verify_checkpoint(signed(text), ORIGIN, [VERIFIER])


GOOD = checkpoint()
TEXT, _, SIGNATURES = GOOD.rpartition("\n\n")
ENCODED = SIGNATURES.split(" ")[2].strip()
NOT_NOTES = {
    "empty": "",
    "text-only": TEXT + "\n",
    "no-signature": TEXT + "\n\n",
    "no-final-newline": GOOD[:-1],
    "trailing-newline": GOOD + "\n",
    "trailing-text": GOOD + "text\n",
    "trailing-space": GOOD[:-1] + " \n",
    "hyphen-for-dash": GOOD.replace("—", "-"),
    "no-dash": GOOD.replace("— ", ""),
    "two-spaces": GOOD.replace("— ", "—  "),
    "name-with-plus": GOOD.replace(f"— {VERIFIER.name}", "— a+b"),
    "name-with-no-break-space": GOOD.replace(f"— {VERIFIER.name}", "— a\u00a0b"),
    "no-name": f"{TEXT}\n\n— {ENCODED}\n",
    "signature-unpadded": GOOD.replace(ENCODED, ENCODED[:-1]),
    "signature-loose-bits": GOOD.replace(ENCODED, ENCODED[:-2] + chr(ord(ENCODED[-2]) + 1) + "="),
    "signature-not-base64": GOOD.replace(ENCODED, "!" * len(ENCODED)),
    "signature-not-ascii": GOOD.replace(ENCODED, "é" * len(ENCODED)),
    "signature-only-key-id": GOOD.replace(ENCODED, base64.b64encode(VERIFIER.key_id).decode()),
    "signature-split-by-carriage-return": GOOD.replace(ENCODED, ENCODED[:8] + "\r" + ENCODED[8:]),
    "too-large": GOOD + f"— w {base64.b64encode(bytes(MAX_NOTE_BYTES)).decode()}\n",
    "too-large-in-bytes": GOOD + f"— {'é' * (MAX_NOTE_BYTES // 2)} {ENCODED}\n",
    "lone-surrogate": GOOD.replace(ORIGIN, "\ud800", 1),
}


@pytest.mark.parametrize("note", NOT_NOTES.values(), ids=NOT_NOTES)
def test_what_is_not_exactly_a_note_is_refused(note: str) -> None:
    with pytest.raises(DecodeError):
        verify_checkpoint(note, ORIGIN, [VERIFIER])


# Forgeries


def test_any_changed_line_breaks_the_signature() -> None:
    other_root = base64.b64encode(Tree([b"x", b"y", b"z"]).root()).decode()
    for forged in (GOOD.replace("\n3\n", "\n4\n"), GOOD.replace(ROOT_TEXT, other_root), GOOD.replace(ORIGIN, "o", 1)):
        assert forged != GOOD
        with pytest.raises(VerificationError, match="does not verify"):
            verify_checkpoint(forged, ORIGIN, [VERIFIER])


def test_another_logs_checkpoint_under_the_same_key_is_refused() -> None:
    with pytest.raises(VerificationError, match="expected origin"):
        verify_checkpoint(checkpoint("example.com/other"), ORIGIN, [VERIFIER])


def test_a_checkpoint_signed_by_nobody_we_know_is_refused() -> None:
    with pytest.raises(VerificationError, match="expected a signature by one of"):
        verify_checkpoint(GOOD, ORIGIN, [VerifierKey.parse(PETER)])
    with pytest.raises(VerificationError, match="no key at all"):
        verify_checkpoint(GOOD, ORIGIN, [])


def test_the_right_key_under_another_name_does_not_count() -> None:
    renamed = VerifierKey("example.com/renamed", VERIFIER.public_key)
    with pytest.raises(VerificationError, match="expected a signature by one of"):
        verify_checkpoint(GOOD, ORIGIN, [renamed])


def test_a_name_and_key_id_copied_onto_a_foreign_signature_do_not_help() -> None:
    forged_signature = Ed25519PrivateKey.generate().sign((TEXT + "\n").encode())
    forged = base64.b64encode(VERIFIER.key_id + forged_signature).decode()
    with pytest.raises(VerificationError, match="does not verify"):
        verify_checkpoint(GOOD.replace(ENCODED, forged), ORIGIN, [VERIFIER])


def test_a_wrong_signature_by_a_known_key_spoils_a_note_with_a_right_one() -> None:
    wrong = base64.b64encode(VERIFIER.key_id + bytes(64)).decode()
    with pytest.raises(VerificationError, match="does not verify"):
        verify_checkpoint(GOOD + f"— {VERIFIER.name} {wrong}\n", ORIGIN, [VERIFIER])


def test_two_keys_that_share_name_and_id_cannot_both_be_trusted() -> None:
    """Ids have four bytes, so anyone can make such a pair; which of the two signed could then not be told."""
    twins = [VerifierKey("twin", number.to_bytes(32, "big")) for number in (48221, 128134)]
    assert twins[0].key_id == twins[1].key_id
    with pytest.raises(UsageError, match="same name and key id"):
        verify_checkpoint(GOOD, ORIGIN, [VERIFIER, *twins])


def test_a_key_given_twice_is_one_key() -> None:
    verify_checkpoint(GOOD, ORIGIN, [VERIFIER, VERIFIER])
