"""Of one witness one proof becomes known, whatever anybody writes to the topic of claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consumers.prover.claims import Claims
from schemas.events import EvidenceClass, ProofClaimed, Role
from schemas.keyring import introduction
from schemas.signing import decode_unverified, seal
from schemas.topics import TOPICS
from tests.attacks.conftest import assert_doubts
from tests.consumers.test_prover_check import Witness
from tests.support.claims import NOBODYS, SHARD, STEP, Scene, give_up
from tests.support.events import digest
from tests.support.forge import Case, explain, flipped, resigned
from zk_autograd.tee.evidence import simulate
from zk_autograd.tee.keys import new_signing_key


def test_a_claim_stands_against_who_was_a_moment_later(scene: Scene) -> None:
    """The second has its proof when the first one's claim comes; nobody ever gets to see it."""
    one, first = scene.worker(name="one", group_name="one")
    two, second = scene.worker(name="two", group_name="two")
    honest = two.publisher.claim

    def late(*args: Any) -> bytes:
        scene.run(one, first)
        return honest(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two.publisher, "claim", late)
        scene.run(two, second)
    assert scene.made == 2
    (claim,) = scene.claims()
    assert scene.bodies() == [claim.proof]
    assert scene.outbox("two").turns() == [], "what has lost is forgotten"
    assert two.run_once(timeout=0.0) == 1


def hostile(scene: Scene, case: Case) -> dict[str, bytes]:
    """By name: what others than provers can write to the topic of claims."""
    stranger, prover = new_signing_key(), case.insider.key("claims")
    claim = scene.claim(prover)
    return {
        "nothing": b"",
        "garbage": b"\xff" * 200,
        "a stranger's": scene.claim(stranger),
        "a trainer's": scene.claim(case.insider.key("steps")),
        "a ledger's": scene.claim(case.insider.key("ledger")),
        "a flipped signature": flipped(claim, len(claim) - 1),
        "another proof under an honest signature": claim.replace(NOBODYS, bytes(32)),
        "an introduction under a stranger's root": introduction(
            Role.PROVER, stranger, EvidenceClass.SIMULATED,
            simulate(new_signing_key(), "PROVER", stranger.public_key), 0,
        ),
        "a proof": case.log.records("proofs")[0].value,
        "oversized": claim + bytes(TOPICS["claims"].cap),
    }  # fmt: skip


def test_claims_of_strangers_keep_nobody_from_proving(scene: Scene, case: Case) -> None:
    scene.log.append("claims", *hostile(scene, case).values())
    worker, group = scene.worker()
    scene.run(worker, group)
    *_, claim = scene.claims()
    assert scene.bodies() == [claim.proof]
    assert (worker.held, scene.letters()) == ({}, [])


def test_a_prover_that_claims_and_publishes_nothing_is_named(scene: Scene) -> None:
    """An attested prover that turned bad can hold a shard up, under its name; the operator's word ends it."""
    bad = scene.prover()
    scene.log.append("claims", scene.claim(bad))
    worker, group = scene.worker()
    give_up(worker, group)
    (letter,) = scene.letters()
    assert bad.key_id.hex() in letter.reason
    rescue, group = scene.worker(name="rescue", group_name="rescue", instead_of=(bad.key_id,))
    scene.run(rescue, group)
    assert len(scene.bodies()) == 1


def test_a_claim_to_what_is_no_proof_is_passed_by(scene: Scene, case: Case) -> None:
    """It has opened nothing, so nobody has to say a word."""
    bad = scene.prover()
    garbage = seal("proofs", replace(case.story().proofs[STEP, SHARD], proof=b"\0"), bad)
    scene.log.append("claims", scene.claim(bad, proof=decode_unverified("proofs", garbage).event_id))
    scene.log.append("proofs", garbage)
    worker, group = scene.worker()
    scene.run(worker, group)
    _, claim = scene.claims()
    assert scene.bodies()[1:] == [claim.proof]
    assert (worker.held, scene.letters()) == ({}, [])


def test_a_claimed_proof_of_another_witness_of_the_shard_stands(scene: Scene, case: Case) -> None:
    """It verifies, so columns were opened: of a fork's witness, say, which shares one with this. That is for people."""
    bad = scene.prover()
    foreign = replace(case.story().proofs[1, 0], step=STEP, shard=SHARD)
    public = Witness(case.sound, 1, 0).event.public
    value = seal("proofs", foreign, bad)
    scene.log.append("claims", scene.claim(bad, proof=decode_unverified("proofs", value).event_id))
    scene.log.append("proofs", value)
    worker, group = scene.worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_public", lambda *_: tuple(public))
        scene.run(worker, group)
    assert len(worker.held) == 1
    assert scene.made == 0


def test_replayed_claims_change_nothing(scene: Scene, case: Case) -> None:
    """Whoever may write can play any claim again, at any time."""
    one, two = scene.prover(), scene.prover()
    first = scene.claim(one)
    first_id = decode_unverified("claims", first).event_id
    second = scene.claim(two, proof=digest("2"), replaces=first_id)
    third = scene.claim(one, proof=digest("3"), replaces=decode_unverified("claims", second).event_id)
    late, never = scene.claim(two, proof=digest("late")), scene.claim(two, proof=digest("n"), replaces=digest("none"))
    policy = case.sound.home.policy()
    claims = Claims(scene._log, policy)

    def proof() -> bytes | None:
        standing = claims.of(scene.slot)
        return standing.proof if standing else None

    expected: list[tuple[bytes, bytes | None]] = [
        (never, None), (first, NOBODYS), (first, NOBODYS), (late, NOBODYS), (resigned("claims", first, two), NOBODYS),
        (third, NOBODYS), (second, digest("2")), (first, digest("2")), (second, digest("2")), (late, digest("2")),
        (third, digest("3")), (second, digest("3")), (first, digest("3")), (third, digest("3")),
    ]  # fmt: skip
    for value, stands in expected:
        scene.log.append("claims", value)
        assert proof() == stands
    # Who reads all of it later comes to the same.
    again = Claims(scene._log, policy)
    assert again.of(scene.slot) == claims.of(scene.slot)
    assert again.of((case.run_id, STEP, SHARD + 1)) is None
    for reader in (claims, again):
        reader.close()


def test_claims_are_no_ones_evidence(case: Case) -> None:
    """Neither ledger nor audit reads the topic, whatever stands there. Elsewhere a claim is a stray record."""
    claims = [o.event for _, o in case.log.opened("claims") if isinstance(o.event, ProofClaimed)]
    assert len(claims) == len(case.log.records("proofs"))
    key = case.insider.key("claims")
    other = seal("claims", ProofClaimed(case.run_id, 1, 0, digest("other"), bytes(32)), key)
    case.log.append("claims", b"", b"\xff" * 99, other, other)
    assert case.audit().exit_code == 0, explain(case.audit())
    case.log.clear("claims")
    assert case.audit().exit_code == 0, explain(case.audit())
    case.log.append("proofs", other)
    assert_doubts(case.audit())
    case.run_ledger()
    found = case.audit()
    assert (found.exit_code, found.refused) == (0, 1), explain(found)
