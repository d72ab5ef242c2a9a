"""Attacks on the proofs: missing, moved, borrowed, bent, or honest proofs of something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.events import ProofAttached, RunFinished, RunStarted, StepCommitted
from schemas.signing import decode_unverified
from tests.attacks.conftest import assert_violates, hot_story
from tests.support.forge import Case, flipped, unsigned_edit
from tests.support.pipeline import LR
from tests.support.sound_run import SHARDS, STEPS, commitments
from zk_autograd.merkle import all_paths

SLOTS = [(step, shard) for step in range(1, STEPS + 1) for shard in range(SHARDS)]


def proof_event(case: Case, step: int, shard: int) -> ProofAttached:
    event = decode_unverified("proofs", case.proofs()[step, shard].value).event
    assert isinstance(event, ProofAttached)
    return event


# Missing


@pytest.mark.parametrize("slot", SLOTS)
def test_a_dropped_proof(case: Case, slot: tuple[int, int]) -> None:
    """The host drops one proof. The ledger calls the step proven; an auditor believes proofs only."""
    case.log.delete(case.proofs()[slot])
    assert_violates(case.audit(), 5, only=True)


def test_no_proofs_at_all(case: Case) -> None:
    """A ledger, signed and anchored, over nothing."""
    case.log.clear("proofs")
    assert_violates(case.audit(), 5, only=True)


# Moved


def test_proofs_swapped_between_shards_by_the_host(case: Case) -> None:
    """Without a key, the shard numbers cannot be changed: the signatures cover them."""
    for mine, other in ((0, 1), (1, 0)):
        record = case.proofs()[2, mine]
        case.log.replace(record, unsigned_edit("proofs", record.value, proof=proof_event(case, 2, other).proof))
    assert_violates(case.audit(), 1)


def test_proofs_swapped_between_shards_by_an_insider(case: Case) -> None:
    """Prover and ledger agree on the lie. Each proof holds, but its points are not where the step's roots have them."""
    story = case.story()
    one, other = story.proofs[2, 0], story.proofs[2, 1]
    story.proofs[2, 0], story.proofs[2, 1] = replace(other, shard=0), replace(one, shard=1)
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_swapped_shards_under_roots_that_fit_them(case: Case) -> None:
    """The trainer joins in and commits to the swapped shards: then the state before is not the last step's."""
    story = case.story()
    one, other = story.proofs[2, 0], story.proofs[2, 1]
    story.proofs[2, 0], story.proofs[2, 1] = replace(other, shard=0), replace(one, shard=1)
    points = [commitments(story.proofs[2, s].proof) for s in range(SHARDS)]
    story.commit(2, post=[c.post for c in points], work=[c.work for c in points])
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_proofs_swapped_between_steps_by_an_insider(case: Case) -> None:
    """The proof of another step was made with that step's integers."""
    story = case.story()
    one, other = story.proofs[2, 0], story.proofs[3, 0]
    story.proofs[2, 0], story.proofs[3, 0] = replace(other, step=2), replace(one, step=3)
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_one_good_proof_for_every_shard(case: Case) -> None:
    """A lazy prover proves one shard and publishes that proof for all."""
    story = case.story()
    for step in range(1, STEPS + 1):
        story.proofs[step, 1] = replace(story.proofs[step, 0], shard=1)
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


@pytest.mark.parametrize("path", ["pre_path", "post_path", "work_path"])
def test_a_path_that_leads_elsewhere(case: Case, path: str) -> None:
    """An honest proof with the other shard's inclusion path, or none."""
    for lie in (getattr(case.story().proofs[1, 1], path), (), (bytes(32),) * 20):
        story = case.story()
        story.proofs[1, 0] = replace(story.proofs[1, 0], **{path: lie})
        case.retell(story)
        assert_violates(case.audit(), 6, only=True)


# Borrowed


def test_a_proof_from_another_circuit(case: Case) -> None:
    """A valid proof of SGD, a rule with fewer bounds, in the place of Adam's. It even has the same length."""
    story = case.story()
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=case.sound.sgd_proof)
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_a_proof_from_another_circuit_with_the_runs_public_integers(case: Case) -> None:
    """The same with the commitment that is recomputed put in its place: then it is the verifier's key that refuses."""
    story = case.story()
    sgd, adam = case.sound.sgd_proof, story.proofs[1, 0].proof
    assert len(sgd) == len(adam)
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=adam[:256] + sgd[256:])
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


def test_a_proof_that_names_another_circuit(case: Case) -> None:
    """A circuit that the run's start did not declare."""
    story = case.story()
    story.proofs[1, 0] = replace(story.proofs[1, 0], circuit_id=bytes(32))
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


def test_a_proof_of_another_proof_system(case: Case) -> None:
    """The right circuit id beside the name of a system that this release does not verify."""
    story = case.story()
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof_system="ezkl-99")
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


def test_a_valid_proof_of_another_state(case: Case) -> None:
    """The same step with the same integers, from other weights: as a proof it holds. Only the roots tell."""
    story = case.story()
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=case.sound.foreign_proof)
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_a_valid_proof_of_another_state_that_the_step_commits_to(case: Case) -> None:
    """The trainer commits to where the foreign proof ends: the genesis is still another."""
    story, found = case.story(), commitments(case.sound.foreign_proof)
    others = commitments(story.proofs[1, 1].proof)
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=case.sound.foreign_proof)
    story.commit(1, post=[found.post, others.post], work=[found.work, others.work])
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_a_valid_proof_of_another_genesis(case: Case) -> None:
    """The start commits to the other weights as well: then the second step does not begin where the first one ends."""
    story, found = case.story(), commitments(case.sound.foreign_proof)
    others = commitments(story.proofs[1, 1].proof)
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=case.sound.foreign_proof)
    story.commit(1, post=[found.post, others.post], work=[found.work, others.work])
    root, paths = all_paths([found.pre, others.pre])
    story.edit(RunStarted, state_root=root)
    for shard, path in enumerate(paths):
        story.proofs[1, shard] = replace(story.proofs[1, shard], pre_path=tuple(path))
    case.retell(story)
    found_by = case.audit()
    assert_violates(found_by, 6, only=True)
    assert all("step 2" in text for text in found_by.checks[6].findings)


# Bent


def test_a_proof_made_with_other_public_integers(case: Case) -> None:
    """A real step at a higher rate, a real proof of it, roots that fit; and a step event with the honest integers."""
    honest = case.story().step(STEPS).public
    case.retell(hot_story(case, lr=LR, public=honest))
    assert_violates(case.audit(), 6, only=True)


@pytest.mark.parametrize("change", ["one byte more", "one byte less", "empty", "twice"])
def test_a_proof_of_another_length(case: Case, change: str) -> None:
    """EZKL's verifier takes trailing bytes, so that one proof would have many encodings and many ids."""
    story = case.story()
    proof = story.proofs[1, 0].proof
    bent = {"one byte more": proof + b"\0", "one byte less": proof[:-1], "empty": b"", "twice": proof * 2}[change]
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=bent)
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


@pytest.mark.parametrize("at", [0, 63, 100, 191, 256, 1000, 3000, 5600, -1])
@pytest.mark.parametrize("mask", [0x01, 0xC0])
def test_a_proof_with_a_changed_byte(case: Case, at: int, mask: int) -> None:
    """The prover signs it, the ledger swears to it: in the committed points, in the argument, in the opening."""
    story = case.story()
    proof = story.proofs[1, 0].proof
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=flipped(proof, at % len(proof), mask))
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


@pytest.mark.parametrize("at", [192, 255])
def test_a_proof_whose_commitment_to_the_public_integers_is_changed(case: Case, at: int) -> None:
    """The fourth point is recomputed, so this is found before anything else."""
    story = case.story()
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=flipped(story.proofs[1, 0].proof, at))
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)


def test_points_exchanged_between_proofs(case: Case) -> None:
    """The first points of one proof before the argument of another: roots and paths fit, the argument does not."""
    story = case.story()
    mine, other = story.proofs[2, 0].proof, case.sound.twin_proof
    story.proofs[2, 0] = replace(story.proofs[2, 0], proof=mine[:192] + other[192:])
    case.retell(story)
    assert_violates(case.audit(), 5, only=True)


@pytest.mark.parametrize("content", [b"\0", b"\xff"])
def test_a_proof_of_nothing(case: Case, content: bytes) -> None:
    """The right length, and no points in it."""
    story = case.story()
    story.proofs[1, 0] = replace(story.proofs[1, 0], proof=content * case.sound.circuit.proof_bytes)
    case.retell(story)
    found = case.audit()
    assert found.exit_code == 1
    assert_violates(found, 6)


def test_an_invalid_proof_beside_a_valid_one_is_harmless(case: Case) -> None:
    """A bad prover cannot spoil a step that another one has proven, wherever in the topic its proof stands."""
    good = proof_event(case, 2, 0)
    bad = case.insider.seal("proofs", replace(good, proof=flipped(good.proof, 3000)))
    record = case.proofs()[2, 0]
    case.log.insert(record, bad)
    case.log.append("proofs", bad, partition=record.partition)
    assert case.audit().exit_code == 0


def test_a_proof_in_other_envelopes_is_verified_once(case: Case) -> None:
    """A prover's key can sign one proof many times over, as events that differ in what proves nothing. An auditor's
    work grows with what there is to verify."""
    good = proof_event(case, 2, 0)
    for i in range(50):
        path = (i.to_bytes(32, "big"), *good.pre_path)
        case.log.append("proofs", case.insider.seal("proofs", replace(good, pre_path=path)))
    found = case.audit()
    assert found.exit_code == 0
    assert found.proofs_verified == SHARDS * STEPS


def test_proofs_that_name_another_circuit_are_not_verified(case: Case) -> None:
    """They are refused whatever they are."""
    good = proof_event(case, 2, 0)
    for i in range(50):
        other = replace(good, circuit_id=i.to_bytes(32, "big"), proof=flipped(good.proof, i))
        case.log.append("proofs", case.insider.seal("proofs", other))
    found = case.audit()
    assert found.exit_code == 0
    assert found.proofs_verified == SHARDS * STEPS


# Steps that were never taken


def test_a_step_that_never_happened(case: Case) -> None:
    """Roots out of thin air, and the ledger's word for it."""
    story = case.story()
    story.edit(StepCommitted, 3, state_root=bytes(32), work_root=bytes(32))
    story.edit(RunFinished, state_root=bytes(32))
    case.retell(story)
    assert_violates(case.audit(), 6, only=True)
