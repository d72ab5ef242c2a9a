"""Controls: what must not be taken for an attack. Each tool of the attacks below is used here without a lie."""

from __future__ import annotations

from dataclasses import replace

from consumers.audit.outcome import Status
from ledger.entries import leaf_data
from schemas.events import RunFinished, RunOpened, RunStarted, ScheduleKind, StepCommitted
from schemas.signing import decode_unverified
from tests.attacks.conftest import hot_story
from tests.support.forge import Case, explain, resigned
from tests.support.sound_run import HOT_LR
from zk_autograd.statement import Statement


def test_the_sound_run_passes_every_check(case: Case) -> None:
    """All twelve, the live anchor asked."""
    found = case.audit()
    assert [c.status for c in found.checks] == [Status.PASSED] * 12, explain(found)
    assert found.exit_code == 0


def test_a_run_told_anew_without_a_lie_is_sound(case: Case) -> None:
    """What insiders publish with ``retell`` fails an audit for the lie in it, and for nothing else."""
    case.retell(case.story())
    assert case.run_id == case.sound.run_id
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_a_run_told_under_another_name_is_sound(case: Case) -> None:
    """Changing what no check speaks of changes the run's id, which every event and entry then names."""
    story = case.story()
    story.edit(RunStarted, name="another name")
    case.retell(story)
    assert case.run_id != case.sound.run_id
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_signing_again_with_the_same_key_changes_nothing(case: Case) -> None:
    """Ed25519 signatures are deterministic: the very same bytes come out."""
    for topic in ("steps", "proofs", "ledger", "checkpoints", "anchors"):
        for record, opened in case.log.opened(topic):
            key = case.insider.key(topic)
            if opened.key_id == key.key_id:
                assert resigned(topic, record.value, key) == record.value


def test_a_step_at_another_rate_is_sound_if_the_schedule_was_open(case: Case) -> None:
    """The hot proof of the schedule attacks is a proof like any other, where its rate was allowed."""
    story = hot_story(case, lr=HOT_LR)
    story.edit(RunStarted, schedule_kind=ScheduleKind.OPEN, schedule=(), max_lr=HOT_LR)
    case.retell(story)
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_the_order_of_proofs_of_different_shards_does_not_matter(case: Case) -> None:
    """Provers work in parallel: their proofs come in any order, so an outsider who swaps records has done nothing."""
    proofs = case.proofs()
    case.log.swap(proofs[1, 0], proofs[3, 1])
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_a_proof_that_is_published_twice_is_harmless(case: Case) -> None:
    """A prover that was restarted may publish a proof again: the very record, or another valid proof of the slot."""
    slot = case.proofs()[2, 1]
    twin = replace(decode_unverified("proofs", slot.value).event, proof=case.sound.twin_proof)
    for partition in range(4):
        case.log.append("proofs", slot.value, case.insider.seal("proofs", twin), partition=partition)
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.proofs_verified == 7


def test_a_twin_that_the_auditor_meets_first_is_harmless(case: Case) -> None:
    """A topic's partitions have no common order: what the ledger met first need not be what its auditor meets first."""
    slot = case.proofs()[2, 1]
    twin = replace(decode_unverified("proofs", slot.value).event, proof=case.sound.twin_proof)
    case.log.insert(slot, case.insider.seal("proofs", twin))
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_proofs_of_what_does_not_exist_are_left_alone(case: Case) -> None:
    """A prover cannot harm a run by attaching proofs to steps or shards that it does not have."""
    event = decode_unverified("proofs", case.proofs()[1, 0].value).event
    for change in ({"step": 99}, {"shard": 2}, {"run_id": bytes(32)}):
        case.log.append("proofs", case.insider.seal("proofs", replace(event, **change)))
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_other_runs_in_the_same_log_are_left_alone(case: Case) -> None:
    """A run of the same trainer, opened in the same ledger and never proven, says nothing about this one."""
    story = case.story()
    story.edit(RunStarted, nonce=bytes(32))
    told, ids = story.linked()
    case.log.append("steps", *(case.insider.seal("steps", e) for e in told[:3]))
    opened = RunOpened(ids[0])
    case.log.append("ledger", case.insider.seal("ledger", opened))
    case.sign_and_anchor(case.leaves())
    assert case.leaves()[-1] == leaf_data(opened)
    found = case.audit()
    assert found.exit_code == 0, explain(found)


def test_a_run_that_goes_on_is_sound_so_far(case: Case) -> None:
    """Without an end, the verdict is about the steps that are there."""
    story = case.story()
    story.events = [e for e in story.events if not isinstance(e, RunFinished)]
    case.retell(story)
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.checks[3].detail == "3 steps, still open"


def test_a_run_whose_last_step_is_unproven_could_not_be_checked(case: Case) -> None:
    """Nobody lied: proofs are late. That is exit code 2, and the message says what to wait for."""
    story = case.story()
    del story.proofs[3, 1]
    story.entries = lambda entries: entries[:3]
    case.retell(story)
    found = case.audit()
    assert found.exit_code == 2, explain(found)
    assert found.proven == 2
    assert "zk-prove" in found.checks[5].detail


def test_a_run_that_the_ledger_has_not_reached_could_not_be_checked(case: Case) -> None:
    """All is proven, and nothing is logged yet: 2 as well."""
    for topic in ("ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    found = case.audit(live=False)
    assert found.exit_code == 2, explain(found)


def test_an_anchor_that_nobody_asked_leaves_the_verdict_and_says_so(case: Case) -> None:
    """Check 10 is the auditor's choice: not asked, it is listed as not checked and does not count."""
    found = case.audit(live=False)
    assert found.exit_code == 0
    assert found.checks[10].status is Status.UNCHECKED


def test_hyper_parameters_reach_the_public_integers(case: Case) -> None:
    """What the schedule attacks change does count: the integers of neighbouring steps and rates all differ."""
    st: Statement = case.sound.circuit.statement
    steps = [e for e in case.story().events if isinstance(e, StepCommitted)]
    assert len({e.public for e in steps}) == len(steps)
    assert all(len(e.public) == len(st.public) for e in steps)
