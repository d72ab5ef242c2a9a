"""Witnesses at rest and in flight: AES-256-GCM under a key derived per place (NIST SP 800-38D, RFC 5869)."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zk_autograd.errors import SealingError

_DOMAIN = b"zk-autograd/sealing/v1\0"
NONCE_BYTES = 12
OVERHEAD_BYTES = NONCE_BYTES + 16


def _derived(key: bytes, place: bytes) -> AESGCM:
    # A key per place: no count of messages under one key comes near the limit for random nonces.
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=_DOMAIN + place).derive(key))


def seal(key: bytes, place: bytes, plaintext: bytes) -> bytes:
    """Encrypts for one place only.

    Args:
        key: 32 bytes.
        place: what the ciphertext belongs to (associated data); opening it elsewhere fails.
    Returns:
        nonce || ciphertext || tag, ``len(plaintext) + OVERHEAD_BYTES`` bytes.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _derived(key, place).encrypt(nonce, plaintext, place)


def unseal(key: bytes, place: bytes, sealed: bytes) -> bytes:
    """Inverse of :func:`seal`; SealingError if key, place or bytes are others."""
    if len(sealed) < OVERHEAD_BYTES:
        raise SealingError(f"sealed data: expected at least {OVERHEAD_BYTES} bytes, got {len(sealed)}")
    try:
        return _derived(key, place).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
    except InvalidTag:
        raise SealingError("sealed data does not open: another key, another place, or altered bytes") from None
