"""Sampled runs: what was drawn, whether the ledger kept to it, and what the verdict is then worth.

Everything is computed again: the beacon's receipts from the first on (check 9), each step's draw from the first receipt
that covers its record, and, over the ledger's entries (check 7), that every step was recorded before it was drawn,
drawn before it was proven, and never further ahead than the window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from anchor import require_beacon
from consumers.audit.collected import Collected
from consumers.audit.outcome import Audit
from consumers.receipts import verified_receipt
from ledger.sampling import Beacon, Chance, Draw, chances
from schemas.events import RunClosed, RunOpened, StepProven, StepRecorded
from zk_autograd.errors import VerificationError, ZkAutogradError
from zk_autograd.policy import Policy

NOT_SAMPLED = (
    "Not proven: the shards that were not drawn. Each of them may hold anything, however wrong; the probabilities "
    "above are all that stands against it, and they count once for every run that was begun."
)


@dataclass(frozen=True)
class Sampling:
    """What a run's draws come to.

    Attributes:
        count: shards of each step that are drawn.
        shards: of so many.
        draws: by step, for steps that are recorded and of which the record is covered by a receipt.
        others: other runs of this log with recorded steps: only its own audit says what each of them holds.
        abandoned: of these the ones with recorded steps that are not proven, or without a start.
    """

    count: int
    shards: int
    beacon: str
    window: int
    draws: dict[int, Draw] = field(repr=False)
    others: int = 0
    abandoned: int = 0

    def chances(self, steps: int) -> list[Chance]:
        """For cheats of some sizes, in a run of ``steps`` proven steps."""
        return chances(self.shards, self.count, steps)


def sampling_of(out: Audit, found: Collected) -> Sampling | None:
    """What was drawn of the run's steps; None if all of it has to be proven, or the run is not known."""
    chain = out.chain
    if chain is None or not chain.start.sampled:
        return None
    start = chain.start
    try:
        require_beacon(start.beacon)
    except VerificationError as error:
        out.violated(2, f"run {chain.name}: {error}")
    beacon, draws = _beacon(out, found, start.beacon), dict[int, Draw]()
    for leaf in found.ledger.recorded:
        event = found.ledger[leaf].event
        if not isinstance(event, StepRecorded) or event.step > len(chain.steps):
            continue
        event_id = chain.steps[event.step - 1].event_id
        draw = beacon.draw(leaf, out.run_id, event.step, event_id, start.sampled, start.shards)
        if draw is not None:
            draws.setdefault(event.step, draw)
    return Sampling(start.sampled, start.shards, start.beacon, start.window, draws, *_tries(found, out.run_id))


def _tries(found: Collected, run_id: bytes) -> tuple[int, int]:
    """Other sampled runs, and how many of them nobody can audit as proven.

    Those have recorded steps that are not entered, or their start is not there. That the steps of the rest are proven
    is the ledger's word.
    """
    recorded, proven = defaultdict[bytes, set[int]](set), defaultdict[bytes, set[int]](set)
    for event in (opened.event for opened in found.ledger):
        if isinstance(event, StepRecorded):
            recorded[event.run_id].add(event.step)
        elif isinstance(event, StepProven):
            proven[event.run_id].add(event.step)
    recorded.pop(run_id, None)
    return len(recorded), sum(
        1 for other, steps in recorded.items() if steps - proven[other] or other not in found.runs
    )


def _beacon(out: Audit, found: Collected, identity: str) -> Beacon:
    """9: the beacon's receipts as far as they are as they must be."""
    beacon, tree = Beacon(identity), found.ledger.tree
    for opened in found.anchored:
        if opened.event.anchor == identity:
            try:
                beacon.take(verified_receipt(opened.event, tree))
            except ZkAutogradError as error:
                out.violated(9, f"the run's beacon: {error}")
                break
    return beacon


def check_records(out: Audit, found: Collected, sampling: Sampling | None) -> None:
    """7: a sampled run's steps are recorded, each before it is drawn, and proven after; another's are not recorded."""
    chain = out.chain
    if chain is None:
        return
    if sampling is None:
        for leaf in found.ledger.recorded:
            step = found.ledger[leaf].event.step  # type: ignore[union-attr]
            out.violated(7, f"record of step {step}: in a run of which every shard has to be proven")
        return
    opened = closed = False
    recorded = proven = 0
    for leaf, item in found.ledger.of_run():
        entry = item.event
        if isinstance(entry, RunOpened):
            opened = True
        elif isinstance(entry, StepRecorded):
            where = f"record of step {entry.step}"
            if not opened or closed:
                out.violated(7, f"{where}: before the run is opened, or after it is closed")
            if entry.step != recorded + 1:
                kind = "repeated or out of order" if entry.step <= recorded else "there is none of the step before"
                out.violated(7, f"{where}: {kind}")
            recorded = max(recorded, entry.step)
            if entry.step > len(chain.steps):
                out.violated(7, f"{where}: no such step was committed")
            elif entry.event_id != chain.steps[entry.step - 1].event_id:
                out.violated(7, f"{where}: of another commitment than the step's")
            if entry.step > proven + sampling.window:
                out.violated(
                    7, f"{where}: {entry.step - proven} ahead of what is proven, the window is {sampling.window}"
                )
        elif isinstance(entry, StepProven):
            proven = max(proven, entry.step)
            if entry.step > recorded:
                out.violated(7, f"entry for step {entry.step}: the step was not recorded before it")
            else:
                _check_challenge(out, entry, leaf, sampling)
        elif isinstance(entry, RunClosed):
            closed = True
            if recorded != entry.steps:
                out.violated(7, f"the run is closed after {entry.steps} steps, but {recorded} are recorded")


def _check_challenge(out: Audit, entry: StepProven, leaf: int, sampling: Sampling) -> None:
    draw, where = sampling.draws.get(entry.step), f"entry for step {entry.step}"
    if draw is None:
        out.unchecked(7, f"{where}: no receipt of the run's beacon covers its record: what was drawn is not known")
    elif draw.size > leaf:
        out.violated(7, f"{where}: it was in the log before its shards were drawn")
    elif entry.challenge != draw.seed:
        out.violated(7, f"{where}: its challenge is not what the first receipt that covers its record gives")


def needed(out: Audit, sampling: Sampling | None, step: int) -> Sequence[int]:
    """The shards of a step that have to be proven, as far as they are known."""
    assert out.chain is not None
    if sampling is None:
        return range(out.chain.start.shards)
    return sampling.draws[step].shards if step in sampling.draws else ()


def check_terms(out: Audit, sampling: Sampling | None, policy: Policy) -> None:
    """What this auditor's policy says of sampled runs (5), and of the beacon (9)."""
    if sampling is None:
        return
    share = f"{sampling.count} of {sampling.shards} shards of a step are proven"
    if policy.min_sampled is None:
        out.unchecked(
            5,
            f"{share}: the policy does not say that fewer than all will do (min_sampled); "
            f"if {sampling.count} are enough, say so there, or, without a policy, by --min-sampled {sampling.count}",
        )
    elif sampling.count < min(policy.min_sampled, sampling.shards):
        out.unchecked(5, f"{share}: the policy wants {policy.min_sampled} (min_sampled)")
    if policy.anchors is not None and sampling.beacon not in policy.anchors:
        out.unchecked(9, f"the run's beacon, {sampling.beacon}, is not one of the policy's anchors")
