"""Attacks on ``zk-audit compare``: a side that holds evidence against itself, and hides it among what agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anchor import open_anchor
from consumers.audit.collect import collect
from consumers.audit.compare import View, compare, view
from ledger.tree import Tree
from schemas.events import Anchored
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.support.forge import Case
from tests.support.pipeline import ORIGIN


@pytest.fixture
def second(case: Case, tmp_path: Path) -> Case:
    """Another copy of the same run."""
    folder = tmp_path / "second"
    folder.mkdir()
    return Case(case.sound, folder, case.verdicts)


def seen(case: Case, name: str, reference: Case) -> View:
    policy = reference.policy
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        return view(name, collect(log, bytes(32), policy), policy, ORIGIN)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [2, 3])
def test_a_contradicting_note_before_one_that_agrees(case: Case, second: Case, turned: bool, size: int) -> None:
    """What: a ledger signs two roots for one size, and shows the right one last; or signs one of a size of which there
    is no other note. Why: of equal sizes only a side's last note was looked at, and others not at all where the ledgers
    agree, so the views were said to agree, exit code 0. Where: ``compare._contradicting_notes``."""
    other = second.insider.checkpoint([*case.leaves()[: size - 1], b"another entry"])
    second.log.insert(second.log.records("checkpoints")[0], other)
    views = [seen(case, "mine", case), seen(second, "theirs", case)]
    facts = compare(*reversed(views)) if turned else compare(*views)
    assert facts["verdict"] == "contradict"
    (pair,) = facts["notes"]
    assert ("one size" in pair["why"]) == (size == 2)
    assert decode_unverified("checkpoints", other).event.note in (pair["a"], pair["b"])  # type: ignore[union-attr]


@pytest.mark.parametrize("turned", [False, True])
def test_a_contradicting_receipt_before_one_that_agrees(case: Case, second: Case, turned: bool) -> None:
    """What: an anchor gives two receipts for one count. Why and where: as above, ``_contradicting_receipts``."""
    records = second.log.records("anchors")
    honest = decode_unverified("anchors", records[0].value).event
    assert isinstance(honest, Anchored)
    leaves = [*case.leaves()[:1], b"another entry"]
    path, header = second.folder / "forked", second.anchor_path.read_bytes()[:64]
    path.write_bytes(header)
    anchor, tree = open_anchor(f"file:{path}"), Tree(leaves)
    note = decode_unverified("checkpoints", second.insider.checkpoint(leaves)).event.note  # type: ignore[union-attr]
    receipt = anchor.advance(anchor.head(), tree.size, tree.root(), note, [])
    assert (anchor.identity(), receipt.head.counter) == (honest.anchor, honest.counter)
    forged = replace(honest, root=tree.root(), size=tree.size, receipt=receipt.data)
    second.log.insert(records[0], second.insider.seal("anchors", forged))
    views = [seen(case, "mine", case), seen(second, "theirs", case)]
    facts = compare(*reversed(views)) if turned else compare(*views)
    assert facts["verdict"] == "contradict"
    assert facts["receipts"]
