"""Attacks on the ledger: its entries, their order and number, and the checkpoints over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger.checkpoint import parse_checkpoint
from schemas.events import CheckpointIssued, Role, RunClosed, RunOpened, StepProven
from schemas.signing import decode_unverified, seal
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.forge import Case, Entry, explain, resigned, unsigned_edit
from tests.support.pipeline import ORIGIN
from tests.support.sound_run import STEPS
from zk_autograd.tee.keys import new_signing_key

Rewrite = Callable[[list[Entry]], list[Entry]]


def retold(case: Case, entries: Rewrite) -> Case:
    """The run with a ledger that its own key holder has rewritten, checkpoints and anchor to match."""
    story = case.story()
    story.entries = entries
    case.retell(story)
    return case


# In the host's hands


def test_a_reordered_ledger(case: Case) -> None:
    """The host swaps two entries: no checkpoint of either size fits any more."""
    records = case.log.records("ledger")
    case.log.swap(records[1], records[2])
    assert_violates(case.audit(), 7, 8)


def test_a_truncated_ledger(case: Case) -> None:
    """The host drops the last entry. The last checkpoint is of a larger tree."""
    case.log.delete(case.log.records("ledger")[-1])
    assert_violates(case.audit(), 8, 9)


def test_a_ledger_truncated_with_its_checkpoint(case: Case) -> None:
    """Entries and checkpoint go together. A receipt remembers the larger tree."""
    case.log.delete(*case.log.records("ledger")[2:], case.log.records("checkpoints")[-1])
    assert_violates(case.audit(), 9)


def test_a_ledger_truncated_with_checkpoint_and_receipt(case: Case) -> None:
    """Nothing in the log remembers. The anchor does, when it is asked."""
    case.log.delete(
        *case.log.records("ledger")[2:], case.log.records("checkpoints")[-1], case.log.records("anchors")[-1]
    )
    assert case.audit(live=False).exit_code == 2  # as if the ledger were late
    assert_violates(case.audit(), 10, only=True)


def test_a_log_rolled_back_to_an_earlier_day(case: Case) -> None:
    """Every topic as it was when step 1 had been anchored: consistent, signed, proven. Only a live anchor tells."""
    steps = [r for r, o in case.log.opened("steps") if getattr(o.event, "step", 0) > 1 or "Finished" in repr(o.event)]
    proofs = [r for (step, _), r in case.proofs().items() if step > 1]
    case.log.delete(
        *steps, *proofs, *case.log.records("ledger")[2:], case.log.records("checkpoints")[-1],
        case.log.records("anchors")[-1],
    )  # fmt: skip
    assert case.audit(live=False).exit_code == 0
    assert_violates(case.audit(), 10, only=True)


@pytest.mark.parametrize("index", range(5))
def test_a_ledger_that_lost_an_entry(case: Case, index: int) -> None:
    """Whichever it is."""
    case.log.delete(case.log.records("ledger")[index])
    assert_violates(case.audit(), 8)


def test_an_entry_that_the_host_adds(case: Case) -> None:
    """It has no key for it."""
    stranger = new_signing_key()
    case.log.append("ledger", seal("ledger", RunOpened(bytes(32)), stranger))
    assert_doubts(case.audit(), 1)


def test_an_entry_that_the_host_plays_again_is_no_second_entry(case: Case) -> None:
    """Signed all right: every entry is in the log once."""
    case.log.append("ledger", case.log.records("ledger")[1].value)
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_an_entry_that_the_host_changes(case: Case) -> None:
    """The signature covers it."""
    record = case.log.find("ledger", StepProven, step=2)
    case.log.replace(record, unsigned_edit("ledger", record.value, step=3))
    assert_violates(case.audit(), 1)


@pytest.mark.parametrize("topic", ["proofs", "steps", "anchors"])
def test_an_entry_by_another_role(case: Case, topic: str) -> None:
    """A prover, a trainer or an anchor may not write the ledger, good evidence or not."""
    record = case.log.find("ledger", StepProven, step=2)
    case.log.replace(record, resigned("ledger", record.value, case.insider.key(topic)))
    assert_violates(case.audit(), 1)


# In its own key holder's hands


def test_an_entry_for_an_unproven_step(case: Case) -> None:
    """The ledger calls a step proven that has no proof."""
    story = case.story()
    del story.proofs[3, 0], story.proofs[3, 1]
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


def test_an_entry_for_half_a_step(case: Case) -> None:
    """One shard's proof is there, the other's is not."""
    story = case.story()
    del story.proofs[3, 1]
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


def test_an_entry_for_a_step_that_nobody_committed_to(case: Case) -> None:
    """A step more than the run has."""

    def more(entries: list[Entry]) -> list[Entry]:
        last = entries[STEPS]
        assert isinstance(last, StepProven)
        return [*entries[:-1], replace(last, step=STEPS + 1), entries[-1]]

    assert_violates(retold(case, more).audit(), 7, only=True)


@pytest.mark.parametrize("field", ["event_id", "proofs_digest", "state_root", "work_root"])
def test_an_entry_that_says_something_else(case: Case, field: str) -> None:
    """Everything in an entry is recomputed from the public topics."""

    def other(entries: list[Entry]) -> list[Entry]:
        entries[2] = replace(entries[2], **{field: bytes(32)})
        return entries

    assert_violates(retold(case, other).audit(), 7, only=True)


def test_an_entry_that_names_a_draw_where_none_is_due(case: Case) -> None:
    """Every shard had to be proven: there is no challenge but 32 zero bytes."""

    def other(entries: list[Entry]) -> list[Entry]:
        entries[2] = replace(entries[2], challenge=b"\1" * 32)
        return entries

    assert_violates(retold(case, other).audit(), 7, only=True)


@pytest.mark.parametrize(
    "order",
    [
        [0, 2, 1, 3, 4],
        [0, 1, 2, 3, 3, 4],
        [0, 0, 1, 2, 3, 4],
        [1, 0, 2, 3, 4],
        [1, 2, 3, 4],
        [0, 1, 3, 4],
        [0, 1, 2, 4, 3],
        [0, 1, 2, 3, 4, 4],
        [0, 4, 1, 2, 3],
        [0, 1, 2, 3, 4, 0],
    ],
    ids=[
        "steps swapped",
        "a step twice",
        "opened twice",
        "a step before it is opened",
        "never opened",
        "a step left out",
        "closed too early",
        "closed twice",
        "closed before the first step",
        "opened again",
    ],
)
def test_entries_in_an_order_that_no_honest_ledger_writes(case: Case, order: list[int]) -> None:
    """Signed, checkpointed, anchored; and not what the rule gives."""
    # An entry counts once, so a ledger that says it twice has signed another tree.
    expected = 7 if len(order) == len(set(order)) else 8
    assert_violates(retold(case, lambda entries: [entries[i] for i in order]).audit(), expected)


@pytest.mark.parametrize("change", [{"steps": 2}, {"event_id": bytes(32)}])
def test_an_end_that_the_run_did_not_publish(case: Case, change: dict[str, object]) -> None:
    """The ledger closes the run with another end."""

    def other(entries: list[Entry]) -> list[Entry]:
        return [*entries[:-1], replace(entries[-1], **change)]

    assert_violates(retold(case, other).audit(), 7, only=True)


def test_an_end_of_a_run_that_goes_on(case: Case) -> None:
    """The ledger closes a run that has not ended."""
    story = case.story()
    story.events.pop()
    story.entries = lambda entries: [*entries, RunClosed(entries[0].run_id, bytes(32), STEPS)]
    case.retell(story)
    assert_violates(case.audit(), 7, only=True)


# Checkpoints


def test_a_checkpoint_by_an_unknown_key(case: Case) -> None:
    """Signed by someone without evidence."""
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves(), key=new_signing_key()))
    assert_doubts(case.audit(), 1)


def test_a_checkpoint_by_a_ledger_that_the_policy_does_not_name(case: Case) -> None:
    """Good evidence, the right role, the right tree; and not the key that the auditor pinned."""
    other = new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.LEDGER, other))
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves(), key=other))
    assert_doubts(case.audit(), 1)
    assert_violates(case.audit(policy=replace(case.policy, ledger_keys=None)), 8, only=True)


def test_a_whole_ledger_by_a_key_that_the_policy_does_not_name(case: Case) -> None:
    """The auditor pinned another ledger."""
    pinned = frozenset({new_signing_key().public_key})
    assert_violates(case.audit(policy=replace(case.policy, ledger_keys=pinned)), 1)


def test_a_checkpoint_of_another_origin(case: Case) -> None:
    """The right key signs for another log: its checkpoints must not pass for this one's."""
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves(), origin="another.example/log"))
    assert_violates(case.audit(), 8, only=True)
    assert_violates(case.audit(origin=None), 8, only=True)


def test_a_log_of_another_origin(case: Case) -> None:
    """The auditor expects a log by another name than this one has."""
    assert_violates(case.audit(origin="expected.example/log"), 8, only=True)


def test_a_checkpoint_of_a_forked_tree(case: Case) -> None:
    """The right key signs two trees of one size."""
    leaves = case.leaves()
    case.log.append("checkpoints", case.insider.checkpoint([*leaves[:-1], b"another leaf"]))
    assert_violates(case.audit(), 8, only=True)


def test_a_checkpoint_of_a_larger_tree(case: Case) -> None:
    """The right key has signed what the log does not show."""
    case.log.append("checkpoints", case.insider.checkpoint([*case.leaves(), b"one more"]))
    assert_violates(case.audit(), 8, only=True)


def test_a_checkpoint_that_is_played_again_does_not_go_back(case: Case) -> None:
    """Anyone can put an old checkpoint after a new one: it counts where it was issued."""
    case.log.append("checkpoints", case.log.records("checkpoints")[0].value)
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_a_checkpoint_that_goes_back(case: Case) -> None:
    """The right key signs a smaller tree after a larger one."""
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves()[:3]))
    assert_violates(case.audit(), 8, only=True)


def test_a_checkpoint_inside_another_keys_envelope(case: Case) -> None:
    """The envelope is by the ledger's key, the note by another: the note is what others will check."""
    other = new_signing_key()
    note = decode_unverified("checkpoints", case.insider.checkpoint(case.leaves(), key=other)).event
    case.log.append("checkpoints", case.insider.seal("checkpoints", note))
    assert_violates(case.audit(), 8, only=True)


@pytest.mark.parametrize("note", ["no note at all", "origin\n5\nAAAA\n\n— origin AAAAAAAA\n"])
def test_a_checkpoint_that_is_none(case: Case, note: str) -> None:
    """Signed text that is not a checkpoint."""
    case.log.append("checkpoints", case.insider.seal("checkpoints", CheckpointIssued(note)))
    assert_violates(case.audit(), 8, only=True)


def test_a_checkpoint_with_a_line_more(case: Case) -> None:
    """Extension lines could carry what nobody audits."""
    signer = case.insider.key("checkpoints")
    issued = decode_unverified("checkpoints", case.log.records("checkpoints")[-1].value).event
    assert isinstance(issued, CheckpointIssued)
    assert parse_checkpoint(issued.note).origin == ORIGIN
    text, _, signatures = issued.note.partition("\n\n")
    case.log.append("checkpoints", seal("checkpoints", CheckpointIssued(f"{text}\nmore\n\n{signatures}"), signer))
    assert_violates(case.audit(), 8, only=True)


def test_a_missing_last_checkpoint(case: Case) -> None:
    """Entries that no checkpoint covers are nobody's word."""
    case.log.delete(case.log.records("checkpoints")[-1])
    assert_violates(case.audit(), 8)
