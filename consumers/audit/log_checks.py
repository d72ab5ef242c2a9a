"""Checks 7 to 11: the ledger, its checkpoints, the anchors, and which classes of evidence they rest on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice, product

from anchor import Anchor, Head, ReceiptFacts, check_live, verify_chain, verify_receipt
from consumers.audit.collect import Collected
from consumers.audit.outcome import Audit, Status
from ledger.chain import RunChain
from ledger.checkpoint import parse_checkpoint, verify_checkpoint
from ledger.entries import NO_CHALLENGE, Entry, leaf_data, run_closed, run_opened, step_proven
from ledger.epochs import ends_epoch, epoch_closed
from ledger.note import VerifierKey
from ledger.tree import Tree
from schemas.events import EpochClosed, RunClosed, RunOpened, StepProven
from zk_autograd.errors import AnchorError, DecodeError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.policy import Policy

_CHOICES = 4096
"""How many ways to pick one valid proof per shard are tried, so that many proofs of one slot cost no more than this."""


def check_ledger(out: Audit, found: Collected, accepted: dict[int, list[list[bytes]]]) -> Tree:
    """7: the run's entries are complete, in order, and say what the topics say; returns the rebuilt tree."""
    tree = Tree(o.body for o in found.ledger)
    out.size = tree.size
    chain = out.chain
    if chain is None:
        return tree
    entries = [o.event for o in found.ledger if o.event.run_id == out.run_id]
    expected = 0
    opened = closed = 0
    epoch = Tree()
    for entry in entries:
        if isinstance(entry, RunOpened):
            opened += 1
            if opened > 1 or expected:
                out.violated(7, "the run is opened twice, or after a step")
        elif isinstance(entry, StepProven):
            expected += 1
            where = f"entry for step {entry.step}"
            if not opened or closed:
                out.violated(7, f"{where}: before the run is opened, or after it is closed")
            if entry.step != expected:
                kind = "repeated or out of order" if entry.step < expected else f"step {expected} is missing before it"
                out.violated(7, f"{where}: {kind}")
                expected = max(expected, entry.step)
            if not _agrees(out, entry, accepted.get(entry.step)):
                out.violated(7, f"{where}: does not say what the topics say (event, proofs or roots differ)")
            if entry.step > len(chain.steps):
                out.violated(7, f"{where}: no such step was committed")
            if epoch.size and ends_epoch(chain, expected - 1):
                out.violated(7, f"{where}: before the epoch of step {expected - 1} is closed")
            epoch.append(leaf_data(entry))
        elif isinstance(entry, EpochClosed):
            if not _closes(entry, chain, expected, epoch):
                out.violated(7, f"entry for epoch {entry.epoch}: not where an epoch ends, or not what the topics say")
            epoch = Tree()
        elif isinstance(entry, RunClosed):
            closed += 1
            early = chain.finished is None or expected != entry.steps or (chain.start.epoch_steps and epoch.size)
            if closed > 1 or early or leaf_data(entry) != leaf_data(run_closed(chain)):
                out.violated(7, "the run is closed before its last step, twice, or with another end than it published")
    if opened and found.ledger:
        first = next(e for e in entries if isinstance(e, RunOpened))
        if leaf_data(first) != leaf_data(run_opened(chain)):
            out.violated(7, "the entry that opens the run does not name its start")
    out.checks[7].detail = f"{expected} of {len(chain.steps)} steps entered"
    if out.epoch is not None:
        if not any(isinstance(e, EpochClosed) and e.epoch == out.epoch for e in entries):
            out.unchecked(7, f"epoch {out.epoch} is not closed yet: wait for zk-prove and zk-ledger, then audit again")
        return tree
    missing = len(chain.steps) - expected
    left_open = [
        what
        for what, is_open in (
            ("epoch", bool(epoch.size) and ends_epoch(chain, expected)),
            ("run", chain.finished is not None and not closed),
        )
        if is_open
    ]
    if not opened or missing > 0 or left_open:
        not_closed = "".join(f", {what} not closed" for what in left_open)
        out.unchecked(7, f"the ledger is not complete: {missing} step(s) missing{not_closed}")
    return tree


def _closes(entry: EpochClosed, chain: RunChain, last: int, epoch: Tree) -> bool:
    """Whether the entry closes the epoch that ends with step ``last``, over the entries since the one before."""
    there = 0 < epoch.size <= last <= len(chain.steps) and ends_epoch(chain, last)
    return there and leaf_data(entry) == leaf_data(epoch_closed(chain, last, epoch))


def _agrees(out: Audit, entry: StepProven, proofs: list[list[bytes]] | None) -> bool:
    """Whether the entry is the step's, over one valid proof of each shard that had to be proven.

    A shard has more than one if a prover was restarted. Which of them the ledger met first is not the auditor's to see,
    as a topic's partitions have no common order; so any will do. Where there are too many ways to pick them, the check
    is not made: that there is a valid proof of every shard does not rest on it, and strangers can copy records.

    Args:
        proofs: by shard the ids of its valid proofs; None if they were not looked at, or are not all there.
    """
    chain = out.chain
    assert chain is not None
    if not 1 <= entry.step <= len(chain.steps):
        return True  # said elsewhere
    seed = NO_CHALLENGE
    if out.sampling is not None:  # a draw that is not known cannot be compared; that it is not known is said elsewhere
        seed = out.sampling.draws[entry.step].seed if entry.step in out.sampling.draws else entry.challenge
    if proofs is None:  # the rest of it
        expected = replace(step_proven(chain, entry.step, [], seed), proofs_digest=entry.proofs_digest)
        return leaf_data(entry) == leaf_data(expected)
    choices = islice(product(*proofs), _CHOICES)
    if any(leaf_data(entry) == leaf_data(step_proven(chain, entry.step, ids, seed)) for ids in choices):
        return True
    ways = math.prod(map(len, proofs))
    if ways > _CHOICES:
        out.unchecked(7, f"entry for step {entry.step}: over one of {ways} choices of its proofs: too many to try")
    return ways > _CHOICES


def check_checkpoints(out: Audit, found: Collected, tree: Tree, origin: str | None) -> None:
    """8: every checkpoint is signed, of the rebuilt tree, and the last covers it."""
    last = 0
    for number, opened in enumerate(found.checkpoints):
        public_key = found.ring.keys[opened.key_id].public_key
        note = opened.event.note
        where = f"checkpoint {number}"
        try:
            origin = origin or note.split("\n", 1)[0]
            checkpoint = verify_checkpoint(note, origin, [VerifierKey(origin, public_key)])
        except (DecodeError, VerificationError, UsageError) as error:
            out.violated(8, f"{where}: {error}")
            continue
        if checkpoint.size < last:
            out.violated(8, f"{where}: size {checkpoint.size} after {last}")
        elif checkpoint.size > tree.size:
            out.violated(8, f"{where}: of {checkpoint.size} entries, but the ledger has {tree.size}: it was truncated")
        elif tree.root_at(checkpoint.size) != checkpoint.root:
            out.violated(8, f"{where}: its root is not that of the ledger's first {checkpoint.size} entries")
        last = max(last, checkpoint.size)
    keys = {o.key_id for o in found.checkpoints}
    if len(keys) > 1:
        out.violated(8, f"checkpoints by {len(keys)} different ledger keys")
    out.checks[8].detail = f"{len(found.checkpoints)} checkpoints, {tree.size} entries"
    if last < tree.size:
        out.violated(8, f"the last checkpoint covers {last} of {tree.size} entries")
    if not tree.size:
        out.unchecked(8, "the ledger is empty")


def check_receipts(out: Audit, found: Collected, tree: Tree, policy: Policy) -> None:
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


def entries_needed(out: Audit, found: Collected, tree: Tree) -> int:
    """How much of the ledger has to be anchored and cosigned: up to this run's end. Others may go on for ever."""
    return max((i + 1 for i, o in enumerate(found.ledger) if _matters(o.event, out)), default=tree.size)


def _matters(entry: Entry, out: Audit) -> bool:
    """Whether the verdict rests on this entry: all of a run's, or the one that closes the epoch, after its steps."""
    if entry.run_id != out.run_id:
        return False
    return out.epoch is None or (isinstance(entry, EpochClosed) and entry.epoch == out.epoch)


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


def check_live_anchors(out: Audit, live: Sequence[Anchor], tree: Tree, held: Sequence[Head | None]) -> None:
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


def _check_contains(tree: Tree, anchor: Anchor, head: Head | None) -> None:
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
