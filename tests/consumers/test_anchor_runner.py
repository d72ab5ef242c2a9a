"""The anchor consumer: what it raises the counter for, what it stops at, and what it makes up for after a crash."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from anchor import AnchorRefused, open_anchor
from consumers.anchor.runner import AnchorRunner
from consumers.options import Reporter
from ledger.note import NoteSignature, add_signatures
from schemas.events import Anchored, CheckpointIssued, Role, RunOpened
from schemas.signing import decode_unverified, seal
from schemas.wire import open_event_log
from tests.support.forge import Case, Entry
from tests.support.pipeline import ORIGIN
from zk_autograd.errors import FencedError, VerificationError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import new_signing_key


def runner(case: Case, log: EventLog, policy: Policy | None = None, origin: str = ORIGIN) -> AnchorRunner:
    anchor = open_anchor(case.anchor_uri)
    return AnchorRunner(log, policy or case.policy, case.insider.key("anchors"), origin, anchor, Reporter(True))


def run(case: Case, rounds: int = 1, policy: Policy | None = None, origin: str = ORIGIN) -> list[bool]:
    """A new instance for some rounds; what each returned."""
    with open_event_log(case.log.url) as log:
        made = runner(case, log, policy, origin)
        try:
            return [made.run_once() for _ in range(rounds)]
        finally:
            made.close()


def grow(case: Case) -> None:
    """Another run is opened: a leaf and a checkpoint more."""
    case.log.append("ledger", case.insider.seal("ledger", RunOpened(secrets.token_bytes(32))))
    case.log.append("checkpoints", case.insider.checkpoint(case.leaves()))


def published(case: Case) -> list[Anchored]:
    return [o.event for _, o in case.log.opened("anchors") if isinstance(o.event, Anchored)]


def test_a_new_checkpoint_is_anchored_once(case: Case) -> None:
    assert run(case) == [False]
    grow(case)
    assert run(case, rounds=2) == [True, False]
    assert run(case) == [False]
    assert [(e.counter, e.size) for e in published(case)] == [(1, 2), (2, 5), (3, 6)]
    assert case.audit().exit_code == 0


def test_checkpoints_that_were_missed_are_anchored_by_the_newest(case: Case) -> None:
    for _ in range(3):
        grow(case)
    assert run(case, rounds=2) == [True, False]
    assert [e.size for e in published(case)] == [2, 5, 8]
    assert case.audit().exit_code == 0


def test_it_counts_how_far_it_is_behind(case: Case) -> None:
    with open_event_log(case.log.url) as log:
        made = runner(case, log)
        made.run_once()
        assert made.behind == 0
        case.log.append("ledger", case.insider.seal("ledger", RunOpened(bytes(32))))
        made.run_once()
        assert made.behind == 1
        made.close()


def test_a_receipt_that_a_crash_held_back_is_published(case: Case) -> None:
    """The anchor has answered; the process died before the topic had it."""
    before = published(case)
    case.log.delete(case.log.records("anchors")[-1])
    assert run(case) == [False]
    assert published(case) == before
    assert run(case) == [False]
    assert published(case) == before
    assert case.audit().exit_code == 0


@pytest.mark.parametrize("anchored", ["before", "after"])
def test_a_receipt_that_a_crash_held_back_names_the_note_it_was_given_for(case: Case, anchored: str) -> None:
    """A tree's checkpoint is there twice, once witnesses have cosigned it; an anchor may have been given either."""
    grow(case)
    if anchored == "before":
        run(case)
    note = case.log.opened("checkpoints")[-1][1].event
    assert isinstance(note, CheckpointIssued)
    line = NoteSignature("w.example", bytes(4), bytes(72))
    cosigned = CheckpointIssued(add_signatures(note.note, [line]))
    (record,) = case.log.append("checkpoints", case.insider.seal("checkpoints", cosigned))
    run(case)
    before = published(case)
    assert [e.size for e in before] == [2, 5, 6], "the same tree is not anchored twice"
    assert (before[-1].checkpoint_id == decode_unverified("checkpoints", record.value).event_id) == (
        anchored == "after"
    )
    case.log.delete(case.log.records("anchors")[-1])
    run(case)
    assert published(case) == before
    assert case.audit().exit_code == 0


def test_all_receipts_that_are_missing_are_published_in_order(case: Case) -> None:
    before = published(case)
    case.log.clear("anchors")
    run(case)
    assert published(case) == before


def test_a_receipt_in_a_strangers_name_does_not_hold_ones_own_back(case: Case) -> None:
    first, last = published(case)
    case.log.clear("anchors")
    case.log.append("anchors", case.insider.seal("anchors", first))
    case.log.append("anchors", seal("anchors", replace(last, counter=99), new_signing_key()), b"garbage")
    run(case)
    assert published(case)[-1] == last


# Alarms


def stops(case: Case, message: str, **options: object) -> None:
    """It stops with this message, and neither the topic nor the anchor has moved."""
    receipts, head = published(case), open_anchor(case.anchor_uri).head()
    with pytest.raises(VerificationError, match=message):
        run(case, **options)  # type: ignore[arg-type]
    assert published(case) == receipts
    assert open_anchor(case.anchor_uri).head() == head


def test_it_stops_at_a_ledger_that_was_truncated(case: Case) -> None:
    case.log.delete(case.log.records("ledger")[-1])
    stops(case, "the log was rolled back or forked")


def test_it_stops_at_a_ledger_that_was_truncated_with_its_checkpoint(case: Case) -> None:
    case.log.delete(*case.log.records("ledger")[2:], case.log.records("checkpoints")[-1])
    stops(case, "the log was rolled back or forked")


def test_it_stops_at_a_ledger_that_was_emptied(case: Case) -> None:
    for topic in ("ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    stops(case, "the log was rolled back or forked")


def test_it_stops_at_a_ledger_that_was_rewritten(case: Case) -> None:
    """The key's own holder signs another story of the same size."""

    def other(entries: list[Entry]) -> list[Entry]:
        return [replace(e, **({"work_root": bytes(32)} if hasattr(e, "work_root") else {})) for e in entries]

    path, story = case.anchor_path, case.story()
    story.entries = other
    case.retell(story)
    case.log.clear("anchors")
    case.anchor_path = path
    stops(case, "the log was rolled back or forked")


def test_it_stops_at_a_larger_ledger_that_was_rewritten(case: Case) -> None:
    """A fork that has outgrown the anchored tree is a fork still."""
    case.log.swap(*case.log.records("ledger")[1:3])
    case.log.clear("checkpoints")
    for _ in range(4):
        grow(case)
    stops(case, "the log was rolled back or forked")


def test_it_stops_at_a_checkpoint_of_another_tree(case: Case) -> None:
    grow(case)
    case.log.append("checkpoints", case.insider.checkpoint([*case.leaves()[:-1], b"another leaf"]))
    stops(case, "not of the entries in the topic ledger")


def test_it_stops_at_a_checkpoint_of_another_tree_before_a_good_one(case: Case) -> None:
    """A lie is not made good by what comes after it."""
    case.log.append("checkpoints", case.insider.checkpoint([*case.leaves()[:-1], b"another leaf"]))
    grow(case)
    stops(case, "not of the entries in the topic ledger")


def test_it_stops_at_a_checkpoint_whose_entries_are_missing(case: Case) -> None:
    case.log.append("checkpoints", case.insider.checkpoint([*case.leaves(), b"one more"]))
    stops(case, "entries are missing")


@pytest.mark.parametrize("topic", ["ledger", "checkpoints"])
def test_strangers_and_copies_do_not_stop_it(case: Case, topic: str) -> None:
    """Whoever can write there could else end the anchoring of every run for good."""
    stranger = case.insider.checkpoint(case.leaves(), key=new_signing_key())
    grow(case)
    case.log.append(topic, b"garbage", stranger, case.log.records(topic)[0].value)
    assert run(case) == [True]
    assert [e.size for e in published(case)] == [2, 5, 6]


def test_it_stops_if_the_anchor_is_behind_its_own_receipts(case: Case) -> None:
    """An anchor file that was put back to an earlier state: its counter may not be used again."""
    before = case.anchor_path.read_bytes()
    grow(case)
    assert run(case) == [True]
    case.anchor_path.write_bytes(before)
    stops(case, "rolled back")


def test_it_passes_over_a_checkpoint_by_a_ledger_that_the_policy_does_not_name(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any attested ledger's key could else stop the anchor of another's log."""
    other, receipts = new_signing_key(), published(case)
    case.log.append("steps", case.insider.introduce(Role.LEDGER, other))
    case.log.append("checkpoints", case.insider.checkpoint([*case.leaves(), b"more"], key=other))
    assert run(case) == [False]
    assert published(case) == receipts
    assert "which the policy does not name (ledger_keys)" in capsys.readouterr().out


def test_it_stops_at_a_log_of_another_origin(case: Case) -> None:
    stops(case, "expected a signature by one of", origin="other.example/log")


def test_it_stops_at_an_anchor_that_was_rolled_back_under_it(case: Case) -> None:
    with open_event_log(case.log.url) as log:
        made = runner(case, log)
        case.anchor_path.write_bytes(case.anchor_path.read_bytes()[:-208])
        grow(case)
        with pytest.raises(VerificationError, match="rolled back"):
            made.run_once()
        made.close()


def test_an_anchor_that_someone_else_has_raised_refuses(case: Case) -> None:
    with open_event_log(case.log.url) as log:
        made = runner(case, log)
        grow(case)
        case.anchor(case.log.records("checkpoints")[-1].value, case.leaves())
        grow(case)
        with pytest.raises(AnchorRefused, match="stale"):
            made.run_once()
        made.close()


def test_a_second_instance_fences_the_first_off(case: Case) -> None:
    with open_event_log(case.log.url) as log:
        first = runner(case, log)
        second = runner(case, log)
        grow(case)
        assert second.run_once()
        grow(case)
        with pytest.raises((FencedError, AnchorRefused)):
            first.run_once()
        first.close()
        second.close()
    assert run(case) == [True]
    assert [e.size for e in published(case)] == [2, 5, 6, 7]
    assert case.audit().exit_code == 0
