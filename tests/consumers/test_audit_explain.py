"""``zk-audit explain``: what it says of a step is what the log holds, and it stops where the log stops."""

from __future__ import annotations

import hashlib
import json

import pytest

from consumers.audit.cli import main
from consumers.audit.explain import MEANINGS
from ledger.tree import Tree
from schemas.events import StepCommitted
from schemas.signing import decode_unverified
from tests.support.forge import Case, flipped
from tests.support.pipeline import ORIGIN
from zk_autograd.merkle import verify_inclusion
from zk_autograd.statement import STATEMENTS


def explained(case: Case, capsys: pytest.CaptureFixture[str], step: int, *words: str) -> tuple[int, str]:
    policy = case.folder / "policy.json"
    policy.write_text(case.policy.to_json())
    where = ["--home", str(case.sound.home.path), "--log", case.log.url, "--origin", ORIGIN, "--policy", str(policy)]
    run = [] if "--run" in words else ["--run", case.run_id.hex()]
    code = main(["explain", str(step), *where, *run, *words])
    captured = capsys.readouterr()
    return code, captured.out or captured.err


def test_every_link_of_a_step_is_what_the_log_holds(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = explained(case, capsys, 2, "--json")
    facts = json.loads(text)
    assert code == facts["exit_code"] == 0
    opened = next(o for _, o in case.log.opened("steps") if isinstance(o.event, StepCommitted) and o.event.step == 2)
    assert facts["event"]["id"] == opened.event_id.hex()
    assert facts["event"]["previous"] == opened.event.previous.hex()
    integers = facts["public_integers"][0]["integers"]
    assert [i["value"] for i in integers] == list(opened.event.public)
    assert [i["name"] for i in integers] == list(case.sound.circuit.statement.public)
    proofs = case.proofs()
    for row in facts["proofs"]:
        event = decode_unverified("proofs", proofs[2, row["shard"]].value).event
        assert row["verified"]
        assert row["sha256"] == hashlib.sha256(event.proof).hexdigest()
        assert row["commitments"]["post"] == event.proof[64:128].hex()
    leaves, checkpoint = case.leaves(), facts["checkpoint"]
    leaf = facts["entry"]["leaf"]
    assert (leaf, facts["entry"]["of"], checkpoint["size"]) == (2, 5, 5)
    path = [bytes.fromhex(node) for node in checkpoint["path"]]
    verify_inclusion(leaves[leaf], leaf, 5, path, bytes.fromhex(checkpoint["root"]))
    assert checkpoint["root"] == Tree(leaves).root().hex()
    assert [(r["counter"], r["size"]) for r in facts["receipts"]] == [(2, 5)]


def test_a_step_is_under_the_first_checkpoint_and_receipt_that_cover_it(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = explained(case, capsys, 1)
    assert code == 0
    assert "checkpoint  0: size 2" in text
    assert ", counter 1, size 2" in text
    assert "verified" in text
    assert "of other steps no proof was verified" in text


def test_another_steps_false_proof_is_not_looked_at_and_this_steps_is(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    story = case.story()
    proof = story.proofs[2, 1]
    story.proofs[2, 1] = replace(proof, proof=flipped(proof.proof, len(proof.proof) - 5))
    case.retell(story)
    assert explained(case, capsys, 1)[0] == 0
    code, text = explained(case, capsys, 2)
    assert code == 1
    assert "shard 1" in text
    assert "NOT ACCEPTED" in text


def test_it_stops_where_the_log_stops(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.log.delete(case.log.records("anchors")[1])
    code, text = explained(case, capsys, 3)
    assert code == 2
    assert "no receipt covers it yet" in text
    story = case.story()
    del story.proofs[3, 1]
    story.entries = lambda entries: entries[:3]
    case.retell(story)
    code, text = explained(case, capsys, 3)
    assert code == 2
    assert "no entry" in text
    assert explained(case, capsys, 2)[0] == 0


def test_a_violation_elsewhere_is_not_hidden(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    record = case.log.find("steps", StepCommitted, step=3)
    case.log.replace(record, flipped(record.value, len(record.value) - 1))
    code, text = explained(case, capsys, 1)
    assert code == 1
    assert "finding     check" in text


@pytest.mark.parametrize("step", [0, 4, -1, 10**30])
def test_a_step_that_is_not_there(case: Case, capsys: pytest.CaptureFixture[str], step: int) -> None:
    code, text = explained(case, capsys, step)
    assert code == 2
    assert "steps 1 to 3" in text


def test_the_integers_of_common_statements_have_a_meaning() -> None:
    for name in ("adam", "adamw", "amsgradw", "sgd", "momentum-l2", "nesterov-l2"):
        assert set(STATEMENTS[name].public) <= set(MEANINGS)


def test_a_sampled_step_names_its_record(sampled_case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = explained(sampled_case, capsys, 2, "--json")
    facts = json.loads(text)
    assert code == 0
    assert facts["recorded"] < facts["entry"]["leaf"]
    assert len(facts["proofs"]) == 1
