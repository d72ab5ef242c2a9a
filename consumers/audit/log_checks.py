"""Checks 7 and 8: the ledger's entries and its checkpoints."""

from __future__ import annotations

import math
from itertools import islice

from consumers.audit.collected import Collected
from consumers.audit.outcome import Audit
from ledger.chain import RunChain
from ledger.checkpoint import verify_checkpoint
from ledger.entries import NO_CHALLENGE, Entry, leaf_data, run_closed, run_opened, step_proven
from ledger.epochs import ends_epoch, epoch_closed
from ledger.frontier import Frontier
from ledger.note import VerifierKey
from ledger.tree import GrowingTree
from schemas.events import EpochClosed, RunClosed, RunOpened, StepProven
from zk_autograd.errors import DecodeError, UsageError, VerificationError

_PICKS = 4096
"""How many ways to pick one valid proof per shard are tried, so that many proofs of one slot cost no more than this."""


def check_ledger(out: Audit, found: Collected) -> GrowingTree:
    """7: the run's entries are complete, in order, and say what the topics say; returns the rebuilt tree."""
    tree = found.ledger.tree
    out.size = tree.size
    chain = out.chain
    if chain is None:
        return tree
    expected = 0
    opened = closed = 0
    epoch, epochs = Frontier(), set[int]()
    first: RunOpened | None = None
    for _, item in found.ledger.of_run():
        entry = item.event
        if isinstance(entry, RunOpened):
            opened += 1
            first = first or entry
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
            if not _agrees(out, entry):
                out.violated(7, f"{where}: does not say what the topics say (event, proofs or roots differ)")
            if entry.step > len(chain.steps):
                out.violated(7, f"{where}: no such step was committed")
            if epoch.size and ends_epoch(chain, expected - 1):
                out.violated(7, f"{where}: before the epoch of step {expected - 1} is closed")
            if chain.start.epoch_steps:
                epoch.append(item.body)
        elif isinstance(entry, EpochClosed):
            if not _closes(entry, chain, expected, epoch):
                out.violated(7, f"entry for epoch {entry.epoch}: not where an epoch ends, or not what the topics say")
            epochs.add(entry.epoch)
            epoch = Frontier()
        elif isinstance(entry, RunClosed):
            closed += 1
            early = chain.finished is None or expected != entry.steps or (chain.start.epoch_steps and epoch.size)
            if closed > 1 or early or leaf_data(entry) != leaf_data(run_closed(chain)):
                out.violated(7, "the run is closed before its last step, twice, or with another end than it published")
    if first is not None and leaf_data(first) != leaf_data(run_opened(chain)):
        out.violated(7, "the entry that opens the run does not name its start")
    out.checks[7].detail = f"{expected} of {len(chain.steps)} steps entered"
    if out.epoch is not None:
        if out.epoch not in epochs:
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


def _closes(entry: EpochClosed, chain: RunChain, last: int, epoch: Frontier) -> bool:
    """Whether the entry closes the epoch that ends with step ``last``, over the entries since the one before."""
    there = 0 < epoch.size <= last <= len(chain.steps) and ends_epoch(chain, last)
    return there and leaf_data(entry) == leaf_data(epoch_closed(chain, last, epoch))


def _agrees(out: Audit, entry: StepProven) -> bool:
    """Whether the entry is the step's, over one valid proof of each shard that had to be proven.

    A shard has more than one if a prover was restarted. Which of them the ledger met first is not the auditor's to see,
    as a topic's partitions have no common order; so any will do. Where there are too many ways to pick them, the check
    is not made: that there is a valid proof of every shard does not rest on it. It takes a prover that puts proofs of
    13 shards or more of one step into two partitions before the ledger takes them; what comes later hides nothing.
    """
    chain = out.chain
    assert chain is not None
    if not 1 <= entry.step <= len(chain.steps):
        return True  # said elsewhere
    seed = NO_CHALLENGE
    if out.sampling is not None:  # a draw that is not known cannot be compared; that it is not known is said elsewhere
        seed = out.sampling.draws[entry.step].seed if entry.step in out.sampling.draws else entry.challenge
    # Where the proofs were not looked at, or are not all there, the rest of it is.
    digest = out.accepted.digest(entry.step) or entry.proofs_digest
    steps, step = chain.steps, entry.step
    roots = steps.state_root(step), steps.work_root(step)
    if entry == StepProven(chain.run_id, step, steps.event_id(step), digest, seed, *roots):
        return True
    picks = islice(out.accepted.picks(entry.step), _PICKS)
    if any(entry == step_proven(chain, entry.step, ids, seed) for ids in picks):
        return True
    ways = math.prod(map(len, out.accepted.choices(entry.step)))
    if ways > _PICKS:
        out.unchecked(7, f"entry for step {entry.step}: over one of {ways} choices of its proofs: too many to try")
    return ways > _PICKS


def check_checkpoints(out: Audit, found: Collected, tree: GrowingTree, origin: str | None) -> None:
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


def entries_needed(out: Audit, found: Collected, tree: GrowingTree) -> int:
    """How much of the ledger has to be anchored and cosigned: up to this run's end. Others may go on for ever."""
    if out.epoch is None:
        return found.ledger.own[-1] + 1 if found.ledger.own else tree.size
    return max((leaf + 1 for leaf, o in found.ledger.of_run() if _matters(o.event, out)), default=tree.size)


def _matters(entry: Entry, out: Audit) -> bool:
    """Whether the verdict on an epoch rests on this entry of the run: the one that closes it, after its steps."""
    return isinstance(entry, EpochClosed) and entry.epoch == out.epoch
