"""Attacks that one auditor alone may not see: a log that is shown to two of them in two ways."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.audit.bundle import write_bundle
from consumers.audit.cli import main
from consumers.audit.collect import collect
from consumers.audit.compare import as_text, compare, view
from ledger.checkpoint import verify_checkpoint
from ledger.note import VerifierKey
from schemas.events import RunOpened, RunStarted
from schemas.wire import open_event_log
from tests.support.forge import Case
from tests.support.pipeline import ORIGIN
from zk_autograd.policy import Policy


@pytest.fixture
def other(case: Case) -> Case:
    """A second copy of the same log, in another auditor's hands."""
    folder = case.folder / "other"
    folder.mkdir()
    return Case(case.sound, folder, case.verdicts)


def compared(case: Case, other: Case, policy: Policy | None = None) -> dict[str, Any]:
    views = []
    for side in (case, other):
        chosen = policy or replace(side.policy, anchors=None)
        with open_event_log(f"{side.log.url}?mode=ro", create=False) as log:
            views.append(view(side.log.url, collect(log, bytes(32), chosen), chosen, ORIGIN))
    return compare(*views)


def test_one_log_is_one_log(case: Case, other: Case) -> None:
    facts = compared(case, other)
    assert (facts["verdict"], facts["exit_code"], facts["first_difference"]) == ("agree", 0, None)


def test_an_older_view_is_no_contradiction(case: Case, other: Case) -> None:
    """The newer one has an entry more, with its checkpoint and receipt."""
    case.log.append("ledger", case.insider.seal("ledger", RunOpened(bytes(32))))
    case.sign_and_anchor(case.leaves())
    for facts in (compared(case, other), compared(other, case)):
        assert (facts["verdict"], facts["exit_code"]) == ("older", 0), facts
        assert not facts["rolled_back"]


def test_a_split_view_is_found_at_its_first_leaf_and_both_notes_are_evidence(case: Case, other: Case) -> None:
    """The ledger signs one log for one auditor and another for the other, of the same size."""
    for side, run in ((case, b"\1" * 32), (other, b"\2" * 32)):
        side.log.append("ledger", side.insider.seal("ledger", RunOpened(run)))
        side.sign_and_anchor(side.leaves())
        assert side.audit(replace(side.policy, anchors=None)).exit_code == 0, "each view is sound by itself"
    facts = compared(case, other)
    assert (facts["verdict"], facts["exit_code"], facts["first_difference"]) == ("contradict", 1, 5)
    (pair,) = facts["notes"]
    key = bytes.fromhex(pair["key"])
    notes = [verify_checkpoint(pair[letter], ORIGIN, [VerifierKey(ORIGIN, key)]) for letter in "ab"]
    assert notes[0].size == notes[1].size == 6
    assert notes[0].root != notes[1].root
    assert key == case.insider.key("ledger").public_key
    text = as_text(facts)
    assert pair["a"] in text
    assert pair["b"] in text
    assert "agree up to leaf 5" in text


def test_views_that_split_at_other_sizes_are_shown_by_notes_and_leaves(case: Case, other: Case) -> None:
    for side, runs in ((case, (1,)), (other, (2, 3))):
        for run in runs:
            side.log.append("ledger", side.insider.seal("ledger", RunOpened(bytes([run]) * 32)))
        side.sign_and_anchor(side.leaves())
    facts = compared(case, other)
    assert (facts["verdict"], facts["first_difference"]) == ("contradict", 5)
    (pair,) = facts["notes"]
    assert "covers leaf 5" in pair["why"].replace("cover leaf", "covers leaf")


def test_an_anchor_that_was_rolled_back_between_two_views(case: Case, other: Case) -> None:
    """A file anchor's owner puts back an older copy and raises it again: one count, two trees."""
    for side, run in ((case, b"\1" * 32), (other, b"\2" * 32)):
        side.log.append("ledger", side.insider.seal("ledger", RunOpened(run)))
        side.sign_and_anchor(side.leaves())
    facts = compared(case, other)
    assert any("counter 3" in text for text in facts["receipts"])


@pytest.mark.parametrize("kept", ["checkpoints", "anchors"])
def test_a_side_that_was_rolled_back(case: Case, other: Case, kept: str) -> None:
    """The last entry is gone; what was left, a checkpoint or a receipt, says that it was there."""
    case.log.delete(case.log.records("ledger")[-1])
    gone = "anchors" if kept == "checkpoints" else "checkpoints"
    case.log.delete(case.log.records(gone)[-1])
    for facts in (compared(case, other), compared(other, case)):
        assert (facts["verdict"], facts["exit_code"]) == ("contradict", 1), facts
        (text,) = facts["rolled_back"]
        assert text.startswith(case.log.url)
        assert "the other has them" in text


def test_a_run_told_anew_is_a_split(case: Case, other: Case) -> None:
    story = case.story()
    story.edit(RunStarted, name="another")
    case.retell(story)
    facts = compared(case, other)
    assert (facts["verdict"], facts["first_difference"]) == ("contradict", 0)


def test_a_strangers_entries_and_notes_contradict_nothing(case: Case, other: Case) -> None:
    """Nobody can make a ledger look guilty without its key: what it has not signed does not count."""
    key = case.insider.key("proofs")
    note = case.insider.checkpoint([b"another"], key=key)
    case.log.append("ledger", b"garbage")
    case.log.append("checkpoints", note)
    assert compared(case, other)["verdict"] == "agree"


def test_another_ledgers_log_is_not_comparable(case: Case, other: Case) -> None:
    policy = replace(case.policy, ledger_keys=frozenset({bytes(32)}), anchors=None)
    assert compared(case, other, policy)["exit_code"] == 2
    other.log.clear("ledger")
    assert compared(case, other)["exit_code"] == 2


def test_bundles_and_logs_are_compared_by_the_command(
    case: Case, other: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "mine.zkb"
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        write_bundle(log, case.run_id, None, bundle)
    home = ["--home", str(tmp_path), "--dev"]
    assert main(["compare", str(bundle), other.log.url, *home]) == 0
    assert "verdict: AGREE: one log, equally far" in capsys.readouterr().out
    other.log.append("ledger", other.insider.seal("ledger", RunOpened(bytes(32))))
    other.sign_and_anchor(other.leaves())
    case.log.append("ledger", case.insider.seal("ledger", RunOpened(b"\1" * 32)))
    case.sign_and_anchor(case.leaves())
    assert main(["compare", str(bundle), other.log.url, *home]) == 0
    assert "A is an older view" in capsys.readouterr().out
    assert main(["compare", case.log.url, other.log.url, *home, "--json"]) == 1
    assert main(["compare", str(bundle), other.log.url, *home, "--run", "x"]) == 2
    shutil.rmtree(other.folder)
    assert main(["compare", str(bundle), other.log.url, *home]) == 2
