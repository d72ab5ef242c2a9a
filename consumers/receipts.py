"""Receipts from the topic ``anchors`` as a ledger or a prover takes them: verified, and of the log that it knows."""

from __future__ import annotations

from anchor import ReceiptFacts, require_beacon, verify_receipt
from ledger.tree import GrowingTree
from schemas.events import Anchored
from zk_autograd.errors import VerificationError
from zk_autograd.policy import Policy


def verified_receipt(event: Anchored, tree: GrowingTree) -> ReceiptFacts:
    """What the receipt proves, under the identity that the event names.

    Left to the caller: whether that identity is one to rely on.

    Raises:
        DecodeError, UsageError: no receipt, or no identity.
        VerificationError: it does not hold, is of something else than the event says, or not of ``tree``.
    """
    facts = verify_receipt(event.receipt, event.anchor)
    if (facts.counter, facts.size, facts.root) != (event.counter, event.size, event.root):
        raise VerificationError("the receipt is of another counter, size or root than its event says")
    if facts.size > tree.size or tree.root_at(facts.size) != facts.root:
        raise VerificationError(f"the receipt, of {facts.size} leaves, is not of this log ({tree.size} leaves)")
    return facts


def check_beacon(identity: str, policy: Policy) -> None:
    """An anchor of this identity may draw shards, by its kind and by the policy.

    Raises:
        VerificationError: says why not.
    """
    require_beacon(identity)
    if policy.anchors is not None and identity not in policy.anchors:
        raise VerificationError(f"beacon {identity[:80]}: not one that the policy allows (anchors)")
