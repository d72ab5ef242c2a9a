"""Checks 9 to 11: the anchors, and which classes of evidence and SRS the verdict rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from anchor import Anchor, Head, ReceiptFacts, check_live, verify_chain, verify_receipt
from consumers.audit.collected import Collected
from consumers.audit.log_checks import entries_needed
from consumers.audit.outcome import Audit, Status
from ledger.checkpoint import parse_checkpoint
from ledger.tree import GrowingTree
from zk_autograd.errors import AnchorError, DecodeError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.policy import Policy


def check_receipts(out: Audit, found: Collected, tree: GrowingTree, policy: Policy) -> None:
    """9: every receipt verifies under its anchor's identity, is of this ledger, and counters only grow."""
    by_anchor: dict[str, list[bytes]] = {}
    notes = {o.event_id: o.event.note for o in found.checkpoints}
    for number, opened in enumerate(found.anchored):
        event, where = opened.event, f"receipt {number}"
        if policy.anchors is not None and event.anchor not in policy.anchors:
            continue  # a log may be anchored at more places than this auditor has chosen
        try:
            facts = verify_receipt(event.receipt, event.anchor)
        except UsageError as error:  # of a kind that this release does not know
            out.unchecked(9, f"{where}: {error}")
            continue
        except ZkAutogradError as error:
            out.violated(9, f"{where}: {error}")
            continue
        if (facts.counter, facts.size, facts.root) != (event.counter, event.size, event.root):
            out.violated(9, f"{where}: it is of another counter, size or root than the event that carries it says")
        elif facts.size > tree.size or tree.root_at(facts.size) != facts.root:
            out.violated(
                9,
                f"{where}: anchored size {facts.size} is not of this ledger ({tree.size} entries): "
                "rolled back or forked",
            )
        elif event.checkpoint_id not in notes:
            out.violated(9, f"{where}: the checkpoint it names is not in the log")
        elif not _is_of(facts, notes[event.checkpoint_id]):
            out.violated(9, f"{where}: it was given for another checkpoint than the one it names")
        by_anchor.setdefault(event.anchor, []).append(event.receipt)
    for identity, receipts in by_anchor.items():
        try:
            out.anchors.append(verify_chain(receipts, identity)[-1])
        except ZkAutogradError as error:
            out.violated(9, f"{identity}: {error}")
    # Every anchor that the policy names must hold the whole ledger: the host may have one of them in its hands.
    sizes = {f.anchor: f.size for f in out.anchors}
    named = [sizes.get(identity, 0) for identity in policy.anchors or ()]
    covered = min(named) if named else max(sizes.values(), default=0)
    out.checks[
        9
    ].detail = (
        f"{len(found.anchored)} receipts of {len(by_anchor)} anchor(s), {covered} of {tree.size} entries anchored"
    )
    wanted = set(policy.anchors or ()) - set(by_anchor)
    if wanted:
        out.unchecked(9, f"no receipt of {', '.join(sorted(wanted))}")
    needed = entries_needed(out, found, tree)
    if not found.anchored:
        out.unchecked(9, "nothing is anchored yet: wait for zk-anchor, then audit again")
    elif covered < needed:
        out.unchecked(9, f"{covered} of {needed} entries anchored: wait for zk-anchor, then audit again")


def _is_of(facts: ReceiptFacts, note: str) -> bool:
    """Whether a receipt was given for this checkpoint; some anchors bind its text, all bind size and root."""
    try:
        checkpoint = parse_checkpoint(note)
    except DecodeError:
        return False
    bound = facts.checkpoint in (None, hashlib.sha256(note.encode()).digest())
    return bound and (facts.size, facts.root) == (checkpoint.size, checkpoint.root)


def held_by(live: Sequence[Anchor]) -> list[Head | None]:
    """What each anchor holds: to be asked before the log is read, for the log only grows; None if it does not say."""
    heads: list[Head | None] = []
    for anchor in live:
        try:
            heads.append(anchor.head())
        except ZkAutogradError:
            heads.append(None)  # check 10 asks again, and says what is wrong
    return heads


def check_live_anchors(out: Audit, live: Sequence[Anchor], tree: GrowingTree, held: Sequence[Head | None]) -> None:
    """10: the anchors, asked now, stand where their receipts say or later; and what they held before is in the log."""
    if not live:
        out.unchecked(10, "no live anchor given (policy anchors, or --anchor)")
        return
    last = {f.anchor: f for f in out.anchors}
    asked = 0
    for anchor, head in zip(live, held, strict=True):
        try:
            identity = anchor.identity()
            _check_contains(tree, anchor, head)
            if identity in last:
                check_live(anchor, last[identity])
                asked += 1
            elif last:
                out.violated(10, f"{anchor.uri} ({identity or 'empty'}): the log's receipts are of other anchors")
            else:
                _unanswered(out, f"{anchor.uri} ({identity or 'empty'}): the log has no receipt of it yet")
        except (VerificationError, DecodeError) as error:
            out.violated(10, str(error))
        except AnchorError as error:
            _unanswered(out, str(error))
    if out.checks[10].status is Status.PASSED:
        out.checks[10].detail = f"{asked} anchor(s) asked now"


def _unanswered(out: Audit, why: str) -> None:
    """An anchor that was to be asked could not be: unlike one that nobody named, this counts."""
    out.unchecked(10, why)
    out.checks[10].findings.append(why)


def _check_contains(tree: GrowingTree, anchor: Anchor, head: Head | None) -> None:
    """Without this, a host that takes back entries, checkpoints and receipts together would go unnoticed."""
    if head is not None and (head.size > tree.size or tree.root_at(head.size) != head.root):
        raise VerificationError(
            f"{anchor.uri}: it holds {head}, which this ledger ({tree.size} entries) does not contain: "
            "the log was rolled back or forked"
        )


def check_classes(out: Audit, found: Collected, policy: Policy) -> None:
    """11: the classes of evidence and SRS that the verdict rests on are ones that the policy names."""
    refusal = "which the policy does not allow"
    refuse: Callable[[int, str], None] = out.violated
    if policy.first_use:  # nobody has chosen yet
        refusal = "which is for development only: give --policy FILE, or --dev to accept it"
        refuse = out.unchecked
    for key in sorted(found.used_keys):
        known = found.ring.keys[key]
        out.classes.add(known.evidence_class.value)
        if known.evidence_class.value not in policy.evidence_classes:
            refuse(
                11,
                f"key {key.hex()[:12]} ({known.role}) has {known.evidence_class} evidence, {refusal}",
            )
    if out.circuit is not None:
        out.classes.add(f"{out.circuit.srs_class} SRS")
        if out.circuit.srs_class not in policy.srs_classes:
            refuse(
                11,
                f"the circuit's SRS is of class {out.circuit.srs_class}, {refusal}: its maker could forge",
            )
    if out.checks[11].status is not Status.UNCHECKED:
        out.checks[11].detail = ", ".join(sorted(out.classes)) or "none"
