"""Signing keys and data keys, in files that only their owner may read."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from zk_autograd.errors import UsageError, VerificationError


def key_id(public_key: bytes) -> bytes:
    """SHA-256 of a raw 32-byte Ed25519 public key."""
    return hashlib.sha256(public_key).digest()


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key (RFC 8032) inside the enclave; its repr shows the public part only."""

    _private: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        """Raw public key, 32 bytes."""
        return self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the public key, 32 bytes."""
        return key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of ``message``."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.public_key.hex()})"


def new_signing_key() -> SigningKey:
    """A fresh key from the system's random source."""
    return SigningKey(Ed25519PrivateKey.generate())


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Raises VerificationError unless ``signature`` is the key's signature of ``message``."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise VerificationError(f"signature does not verify under key {key_id(public_key).hex()[:16]}") from None


def load_signing_key(path: Path) -> SigningKey:
    """Reads a PKCS #8 PEM file; UsageError says what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"signing key {path}: {error.strerror}") from None
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise UsageError(f"signing key {path}: expected an unencrypted PKCS #8 PEM file with an Ed25519 key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"signing key {path}: expected an Ed25519 key")
    return SigningKey(key)


def load_or_make_signing_key(path: Path) -> SigningKey:
    """The key in ``path``; makes one (mode 0600) if there is none."""
    if not path.exists():
        pem = new_signing_key()._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, pem, replace=False)
    return load_signing_key(path)


def new_data_key(folder: Path) -> tuple[bytes, bytes]:
    """Makes a 256-bit data key, stores it in ``folder`` and returns ``(id, key)``."""
    key = secrets.token_bytes(32)
    name = data_key_id(key)
    write_private(folder / f"{name.hex()}.key", key, replace=False)
    return name, key


def data_key_id(key: bytes) -> bytes:
    """The public name of a data key: a domain-separated SHA-256, which tells nothing of a uniform key."""
    return hashlib.sha256(b"zk-autograd/data-key/v1\0" + key).digest()


def load_data_key(folder: Path, key_id_: bytes) -> bytes:
    """The data key with this id; UsageError if it is not in ``folder`` or not the one it is called."""
    path = folder / f"{key_id_.hex()}.key"
    try:
        key = path.read_bytes()
    except OSError:
        raise UsageError(
            f"no data key {key_id_.hex()[:16]} in {folder}: it is released by the training job's operator"
        ) from None
    if len(key) != 32 or data_key_id(key) != key_id_:
        raise UsageError(f"data key file {path}: its content is not the key that its name says")
    return key


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Writes a file of mode 0600 atomically and durably; without ``replace`` an existing file is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; nothing was changed") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        elif not path.exists():
            os.link(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        return
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; nothing was changed") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
