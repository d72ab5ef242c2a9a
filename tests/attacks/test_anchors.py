"""Attacks on receipts, and on the anchor itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from anchor import open_anchor
from consumers.audit.outcome import Status
from ledger.tree import Tree
from schemas.events import Anchored, RunOpened
from schemas.signing import decode_unverified
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.forge import Case, explain, flipped, resigned, unsigned_edit


def receipts(case: Case) -> list[Anchored]:
    return [o.event for _, o in case.log.opened("anchors") if isinstance(o.event, Anchored)]


def publish(case: Case, *events: Anchored) -> None:
    """Replaces the topic's content by these receipts, signed by the anchor's key."""
    case.log.clear("anchors")
    case.log.append("anchors", *(case.insider.seal("anchors", e) for e in events))


# Receipts


@pytest.mark.parametrize("change", [{"root": bytes(32)}, {"size": 4}, {"counter": 3}], ids=["root", "size", "counter"])
def test_a_receipt_that_was_given_for_something_else(case: Case, change: dict[str, object]) -> None:
    """The event says one thing, the receipt that it carries another."""
    first, last = receipts(case)
    publish(case, first, replace(last, **change))
    assert_violates(case.audit(live=False), 9, only=True)


def test_a_receipt_for_another_root(case: Case) -> None:
    """Someone raised the anchor for a forked ledger: the very receipt says so."""
    leaves = [*case.leaves()[:-1], b"another leaf"]
    for topic in ("anchors", "checkpoints"):
        case.log.delete(case.log.records(topic)[-1])
    case.anchor_path.write_bytes((case.sound.home.path / "anchor").read_bytes()[: 64 + 208])
    case.anchor(case.insider.checkpoint(leaves), leaves)
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves()))
    assert_violates(case.audit(), 9, 10)


def test_receipts_of_another_anchor(case: Case) -> None:
    """The host makes an anchor of its own, which says what it is told. The policy names another."""
    policy = case.policy
    case.anchor_path = case.folder / "the hosts own anchor"
    case.log.clear("anchors")
    for record in case.log.records("checkpoints"):
        size = 2 if record.offset == 0 else 5
        case.anchor(record.value, case.leaves()[:size])
    assert case.audit().exit_code == 0  # a policy that names the host's own anchor
    assert_doubts(case.audit(policy), 9, 10)
    assert_doubts(case.audit(policy, live=False), 9)


def test_a_receipt_that_claims_another_anchor(case: Case) -> None:
    """The identity in the event is pinned; the receipt is another anchor's."""
    real = receipts(case)
    identity = real[0].anchor
    case.anchor_path = case.folder / "another anchor"
    case.log.clear("anchors")
    case.anchor(case.log.records("checkpoints")[0].value, case.leaves()[:2])
    policy = replace(case.policy, anchors={identity: ""})
    publish(case, replace(receipts(case)[0], anchor=identity), real[1])
    assert_violates(case.audit(policy, live=False), 9, only=True)


def test_a_counter_that_goes_down(case: Case) -> None:
    """The host swaps the receipts, so that the newest one is an old one."""
    case.log.swap(*case.log.records("anchors"))
    assert_violates(case.audit(), 9)


def test_a_receipt_that_is_missing_before_the_last(case: Case) -> None:
    """Counters of this anchor have no gaps: the host hides what the anchor was once raised for."""
    case.log.delete(case.log.records("anchors")[0])
    assert_violates(case.audit(live=False), 9, only=True)


@pytest.mark.parametrize("at", [0, 40, 60, 90, 120, 150, 175])
def test_a_receipt_with_a_changed_byte(case: Case, at: int) -> None:
    """Signed anew by the anchor's key; the receipt does not hold by itself."""
    first, last = receipts(case)
    publish(case, first, replace(last, receipt=flipped(last.receipt, at)))
    assert_violates(case.audit(live=False), 9, only=True)


@pytest.mark.parametrize("receipt", [b"", bytes(208), bytes(60_001)], ids=["empty", "zeros", "huge"])
def test_a_receipt_that_is_none(case: Case, receipt: bytes) -> None:
    """Bytes in a receipt's place."""
    first, last = receipts(case)
    publish(case, first, replace(last, receipt=receipt))
    assert_violates(case.audit(live=False), 9, only=True)


@pytest.mark.parametrize("anchor", ["", "nothing", "http://127.0.0.1/receipt", "file:", "file:" + "0" * 63])
def test_a_receipt_of_an_anchor_that_cannot_be(case: Case, anchor: str) -> None:
    """An identity of no known kind must end in a doubt, not in a crash, and must not be asked for anything."""
    first, last = receipts(case)
    if not anchor:
        anchor = "?"
    publish(case, first, last, replace(last, anchor=anchor))
    assert_doubts(case.audit(replace(case.policy, anchors=None), live=False), 9)
    # Who has chosen an anchor need not care what else there is.
    assert case.audit(live=False).exit_code == 0


def test_a_receipt_for_a_checkpoint_that_is_not_there(case: Case) -> None:
    """Which checkpoint was anchored is part of what a receipt is for."""
    first, last = receipts(case)
    publish(case, first, replace(last, checkpoint_id=bytes(32)))
    assert_violates(case.audit(live=False), 9, only=True)


def test_a_receipt_under_another_checkpoint(case: Case) -> None:
    """The anchor took the note of one checkpoint; the event names another one of this log."""
    first, last = receipts(case)
    publish(case, first, replace(last, checkpoint_id=first.checkpoint_id))
    assert_violates(case.audit(live=False), 9, only=True)


def test_a_receipt_by_another_role(case: Case) -> None:
    """The ledger's key may not sign for the anchor."""
    record = case.log.records("anchors")[1]
    case.log.replace(record, resigned("anchors", record.value, case.insider.key("ledger")))
    assert_doubts(case.audit(live=False), 1, 9)


def test_a_receipt_that_the_host_changes(case: Case) -> None:
    """Without a key, not even what is beside the receipt can be changed."""
    record = case.log.records("anchors")[1]
    case.log.replace(record, unsigned_edit("anchors", record.value, counter=7))
    assert_doubts(case.audit(live=False), 1, 9)


def test_a_receipt_that_is_published_twice_is_harmless(case: Case) -> None:
    """After a crash the anchor's answer is published again."""
    case.log.append("anchors", case.log.records("anchors")[1].value)
    assert case.audit().exit_code == 0


def test_a_receipt_that_is_withheld(case: Case) -> None:
    """No lie yet, only less than there is: the audit says what is not anchored, and does not call the run sound."""
    case.log.delete(case.log.records("anchors")[1])
    found = case.audit()
    assert found.exit_code == 2, explain(found)
    assert "2 of 5 entries" in found.checks[9].detail


def test_entries_of_other_runs_need_not_be_anchored(case: Case) -> None:
    """On a busy log there is always something that the anchor has not reached yet: it is not this run's."""
    case.log.append("ledger", case.insider.seal("ledger", RunOpened(bytes(32))))
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves()))
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert "5 of 6 entries anchored" in found.checks[9].detail


def test_one_of_two_anchors_that_stays_behind(case: Case) -> None:
    """The policy names two anchors. One that the host has in its hands cannot make up for the other's silence."""
    identity, uri = next(iter(case.policy.anchors.items()))
    honest = case.anchor_path
    case.anchor_path = case.folder / "second"
    for record, size in zip(case.log.records("checkpoints"), (2, 5), strict=True):
        case.anchor(record.value, case.leaves()[:size])
    policy = replace(case.policy, anchors={identity: uri, open_anchor(case.anchor_uri).identity() or "": ""})
    case.anchor_path = honest
    assert case.audit(policy).exit_code == 0
    last = next(r for r, o in case.log.opened("anchors") if (o.event.anchor, o.event.size) == (identity, 5))
    case.log.delete(last)
    found = case.audit(policy, live=False)
    assert found.exit_code == 2, explain(found)
    case.log.delete(next(r for r, o in case.log.opened("anchors") if o.event.anchor == identity))
    found = case.audit(policy, live=False)
    assert found.exit_code == 2, explain(found)


# The anchor itself


def test_an_anchor_that_was_rolled_back(case: Case) -> None:
    """The host restores an older copy of the anchor's file."""
    case.anchor_path.write_bytes(case.anchor_path.read_bytes()[:-208])
    assert_violates(case.audit(), 10, only=True)


def test_an_anchor_that_was_emptied(case: Case) -> None:
    """Nothing is there any more, and the log's receipts say that there was."""
    policy = case.policy
    case.anchor_path.unlink()
    found = case.audit(policy)
    assert_violates(found, 10, only=True)


def test_an_anchor_that_was_exchanged(case: Case) -> None:
    """Another anchor under the same address, raised for the same trees."""
    policy = case.policy
    shutil.move(case.anchor_path, case.folder / "away")
    case.anchor(case.log.records("checkpoints")[1].value, case.leaves())
    case.log.delete(case.log.records("anchors")[-1])
    assert_violates(case.audit(policy), 10, only=True)


def test_an_anchor_that_went_on_with_another_log(case: Case) -> None:
    """It stands above the last receipt, at a tree that this log does not have."""
    leaves = [*case.leaves(), b"a leaf of another story"]
    case.anchor(case.insider.checkpoint(leaves), leaves)
    case.log.delete(case.log.records("anchors")[-1])
    assert_violates(case.audit(), 10, only=True)


def test_an_anchor_that_is_ahead_of_its_receipts_is_no_attack(case: Case) -> None:
    """The anchor answered, and the consumer died before it published: the tree is in the log, so nothing is lost."""
    leaves = case.leaves()
    anchor, tree = open_anchor(case.anchor_uri), Tree(leaves)
    case.log.delete(case.log.records("anchors")[1])
    assert anchor.head() is not None
    assert anchor.head().root == tree.root()
    found = case.audit()
    assert found.checks[10].status is Status.PASSED, explain(found)


def test_an_anchor_that_was_tampered_with(case: Case) -> None:
    """A byte of a record in the anchor's own file."""
    policy, content = case.policy, case.anchor_path.read_bytes()
    case.anchor_path.write_bytes(flipped(content, 64 + 50))
    assert_violates(case.audit(policy), 10, only=True)


def test_an_anchor_that_is_something_else_now(case: Case) -> None:
    """A file of the same name."""
    policy = case.policy
    case.anchor_path.write_bytes(b"not an anchor" * 20)
    assert_violates(case.audit(policy), 10, only=True)


def test_an_anchor_that_cannot_be_reached_could_not_be_checked(case: Case) -> None:
    """It was to be asked and did not answer: that is no proof of a roll-back, and no clean bill either."""
    policy = case.policy
    case.anchor_path.unlink()
    case.anchor_path.mkdir()
    found = case.audit(policy)
    assert found.exit_code == 2, explain(found)
    assert found.checks[10].findings


def test_an_anchor_that_nobody_has_raised_yet_could_not_be_checked(case: Case) -> None:
    """Before the first receipt, an empty anchor is as it should be."""
    case.log.clear("anchors")
    case.anchor_path = Path(f"{case.anchor_path}-to-be")
    found = case.audit(replace(case.policy, anchors={"file:" + "0" * 64: case.anchor_uri}))
    assert found.exit_code == 2, explain(found)


def test_the_receipts_opened_by_these_tests_are_the_real_ones(case: Case) -> None:
    """The anchor's file holds what the log carries."""
    content = case.anchor_path.read_bytes()
    for number, event in enumerate(receipts(case)):
        assert content[64 + 208 * number :][:208] == event.receipt
        assert decode_unverified("anchors", case.log.records("anchors")[number].value).event == event
