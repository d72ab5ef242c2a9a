"""Epochs: runs of steps that the ledger closes as one unit, so that they can be audited one at a time.

Steps 1 to n are epoch 1, n + 1 to 2n epoch 2, and so on; a run that ends in mid-epoch closes a short one. The entry
names the states before and after: epochs that different people audited fit together where one's end is the next one's
beginning.
"""

from __future__ import annotations

from ledger.chain import RunChain
from ledger.frontier import Frontier
from ledger.tree import Tree
from schemas.events import EpochClosed
from zk_autograd.errors import UsageError


def epoch_range(epoch: int, epoch_steps: int, last: int) -> range:
    """The steps of an epoch (from 1) of a run of ``last`` steps; UsageError if there is no such epoch."""
    first = (epoch - 1) * epoch_steps + 1
    if epoch_steps < 1 or epoch < 1 or first > last:
        if epoch_steps < 1:
            raise UsageError(f"epoch {epoch}: the run has no epochs: it was started without --epoch-steps")
        count = -(-last // epoch_steps)
        raise UsageError(
            f"epoch {epoch}: expected 1 to {count}: the run has {count} epochs so far (steps an epoch: {epoch_steps}, "
            f"steps: {last})"
        )
    return range(first, min(epoch * epoch_steps, last) + 1)


def ends_epoch(chain: RunChain, step: int) -> bool:
    """Whether an epoch closes with this step: it is full, or the run ends."""
    size = chain.start.epoch_steps
    if not size:
        return False
    return step % size == 0 or (chain.finished is not None and chain.finished.event.steps == step)


def epoch_closed(chain: RunChain, last: int, entries: Tree | Frontier) -> EpochClosed:
    """The entry that closes the epoch whose last step is ``last``.

    Args:
        entries: over the epoch's StepProven entries, in order.
    """
    first = last - entries.size + 1
    return EpochClosed(
        run_id=chain.run_id,
        epoch=(last - 1) // chain.start.epoch_steps + 1,
        first_step=first,
        last_step=last,
        before=chain.state_root(first - 1),
        after=chain.state_root(last),
        last_event=chain.steps[last - 1].event_id,
        entries_root=entries.root(),
    )
