"""Attacks on who may say what: classes of evidence, roots, roles, pinned circuits, and trust on first use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consumers.audit.cli import _trusted
from consumers.audit.collect import collect
from schemas.events import EnclaveAttested, EvidenceClass, Role, RunStarted
from schemas.keyring import introduction
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.forge import SIGNER, Case, explain, resigned
from zk_autograd.policy import Policy
from zk_autograd.tee.evidence import simulate
from zk_autograd.tee.keys import new_signing_key

FIRST_USE = Policy(
    evidence_classes=frozenset({"NITRO", "SEV_SNP"}), srs_classes=frozenset({"CEREMONY"}), first_use=True
)
FIRST_USE_DEV = replace(
    FIRST_USE,
    evidence_classes=FIRST_USE.evidence_classes | {"SIMULATED"},
    srs_classes=FIRST_USE.srs_classes | {"DEV"},
)


def introductions(case: Case, topic: str) -> list:
    """Records that introduce the key of a topic's signer."""
    key_id = case.insider.key(topic).key_id
    return [r for r, o in case.log.opened("steps") if isinstance(o.event, EnclaveAttested) and o.key_id == key_id]


# Classes


def test_simulated_evidence_that_nobody_opted_in_to(case: Case) -> None:
    """Everything holds, under a root that anyone can make: a policy has to name that class."""
    policy = replace(case.policy, evidence_classes=frozenset({"NITRO", "SEV_SNP"}))
    assert_violates(case.audit(policy), 11, only=True)


def test_a_development_srs_that_nobody_opted_in_to(case: Case) -> None:
    """Whoever made the SRS can forge every proof of the run."""
    policy = replace(case.policy, srs_classes=frozenset({"CEREMONY"}))
    assert_violates(case.audit(policy), 11, only=True)


def test_a_policy_that_allows_nothing(case: Case) -> None:
    """No class is allowed because none is named."""
    assert_violates(case.audit(replace(case.policy, evidence_classes=frozenset(), srs_classes=frozenset())), 11)


@pytest.mark.parametrize("kind", [EvidenceClass.NITRO, EvidenceClass.SEV_SNP])
def test_simulated_evidence_that_calls_itself_hardware(case: Case, kind: EvidenceClass) -> None:
    """The class is inside the signed record, and each class has its own verifier."""
    for record in introductions(case, "steps"):
        event = decode_unverified("steps", record.value).event
        assert isinstance(event, EnclaveAttested)
        case.log.replace(record, case.insider.seal("steps", replace(event, evidence_class=kind)))
    policy = replace(case.policy, roots=case.policy.roots | {kind.value: case.policy.roots["SIMULATED"]})
    assert_violates(case.audit(policy), 1)


# Roots


def test_evidence_under_another_root(case: Case) -> None:
    """The auditor trusts another root than the one that vouches for this log's keys."""
    policy = replace(case.policy, roots={"SIMULATED": frozenset({new_signing_key().public_key})})
    assert_doubts(case.audit(policy), 1, 2)


def test_a_policy_without_roots(case: Case) -> None:
    """Nobody may vouch."""
    assert_doubts(case.audit(replace(case.policy, roots={})), 1, 2)


@pytest.mark.parametrize("topic", ["steps", "proofs", "ledger", "anchors"])
def test_a_key_that_another_root_vouches_for(case: Case, topic: str) -> None:
    """One role's key, with evidence under a root that the attacker made."""
    root, role = new_signing_key(), Role(SIGNER[topic][0])
    for record in introductions(case, topic):
        case.log.replace(record, case.insider.introduce(role, case.insider.key(topic), root))
    # Without an anchor's key its receipts are nobody's: the log is not anchored, which is no lie of anyone.
    (assert_doubts if topic == "anchors" else assert_violates)(case.audit(live=False), 1)


@pytest.mark.parametrize("topic", ["steps", "proofs", "ledger", "anchors"])
def test_a_key_that_nobody_introduced(case: Case, topic: str) -> None:
    """The host hides a key's introductions."""
    case.log.delete(*introductions(case, topic))
    (assert_doubts if topic == "anchors" else assert_violates)(case.audit(live=False), 1)


def test_evidence_for_another_key(case: Case) -> None:
    """An attacker's key with the evidence of an honest one."""
    attacker, honest = new_signing_key(), introductions(case, "steps")[0]
    event = decode_unverified("steps", honest.value).event
    assert isinstance(event, EnclaveAttested)
    intro = introduction(Role.TRAINER, attacker, EvidenceClass.SIMULATED, event.evidence, 0)
    case.log.append("steps", intro)
    start = case.log.find("steps", RunStarted)
    case.log.replace(start, resigned("steps", start.value, attacker))
    assert_violates(case.audit(), 1)


@pytest.mark.parametrize("length", [0, 95, 97])
def test_evidence_of_another_length(case: Case, length: int) -> None:
    """Cut or padded evidence vouches for nothing."""
    key, root = case.insider.key("steps"), case.sound.home.signing_key("simulated-root")
    evidence = (simulate(root, "TRAINER", key.public_key) + b"\0")[:length]
    for record in introductions(case, "steps"):
        case.log.replace(record, introduction(Role.TRAINER, key, EvidenceClass.SIMULATED, evidence, 0))
    assert_violates(case.audit(), 1)


# Roles


@pytest.mark.parametrize("topic", ["steps", "proofs", "ledger", "checkpoints", "anchors"])
@pytest.mark.parametrize("signer", ["steps", "proofs", "ledger", "anchors"])
def test_a_key_in_another_roles_place(case: Case, topic: str, signer: str) -> None:
    """Every role against every topic: a key that is known and honest elsewhere signs here."""
    key = case.insider.key(signer)
    if SIGNER[topic][0] == SIGNER[signer][0]:
        return
    record = [r for r, o in case.log.opened(topic) if not isinstance(o.event, EnclaveAttested)][-1]
    case.log.replace(record, resigned(topic, record.value, key))
    (assert_doubts if topic == "anchors" else assert_violates)(case.audit(live=False), 1)


def _introduces(value: bytes, role: Role) -> bool:
    event = decode_unverified("steps", value).event
    return isinstance(event, EnclaveAttested) and event.role is role


@pytest.mark.parametrize("first", [True, False])
def test_a_key_with_evidence_for_two_roles(case: Case, first: bool) -> None:
    """Whoever holds the root vouches for one key as trainer and as prover: the first word counts; it is never both."""
    second = case.insider.introduce(Role.PROVER, case.insider.key("steps"))
    if first:
        # Right before the trainer's own introduction: partitions are read one after the other.
        own = next(r for r in case.log.records("steps") if _introduces(r.value, Role.TRAINER))
        case.log.insert(own, second)
        found = case.audit()
        assert_violates(found, 1)
    else:
        case.log.append("steps", second, partition=3)
        case.log.append("proofs", resigned("proofs", case.proofs()[1, 0].value, case.insider.key("steps")))
        assert_doubts(case.audit(), 1)


# Circuits


def test_a_policy_that_pins_another_circuit(case: Case) -> None:
    """The run's circuit is a good one, and not the one whose source the auditor has read."""
    assert_violates(case.audit(replace(case.policy, circuits=frozenset({bytes(32)}))), 2, only=True)


def test_a_policy_that_pins_no_circuit(case: Case) -> None:
    """An empty list allows none; only its absence allows any."""
    assert_violates(case.audit(replace(case.policy, circuits=frozenset())), 2, only=True)


def test_a_circuit_that_the_auditor_does_not_have_could_not_be_checked(case: Case) -> None:
    """Nothing is proven by a verifying key that is not there."""
    story = case.story()
    story.edit(RunStarted, circuit_id=bytes(32))
    case.retell(story)
    found = case.audit(replace(case.policy, circuits=None))
    assert found.exit_code == 2, explain(found)


# Trust on first use


def test_first_use_refuses_development_evidence(case: Case) -> None:
    """Without a policy, what the log says of itself is believed; but not that simulated evidence is evidence."""
    assert_doubts(case.audit(FIRST_USE), 11)


def test_first_use_with_development_evidence_says_what_it_trusted(case: Case) -> None:
    """Roots, circuit, ledger key and anchor, each by its full name, so that it can be pinned the next time."""
    found = case.audit(FIRST_USE_DEV)
    assert found.exit_code == 0, explain(found)
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        collected = collect(log, case.run_id, FIRST_USE_DEV)
    trusted = "\n".join(_trusted(collected, found, FIRST_USE_DEV))
    (root,) = case.policy.roots["SIMULATED"]
    for name in (root, case.sound.circuit.id, case.insider.key("ledger").public_key):
        assert name.hex() in trusted
    assert next(iter(case.policy.anchors)) in trusted


def test_first_use_shows_every_root_that_vouches(case: Case) -> None:
    """A second root in the log, an attacker's, stands in the list of what was trusted."""
    root, key = new_signing_key(), new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.TRAINER, key, root))
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        collected = collect(log, case.run_id, FIRST_USE_DEV)
    assert root.public_key.hex() in "\n".join(_trusted(collected, case.audit(FIRST_USE_DEV), FIRST_USE_DEV))
