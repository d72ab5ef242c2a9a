"""Check 8, the part about witnesses: enough of those that the auditor named have cosigned the ledger."""

from __future__ import annotations

from consumers.audit.collected import Collected
from consumers.audit.log_checks import entries_needed
from consumers.audit.outcome import Audit
from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import cosigned
from ledger.tree import GrowingTree
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.policy import Policy


def check_witnesses(out: Audit, found: Collected, tree: GrowingTree, policy: Policy) -> None:
    """8: a quorum of the policy's witnesses has cosigned a checkpoint that covers the run.

    A wrong cosignature is a violation: the ledger has signed for a note that holds it, and checks each before. One that
    is missing is a doubt, since a witness may be down; the ledger goes on asking.
    """
    if policy.witnesses is None:
        return
    wanted, keys = policy.witnesses.quorum, policy.witnesses.keys
    covered = 0
    for number, opened in enumerate(found.checkpoints):
        try:
            checkpoint = parse_checkpoint(opened.event.note)
            who = cosigned(checkpoint.note, keys)
        except DecodeError:
            continue  # said already
        except VerificationError as error:
            out.violated(8, f"checkpoint {number}: {error}")
            continue
        if len(who) >= wanted and checkpoint.size <= tree.size and tree.root_at(checkpoint.size) == checkpoint.root:
            covered = max(covered, checkpoint.size)
    out.cosigned = covered
    state = f"{covered} of {tree.size} entries cosigned by {wanted} of {len(keys)} witnesses"
    out.checks[8].detail += f", {state}"
    if covered < entries_needed(out, found, tree):
        out.unchecked(8, f"{state}: wait for them, or look at what zk-ledger says of them, then audit again")
