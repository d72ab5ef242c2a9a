"""Anchors: counters outside the log that make a roll-back visible. One backend per URI scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anchor.base import (
    MAX_RECEIPT_BYTES,
    Anchor,
    AnchorRefused,
    Head,
    Receipt,
    ReceiptFacts,
    check_live,
    verify_progress,
)
from zk_autograd.errors import DecodeError, UsageError, VerificationError

__all__ = [
    "Anchor",
    "AnchorRefused",
    "Head",
    "Receipt",
    "ReceiptFacts",
    "check_live",
    "open_anchor",
    "require_beacon",
    "verify_chain",
    "verify_progress",
    "verify_receipt",
]


def _file() -> type[Anchor]:
    from anchor.file import FileAnchor

    return FileAnchor


# Loaded when asked for: a backend may need a library that is not installed.
_BACKENDS: Mapping[str, Callable[[], type[Anchor]]] = {"file": _file}


def open_anchor(uri: str) -> Anchor:
    """The anchor at ``uri``, such as ``file:/path``; creates nothing before the first advance.

    Raises:
        UsageError: an unknown scheme, or not a URI of that scheme.
    """
    return _backend(uri, "anchor URI").open(uri)


def verify_receipt(receipt: bytes, identity: str) -> ReceiptFacts:
    """What a receipt proves, offline, under the identity that the verifier pinned (:meth:`Anchor.identity`).

    Raises:
        DecodeError: not a receipt.
        VerificationError: it does not hold, or is another anchor's.
        UsageError: an identity of no known scheme.
    """
    _require_receipt_size(receipt)
    return _backend(identity, "anchor identity").verify_receipt(receipt, identity)


def verify_chain(receipts: Sequence[bytes], identity: str) -> list[ReceiptFacts]:
    """One anchor's receipts in the order of publication: each verifies, and counters and trees only grow.

    Raises:
        DecodeError: not a receipt.
        VerificationError: names the counter at which it went wrong.
        UsageError: an identity of no known scheme.
    """
    for receipt in receipts:
        _require_receipt_size(receipt)
    return _backend(identity, "anchor identity").verify_chain(receipts, identity)


def require_beacon(identity: str) -> None:
    """An anchor of this identity may draw a run's shards.

    Raises:
        VerificationError: it is no identity, or its receipts hold nothing that could not be known beforehand.
    """
    try:
        backend = _backend(identity, "beacon")
        backend.check_identity(identity)
    except UsageError as error:
        raise VerificationError(str(error)) from None
    if not backend.draws:
        raise VerificationError(
            f"beacon: receipts of {backend.scheme}: anchors hold nothing that nobody could know before the anchor "
            "answered: whoever can compute the draw can try commitments until it misses a cheat"
        )


def _backend(name: str, what: str) -> type[Anchor]:
    # Only the scheme goes into the message: the rest of a URI may hold a password.
    scheme, colon, _ = name.partition(":")
    known = ", ".join(f"{each}:" for each in sorted(_BACKENDS))
    if not colon:
        raise UsageError(f"{what}: expected one that begins with one of {known}")
    if scheme not in _BACKENDS:
        raise UsageError(f"{what}: expected one of the schemes {known}; got {scheme[:20]!r}")
    return _BACKENDS[scheme]()


def _require_receipt_size(receipt: bytes) -> None:
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise DecodeError(f"anchor receipt: expected at most {MAX_RECEIPT_BYTES} bytes, got {len(receipt)}")
