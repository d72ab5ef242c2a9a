"""Attacks on sampled runs: grinding for a better draw, proving other shards, anchoring late, and lying about it.

Every attacker here holds all the keys that it could use, the ledger's and the anchor's included, and writes whatever
log it likes (:class:`tests.support.sampled.Teller`). What it does not have is a beacon's answer before the question.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anchor import open_anchor
from anchor.file import FileAnchor
from consumers.audit.outcome import Audit
from consumers.audit.report import as_json, as_text
from ledger.sampling import detection, detection_over, draw
from schemas.codec import encode
from schemas.events import RunOpened, RunStarted, StepRecorded
from schemas.signing import event_id
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.forge import Case, explain, flipped
from tests.support.sampled import COUNT, SHARDS, STEPS, WINDOW, SampledRun, Teller


@pytest.fixture
def case(sampled_case: Case) -> Case:
    """A case of the test's own. It is sound so far: what the test then finds, its attack has done."""
    found = sampled_case.audit()
    assert found.exit_code == 0, explain(found)
    return sampled_case


@pytest.fixture
def told(case: Case) -> Teller:
    return Teller(case)


def honest(told: Teller) -> Teller:
    """What the ledger and the anchor did."""
    told.open().record(1, 2).anchor().prove(1).record(3).prove(2).anchor().prove(3)
    return told.close().anchor()


def heard(found: Audit, text: str) -> None:
    """One of the findings or details says this."""
    assert text in explain(found), explain(found)


# The honest run


def test_the_honest_run_is_sound_and_says_what_it_is_worth(case: Case, sampled_run: SampledRun) -> None:
    assert sampled_run.proofs == STEPS * COUNT
    found = case.audit()
    text, facts = as_text(found, "run"), json.loads(json.dumps(as_json(found, "run")))
    assert text.splitlines()[-1] == "verdict: SOUND: 3 steps, 1 of 4 shards of every one proven, logged and anchored"
    assert (facts["exit_code"], facts["proofs_verified"], facts["steps_proven"]) == (0, 3, 3)
    sampled = facts["sampled"]
    assert (sampled["drawn"], sampled["shards"], sampled["window"]) == (COUNT, SHARDS, WINDOW)
    assert [c["probability"] for c in sampled["detection"]] == [0.25, detection_over(detection(4, 1, 1), 3)]
    assert "25.0000 %  one shard in one step" in text
    assert "57.8125 %  one shard in each of 3 steps" in text
    assert "INSECURE draw: the beacon is a file" in text
    assert sampled["insecure"]
    for said in (text, sampled["not_proven"]):
        assert "the shards that were not drawn" in said


def test_the_same_story_told_again_is_sound(told: Teller) -> None:
    found = honest(told).tell().audit()
    assert found.exit_code == 0, explain(found)


def test_an_audit_of_one_who_has_not_said_that_fewer_shards_will_do_does_not_call_it_sound(case: Case) -> None:
    for least in (None, COUNT + 1, SHARDS):
        found = case.audit(replace(case.policy, min_sampled=least))
        assert_doubts(found, 5)
        heard(found, "min_sampled")
        assert found.exit_code == 2


def test_a_beacon_that_the_auditor_does_not_name_is_not_taken(case: Case, told: Teller) -> None:
    """Its own anchor covers the whole log, and drew nothing."""
    honest(told).tell()
    case.anchor_path = case.folder / "another"
    case.anchor(case.log.records("checkpoints")[-1].value, case.leaves())
    found = case.audit(live=False)
    assert_doubts(found, 9)
    heard(found, "is not one of the policy's anchors")


def test_runs_that_were_begun_and_not_proven_are_counted(told: Teller) -> None:
    """Who may try again has more than one draw: the log shows how often that was done."""
    other = bytes(31) + b"\1"
    told.add(RunOpened(other), StepRecorded(other, 1, bytes(32)))
    found = honest(told).tell().audit()
    assert found.exit_code == 0, explain(found)
    assert found.sampling is not None
    assert found.sampling.abandoned == 1
    assert "1 of them have recorded steps that are not proven" in as_text(found, "")


# A prover who grinds


def test_nothing_that_a_trainer_controls_changes_a_draw_after_the_receipt(case: Case, told: Teller) -> None:
    """Salts, learning rates, anything: another commitment is another event, which is another leaf of the log.

    The draw depends on run, step, the commitment's id, and the receipt. The first three are in the leaf, which the
    receipt's root covers; so the trainer can try as many commitments as it likes, and knows the draw of none of them.
    """
    step = told.steps[1]
    tried = set()
    for salt in range(64):  # each stands for a try with fresh salts: other points, another root
        event = replace(step.event, state_root=salt.to_bytes(32, "big"))
        name = event_id(encode(event))
        leaf = event_id(encode(StepRecorded(case.run_id, 1, name)))
        tried.add((name, leaf))
    assert len({name for name, _ in tried}) == len({leaf for _, leaf in tried}) == 64
    # And for one commitment, no two receipts' randomness is related: half of 256 guesses would be needed for one of 2.
    hits = sum(draw(told.seed(1, bytes([i]) * 32), COUNT, SHARDS) == (0,) for i in range(256))
    assert 40 <= hits <= 90


def test_one_who_commits_anew_once_the_draw_is_known(case: Case, told: Teller) -> None:
    """The trainer swaps its commitment for one that the draw misses. The record names the first."""
    told.open().record(1, event_id=bytes(32)).record(2).anchor().prove(1).record(3).prove(2).anchor().prove(3)
    found = told.close().anchor().tell().audit()
    assert_violates(found, 7, only=True)
    heard(found, "of another commitment than the step's")


def test_one_who_commits_twice_has_forked_the_chain(case: Case, told: Teller) -> None:
    """Both commitments are signed; whichever the log records, the other is there for all to see."""
    honest(told).tell()
    other = replace(told.steps[2].event, state_root=bytes(32))
    case.log.append("steps", case.insider.seal("steps", other))
    assert_violates(case.audit(), 3)


def test_one_who_hides_the_first_receipt(told: Teller) -> None:
    """The first draw hits the cheat. It anchors again, publishes the second receipt only, and proves what that drew."""
    told.open().record(1, 2).anchor(told.luck([1, 2], miss=True), hide=True).anchor()
    told.prove(1).record(3).prove(2).anchor().prove(3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 9)
    heard(found, "a receipt is hidden")


def test_one_who_hides_the_first_receipts_of_all_and_begins_later(told: Teller) -> None:
    """It anchors an empty log until it has receipts to spare: there is no counter to begin with but the first."""
    told.anchor(bytes(32), hide=True).open().record(1, 2).anchor()
    told.prove(1).record(3).prove(2).anchor().prove(3).close().anchor()
    assert_violates(told.tell().audit(), 9)


def test_one_who_picks_among_the_receipts(told: Teller) -> None:
    """All are published; the first missed what it can prove, so it uses the second."""
    told.open().record(1, 2).anchor(told.luck([1, 2], miss=True))
    told.seeds.clear()
    told.anchor()
    told.prove(1).record(3).prove(2).anchor().prove(3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 5, 7)
    heard(found, "its challenge is not what the first receipt that covers its record gives")


def test_one_who_rolls_the_beacon_back_to_draw_again(case: Case, told: Teller) -> None:
    """With a beacon that is a file this works, if nobody has seen the first receipt: so a file is no beacon.

    Once the first receipt was seen, by the log or by who asked the anchor, the second has the same counter.
    """
    seen = case.log.records("anchors")[0].value
    found = honest(told).tell().audit()
    assert found.exit_code == 0, explain(found)
    assert "INSECURE draw" in as_text(found, "")
    case.log.append("anchors", seen)
    assert_violates(case.audit(), 9)


def test_a_beacon_whose_randomness_is_a_function_of_the_request_is_none(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can compute the draw beforehand tries salts until it misses the cheat: not even the ledger takes it."""
    monkeypatch.setattr(FileAnchor, "draws", False)
    found = case.audit()
    assert_violates(found, 2)
    heard(found, "try commitments until it misses a cheat")
    for topic in ("ledger", "checkpoints"):
        case.log.clear(topic)
    case.run_ledger()
    assert case.leaves() == []


def test_randomness_that_is_changed_in_the_receipt(case: Case) -> None:
    """Another 32 bytes in the receipt's place: its own hash covers them."""
    record = case.log.records("anchors")[0]
    event = next(o.event for r, o in case.log.opened("anchors") if r == record)
    changed = replace(event, receipt=flipped(event.receipt, 120))  # type: ignore[type-var, union-attr]
    case.log.replace(record, case.insider.seal("anchors", changed))
    assert_violates(case.audit(live=False), 9)


# A prover who proves other shards


def test_one_who_proves_another_shard(told: Teller) -> None:
    """The draw is honest, the proof is of a shard that was not drawn."""
    told.open().record(1, 2).anchor(told.luck([1], miss=True)).prove(1).record(3).prove(2).anchor().prove(3)
    found = told.close().anchor().tell().audit()
    assert_violates(found, 5)
    heard(found, "the ledger calls it proven, but there is no proof in the log")


def test_one_who_proves_nothing(told: Teller) -> None:
    del told.proofs[2]
    assert_violates(honest(told).tell().audit(), 5)


def test_one_whose_proof_of_the_drawn_shard_does_not_hold(told: Teller) -> None:
    proof = told.proofs[2]
    told.proofs[2] = replace(proof, proof=flipped(proof.proof, 2000))
    assert_violates(honest(told).tell().audit(), 5, only=True)


def test_one_who_moves_a_proof_to_the_drawn_shard(told: Teller) -> None:
    """A good proof of another shard under the drawn one's number: its commitments are not in that place."""
    proof = told.proofs[2]
    told.proofs[2] = replace(proof, shard=(proof.shard + 1) % SHARDS)
    assert_violates(honest(told).tell().audit(), 6, only=True)


def test_proofs_of_other_shards_count_for_nothing_and_do_no_harm(case: Case, told: Teller) -> None:
    """Whatever else a prover publishes, the verdict and its figures are the same; it is not even verified."""
    honest(told).tell()
    proof = told.proofs[1]
    for shard in range(SHARDS):
        if shard != proof.shard:
            case.log.append("proofs", case.insider.seal("proofs", replace(proof, shard=shard)))
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.proofs_verified == STEPS * COUNT


def test_the_ledger_takes_no_proof_of_a_shard_that_was_not_drawn(case: Case, told: Teller) -> None:
    """The log as it is before the first proof, and a prover who sends what it likes."""
    told.open().record(1, 2).anchor(told.luck([1, 2], miss=True)).tell()
    case.run_ledger()
    assert len(case.leaves()) == 3
    letters = [o.event.reason for _, o in case.log.opened("dead-letters")]  # type: ignore[union-attr]
    assert sum("not one of the shards that were drawn" in reason for reason in letters) == 2
    assert sum("before its step's shards were drawn" in reason for reason in letters) == 1
    found = case.audit()
    assert_doubts(found, 5, 7)


# One who anchors late


def test_one_who_uses_a_receipt_that_does_not_cover_the_record(told: Teller) -> None:
    """It knew that receipt before it committed: so it knew what would be drawn."""
    known = told.open().anchor(told.luck([1, 2])).receipts[0].randomness
    told.seeds = {1: told.seed(1, known), 2: told.seed(2, known)}
    told.record(1, 2).prove(1).record(3).prove(2)
    del told.seeds[1], told.seeds[2]
    told.anchor().prove(3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 7)
    heard(found, "it was in the log before its shards were drawn")


def test_one_who_uses_an_earlier_receipt_although_a_later_one_covers(told: Teller) -> None:
    """As before, but the proof waits for the right receipt, and ignores it."""
    known = told.open().anchor(told.luck([1], first=1 << 16)).receipts[0].randomness
    told.record(1, 2).anchor()
    told.seeds[1] = told.seed(1, known)
    told.prove(1).record(3).prove(2).anchor().prove(3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 7, only=True)
    heard(found, "its challenge is not what the first receipt")


def test_one_who_proves_before_the_receipt(told: Teller) -> None:
    """The draw is right, and came too late: the entry was in the log when the beacon was asked."""
    told.open().record(1, 2)
    lucky = told.luck([1, 2])
    told.seeds = {1: told.seed(1, lucky), 2: told.seed(2, lucky)}
    told.prove(1).record(3).prove(2)
    told.seeds.clear()
    told.anchor(lucky)
    told.seeds[3] = told.seed(3, lucky)
    told.prove(3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 7)
    heard(found, "entry for step 1: it was in the log before its shards were drawn")


def test_one_who_never_anchors_with_the_beacon(told: Teller) -> None:
    """Nothing was drawn: nothing is proved wrong, and nothing is sound."""
    told.open().record(1, 2).prove(1).record(3).prove(2, 3).close()
    found = told.tell().audit(live=False)
    assert found.exit_code == 2, explain(found)
    assert_doubts(found, 7, 9)


def test_one_who_withholds_the_receipt_that_drew(told: Teller) -> None:
    """The last receipts are not there: what was drawn is not known."""
    told.open().record(1, 2).anchor().prove(1).record(3).prove(2).anchor().prove(3).close()
    told.published.pop()
    found = told.tell().audit(live=False)
    assert found.exit_code == 2, explain(found)
    heard(found, "no receipt of the run's beacon covers its record")


def test_one_who_records_the_step_only_after_the_receipt(told: Teller) -> None:
    """Step 1 is recorded after the receipt that it claims to have been drawn by."""
    told.open()
    told.anchor(told.luck([1]))
    known = told.receipts[0].randomness
    told.record(1, 2)
    told.seeds[1] = told.seed(1, known)
    told.prove(1).record(3).anchor()
    told.prove(2, 3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 7)


# Lies about the draw


@pytest.mark.parametrize("challenge_", [bytes(32), b"\1" * 32], ids=["none", "another"])
def test_a_challenge_that_was_not_drawn(told: Teller, challenge_: bytes) -> None:
    told.open().record(1, 2).anchor().prove(1, challenge=challenge_).record(3).prove(2).anchor().prove(3)
    found = told.close().anchor().tell().audit()
    assert_violates(found, 7, only=True)


def test_a_challenge_that_was_drawn_for_another_step(told: Teller) -> None:
    told.open().record(1, 2).anchor()
    told.seeds[1] = told.seeds[2]
    told.prove(1).record(3).prove(2).anchor().prove(3).close().anchor()
    assert_violates(told.tell().audit(), 7, only=True)


def test_a_step_that_is_not_recorded(told: Teller) -> None:
    told.open().record(1).anchor().prove(1, 2).record(3).anchor().prove(3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 7)
    heard(found, "entry for step 2: the step was not recorded before it")


def test_a_step_that_is_recorded_after_it_is_proven(told: Teller) -> None:
    told.open().record(1).anchor().prove(1, 2).record(2, 3).anchor().prove(3).close().anchor()
    assert_violates(told.tell().audit(), 7)


@pytest.mark.parametrize("order", [(2, 1), (1, 1, 2), (2,)], ids=["swapped", "twice", "one left out"])
def test_records_in_an_order_that_no_honest_ledger_writes(told: Teller, order: tuple[int, ...]) -> None:
    told.open()
    for step in order:
        told.record(step)
    told.anchor().prove(1).record(3).prove(2).anchor().prove(3).close().anchor()
    # An entry counts once, so a ledger that says it twice has signed another tree.
    assert_violates(told.tell().audit(), 8 if len(set(order)) < len(order) else 7)


def test_a_record_of_a_step_that_nobody_committed_to(told: Teller) -> None:
    """The trainer takes back its last commitment, which the draw had hit: the log has it."""
    told.steps[4] = told.steps[3]
    told.open().record(1, 2).anchor().prove(1).record(3).prove(2).anchor().prove(3)
    told.add(StepRecorded(told.run_id, 4, bytes(32)))
    found = told.close().anchor().tell().audit()
    assert_violates(found, 7)
    heard(found, "record of step 4: no such step was committed")
    heard(found, "closed after 3 steps, but 4 are recorded")


def test_a_window_that_is_exceeded(told: Teller) -> None:
    """Three steps stand recorded with none proven; the run declared two."""
    told.open().record(1, 2, 3).anchor().prove(1, 2, 3).close().anchor()
    found = told.tell().audit()
    assert_violates(found, 7, only=True)
    heard(found, "record of step 3: 3 ahead of what is proven, the window is 2")


def test_records_of_a_run_that_is_proven_whole(case: Case) -> None:
    """Nothing is drawn there, and nothing recorded: an entry more is one that the rule does not give."""
    story = case.story()
    story.edit(RunStarted, sampled=0, beacon="", window=0)
    story.entries = lambda entries: [
        entries[0], StepRecorded(entries[0].run_id, 1, entries[1].event_id), *entries[1:]  # type: ignore[union-attr]
    ]  # fmt: skip
    case.retell(story)
    found = case.audit()
    assert_violates(found, 5, 7)
    heard(found, "in a run of which every shard has to be proven")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_run_that_declares_more_than_it_proves(case: Case, told: Teller, count: int) -> None:
    """One proof a step, and a start that says two."""
    redeclare(case, told, sampled=count)
    found = honest(told).tell().audit(replace(case.policy, min_sampled=1))
    assert_violates(found, 5)


@pytest.mark.parametrize(
    "terms",
    [
        {"sampled": 0}, {"beacon": ""}, {"window": 0}, {"sampled": SHARDS + 1}, {"sampled": 0, "window": 0},
        {"beacon": "", "window": 0},
    ],
)  # fmt: skip
def test_terms_that_do_not_go_together(case: Case, told: Teller, terms: dict[str, object]) -> None:
    redeclare(case, told, **terms)
    assert_violates(honest(told).tell().audit(), 2)


@pytest.mark.parametrize("beacon", ["?", "file:", "file:0", "tpm:0x1500010", "file:" + "G" * 64])
def test_a_beacon_that_cannot_be(case: Case, told: Teller, beacon: str) -> None:
    redeclare(case, told, beacon=beacon)
    found = case.audit()
    assert_violates(found, 2)
    for topic in ("ledger", "checkpoints", "proofs", "anchors"):
        case.log.clear(topic)
    case.run_ledger()
    assert case.leaves() == []


def redeclare(case: Case, told: Teller, **changes: object) -> None:
    """Another start for the same steps and proofs, all signed anew."""
    story = case.story()
    story.proofs = {(p.step, p.shard): p for p in told.proofs.values()}
    story.edit(RunStarted, **changes)
    anchor_path = case.anchor_path
    case.retell(story)
    case.anchor_path = anchor_path
    told.__post_init__()
    told.start = replace(told.start, beacon=open_anchor(case.anchor_uri).identity() or "")
