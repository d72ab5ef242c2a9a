"""What every anchor is: a counter outside the log that only goes up, and remembers the tree it was raised for.

The contract is that of a C2SP witness (c2sp.org/tlog-witness): :meth:`Anchor.advance` compares and sets the last
anchored (counter, size, root) in one step, checks that the new tree extends the old one, and persists before it
answers. A receipt verifies offline, under the anchor's identity that the verifier pinned beforehand: never under
what the receipt says of itself.
"""

from __future__ import annotations

import base64
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from zk_autograd.errors import AnchorError, UsageError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, verify_consistency

MAX_NOTE_BYTES = 60_000
"""Largest checkpoint note that an anchor takes."""
MAX_RECEIPT_BYTES = 60_000
"""Largest receipt of any backend: it must fit an event of the anchors topic."""


@dataclass(frozen=True)
class Head:
    """What an anchor holds: ``counter`` (from 1), and the ``size`` and ``root`` (32 bytes) it was last raised for."""

    counter: int
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"counter {self.counter}, size {self.size}, root {self.root.hex()}"


@dataclass(frozen=True)
class Receipt:
    """The anchor's answer: the head that the request made, and the bytes that prove it offline."""

    head: Head
    data: bytes


@dataclass(frozen=True)
class ReceiptFacts:
    """What a verified receipt says.

    Attributes:
        anchor: identity of the anchor that gave it, as pinned by the verifier.
        counter: the count that this tree, and no other, got.
        size: number of leaves.
        root: root at that size, 32 bytes.
        checkpoint: SHA-256 of the checkpoint's note, where the backend binds it; else None.
        randomness: 32 bytes that nobody could know before the anchor answered; None where a backend has none.
    """

    anchor: str
    counter: int
    size: int
    root: bytes
    checkpoint: bytes | None = None
    randomness: bytes | None = None

    @property
    def head(self) -> Head:
        """The anchor's head right after this receipt."""
        return Head(self.counter, self.size, self.root)


class AnchorRefused(AnchorError):
    """The request does not extend the anchor's head: it is stale, a fork, or goes back. Nothing was changed.

    Attributes:
        head: the anchor's current head; None if nothing was ever anchored.
    """

    def __init__(self, reason: str, head: Head | None) -> None:
        super().__init__(f"anchor refused: {reason}; its head is {head or 'empty'}")
        self.head = head


class Anchor(ABC):
    """One anchor, opened by URI: see :func:`anchor.open_anchor`. Not for use by several threads at once."""

    scheme: ClassVar[str]
    """URI scheme; also the first part of every identity of this backend."""

    draws: ClassVar[bool] = False
    """Whether every receipt has randomness, and counters are 1, 2, 3 …: whether it may be a sampled run's beacon."""

    uri: str
    """As given, with any secret removed."""

    @classmethod
    @abstractmethod
    def open(cls, uri: str) -> Anchor:
        """The anchor at ``uri`` (whose scheme is this backend's); creates nothing.

        Raises:
            UsageError: not a URI of this backend.
        """

    @abstractmethod
    def identity(self) -> str | None:
        """``<scheme>:<what to pin>``, or None while the anchor does not exist yet.

        Raises:
            AnchorError: the backend cannot be reached.
        """

    def establish(self) -> str:
        """The identity; an anchor that can be made without raising its counter is made if it is not there.

        Raises:
            AnchorError: the backend cannot be reached.
            UsageError: this backend has no identity before its counter is raised first.
        """
        identity = self.identity()
        if identity is None:
            raise UsageError(f"{self.uri}: has no identity before its first receipt; run zk-anchor first")
        return identity

    @abstractmethod
    def head(self) -> Head | None:
        """The last anchored state; None if there is none yet.

        Raises:
            AnchorError: the backend cannot be reached.
            VerificationError: what it holds was tampered with or rolled back.
        """

    @abstractmethod
    def advance(
        self, expected: Head | None, size: int, root: bytes, checkpoint_note: str, consistency: Sequence[bytes]
    ) -> Receipt:
        """Raise the counter for the tree (size, root), if the head is ``expected``; persisted before it answers.

        The same size and root again answer with the receipt that is already there (needed after a crash between
        this call and the receipt's publication).

        Args:
            expected: the head that the caller has seen.
            size: number of leaves.
            root: root at that size, 32 bytes.
            checkpoint_note: the signed checkpoint of (size, root), already verified by the caller.
            consistency: RFC 6962 consistency proof from ``expected.size`` to ``size``; empty without a head.

        Raises:
            AnchorRefused: stale, forked, going back, or an inconsistent tree; carries the current head.
            UsageError: arguments that can never be right.
            AnchorError: the backend failed; whether the counter was raised, :meth:`head` tells.
            VerificationError: what the backend holds was tampered with or rolled back.
        """

    @abstractmethod
    def receipt_for(self, counter: int) -> Receipt | None:
        """The receipt that was given for ``counter``; None if the backend has none."""

    def latest_receipt(self) -> Receipt | None:
        """The receipt of the head; None if nothing was anchored."""
        head = self.head()
        return self.receipt_for(head.counter) if head else None

    @classmethod
    def check_identity(cls, identity: str) -> None:
        """Raises UsageError unless ``identity`` has the form of this backend's."""
        if not identity.startswith(f"{cls.scheme}:"):
            raise UsageError(f"anchor identity: expected one that begins with {cls.scheme}:")

    @classmethod
    @abstractmethod
    def verify_receipt(cls, receipt: bytes, identity: str) -> ReceiptFacts:
        """What the receipt proves, offline.

        Raises:
            DecodeError: not a receipt of this backend.
            VerificationError: it does not hold, or is another anchor's.
        """

    @classmethod
    def verify_chain(cls, receipts: Sequence[bytes], identity: str) -> list[ReceiptFacts]:
        """:meth:`verify_receipt` for each, and :func:`verify_progress` over all, in the order of publication.

        Backends whose receipts are linked check more.

        Raises:
            DecodeError: as for one receipt.
            VerificationError: names the counter at which it went wrong.
        """
        facts = [cls.verify_receipt(receipt, identity) for receipt in receipts]
        verify_progress(facts)
        return facts


def verify_progress(facts: Sequence[ReceiptFacts]) -> None:
    """One anchor's receipts in order: counters rise, sizes do not fall, one size has one root.

    A receipt may stand twice in a row, because the same request is answered with the same receipt; counters may
    skip, because some hardware counters do.

    Raises:
        VerificationError: names the counter at which it went wrong.
    """
    for before, after in pairwise(facts):
        at = f"anchor receipts: counter {after.counter} after {before.counter}"
        if after.anchor != before.anchor:
            raise VerificationError(f"{at}: expected anchor {before.anchor}, got {after.anchor}")
        if after == before:
            continue
        if after.counter == before.counter:
            raise VerificationError(f"{at}: a fork: one counter for two trees ({before.head}; {after.head})")
        if after.counter < before.counter:
            raise VerificationError(f"{at}: the counter went down")
        if after.size < before.size:
            raise VerificationError(f"{at}: the tree shrank from {before.size} to {after.size} leaves")
        if after.size == before.size and after.root != before.root:
            raise VerificationError(f"{at}: a fork: two roots for {after.size} leaves")


def check_live(anchor: Anchor, last: ReceiptFacts) -> None:
    """The live anchor still stands where the last published receipt says, or later: it was not rolled back.

    Verification *now*, unlike that of receipts: ask the live backend, in the same sitting as the audit.

    Args:
        anchor: the live anchor.
        last: facts of the newest published receipt, verified under the pinned identity.

    Raises:
        VerificationError: it is another anchor, has less than was published, or something else under that counter.
        AnchorError: it cannot be reached, so nothing was checked.
    """
    head = anchor.head()
    if head is None:
        raise VerificationError(f"{anchor.uri}: rolled back: published receipts reach {last.head}, the anchor is empty")
    if (identity := anchor.identity()) != last.anchor:
        raise VerificationError(f"{anchor.uri}: expected the anchor {last.anchor}, the live one is {identity}")
    if head.counter < last.counter:
        raise VerificationError(f"{anchor.uri}: rolled back: published receipts reach {last.head}, it is at {head}")
    recorded = head if head.counter == last.counter else None
    if recorded is None and (receipt := anchor.receipt_for(last.counter)) is not None:
        recorded = anchor.verify_receipt(receipt.data, last.anchor).head
    if recorded is not None and recorded != last.head:
        raise VerificationError(f"{anchor.uri}: forked: the published receipt says {last.head}, it holds {recorded}")
    if head.size < last.size:
        raise VerificationError(f"{anchor.uri}: rolled back: {last.size} leaves were published, it is at {head}")


def require_request(size: int, root: bytes, checkpoint_note: str) -> bytes:
    """For backends: the arguments of ``advance`` belong together. Returns SHA-256 of the note.

    Raises:
        UsageError: they do not, or are out of range.
    """
    note = checkpoint_note.encode()
    if len(note) > MAX_NOTE_BYTES:
        raise UsageError(f"anchor: expected a checkpoint note of at most {MAX_NOTE_BYTES} bytes, got {len(note)}")
    if not 0 <= size <= MAX_SIZE or len(root) != HASH_BYTES or (size == 0) != (root == EMPTY_ROOT):
        raise UsageError(f"anchor: expected a tree size and its root of {HASH_BYTES} bytes, got {size}, {root.hex()}")
    if note.split(b"\n")[1:3] != [str(size).encode(), base64.b64encode(root)]:
        raise UsageError(f"anchor: the checkpoint note does not state size {size} and root {root.hex()}")
    return hashlib.sha256(note).digest()


def require_extends(
    head: Head | None, expected: Head | None, size: int, root: bytes, consistency: Sequence[bytes]
) -> None:
    """For backends, under their lock: the request may replace ``head``. The rules of a witness, in order.

    1. The caller has seen the head. 2. The tree does not shrink. 3. One size has one root. 4. The tree extends the
    anchored one.

    Raises:
        AnchorRefused: with the head.
    """
    if expected != head:
        raise AnchorRefused(f"stale: the request expects {expected or 'an empty anchor'}", head)
    old_size, old_root = (head.size, head.root) if head else (0, EMPTY_ROOT)
    if size < old_size:
        raise AnchorRefused(f"going back: a tree of {size} leaves after {old_size}", head)
    if size == old_size and root != old_root:
        raise AnchorRefused(f"a fork: another root for {size} leaves: {root.hex()}", head)
    try:
        verify_consistency(old_size, old_root, size, root, consistency)
    except VerificationError as error:
        raise AnchorRefused(f"not shown to extend the anchored tree: {error}", head) from error
