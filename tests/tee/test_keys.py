"""Key files: who may read them, what they must hold, and what is said when they do not."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home
from zk_autograd.tee.keys import (
    data_key_id,
    key_id,
    load_data_key,
    load_or_make_signing_key,
    load_signing_key,
    new_data_key,
    new_signing_key,
    verify_signature,
    write_private,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_signing_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "trainer.pem"
    first = load_or_make_signing_key(path)
    assert load_or_make_signing_key(path).public_key == first.public_key
    assert load_signing_key(path).public_key == first.public_key
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


def test_a_data_key_is_stored_under_its_id_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    name, key = new_data_key(tmp_path)
    assert load_data_key(tmp_path, name) == key
    assert len(key) == 32
    assert name == data_key_id(key)
    (file,) = tmp_path.iterdir()
    assert file.name == f"{name.hex()}.key"
    assert mode(file) == 0o600


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", b"x", replace=False)
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600


def test_a_key_says_only_its_public_part(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = load_or_make_signing_key(path)
    secret = key._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    shown = repr(key) + str(key) + repr({"key": key})
    assert key.public_key.hex() in shown
    assert secret.hex() not in shown
    assert repr(secret) not in shown


def test_a_key_id_is_the_hash_of_the_public_key() -> None:
    key = new_signing_key()
    assert key.key_id == key_id(key.public_key)
    assert len(key.key_id) == 32
    assert new_signing_key().key_id != key.key_id


def test_the_id_of_a_data_key_is_not_its_plain_hash() -> None:
    assert data_key_id(bytes(32)) != hashlib.sha256(bytes(32)).digest()


def test_a_signature_verifies_under_its_key_and_message_alone() -> None:
    key, other = new_signing_key(), new_signing_key()
    signature = key.sign(b"message")
    verify_signature(key.public_key, signature, b"message")
    for public, sig, message in (
        (other.public_key, signature, b"message"),
        (key.public_key, signature, b"messagE"),
        (key.public_key, signature, b""),
        (key.public_key, signature[:-1] + bytes([signature[-1] ^ 1]), b"message"),
        (key.public_key, bytes([signature[0] ^ 1]) + signature[1:], b"message"),
    ):
        with pytest.raises(VerificationError, match="does not verify"):
            verify_signature(public, sig, message)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_public_key_of_another_length_verifies_nothing(length: int) -> None:
    with pytest.raises(VerificationError):
        verify_signature(bytes(length), bytes(64), b"")


@pytest.mark.parametrize("length", [0, 1, 63, 65, 1000])
def test_a_signature_of_another_length_verifies_nothing(length: int) -> None:
    with pytest.raises(VerificationError):
        verify_signature(new_signing_key().public_key, bytes(length), b"")


def pem(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption | None = None
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


ED25519 = Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an unencrypted PKCS #8 PEM"),
        (b"not a key", "expected an unencrypted PKCS #8 PEM"),
        (bytes(32), "expected an unencrypted PKCS #8 PEM"),
        (pem(ED25519)[:-30], "expected an unencrypted PKCS #8 PEM"),
        (pem(ED25519, BestAvailableEncryption(b"password")), "expected an unencrypted PKCS #8 PEM"),
        (ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "expected an unencrypted"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "expected an Ed25519 key"),
    ],
    ids=["empty", "text", "raw", "truncated", "encrypted", "public", "P-256"],
)
def test_a_file_that_holds_no_signing_key_is_refused_and_kept(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        load_or_make_signing_key(path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == content


def test_a_missing_signing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.pem: No such file"):
        load_signing_key(tmp_path / "none.pem")


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33), bytes(32)])
def test_a_data_key_file_with_another_key_is_refused(tmp_path: Path, content: bytes) -> None:
    name, key = new_data_key(tmp_path)
    (tmp_path / f"{name.hex()}.key").write_bytes(content)
    with pytest.raises(UsageError, match="not the key that its name says") as refused:
        load_data_key(tmp_path, name)
    assert key.hex() not in str(refused.value)


def test_a_missing_data_key_says_who_has_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="released by the training job's operator"):
        load_data_key(tmp_path, bytes(32))


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/passwd", "..", "."])
def test_a_data_key_id_from_outside_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no data key"):
        load_data_key(tmp_path, name.encode())


def test_a_private_file_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"one", replace=False)
    write_private(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    write_private(path, b"three", replace=True)
    assert path.read_bytes() == b"three"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert mode(path) == 0o600


def test_processes_that_make_the_same_key_at_once_end_with_one_key(tmp_path: Path) -> None:
    path, seen, ready = tmp_path / "key.pem", [], threading.Barrier(8)

    def make() -> None:
        ready.wait()
        seen.append(load_or_make_signing_key(path).public_key)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(seen) == 8
    assert set(seen) == {load_signing_key(path).public_key}
    assert [p.name for p in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("below", ["file/key", "file/deeper/key"])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=rf"cannot write .*{below}: .*; nothing was changed"):
        write_private(tmp_path / below, b"x", replace=True)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\0b", "a b"])
def test_the_name_of_an_instance_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected letters, digits"):
        Home(tmp_path).signing_key("PROVER", name)
    assert list(tmp_path.iterdir()) == []


def test_each_role_and_instance_of_a_home_has_its_own_key(tmp_path: Path) -> None:
    home = Home(tmp_path)
    keys = {home.signing_key(role, name).public_key for role in ("TRAINER", "PROVER") for name in ("", "a", "b")}
    assert len(keys) == 6
    assert home.signing_key("PROVER", "a").public_key in keys
