"""Evidence binds one key to one role under a root that the verifier chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home
from zk_autograd.tee.evidence import simulate, verify_evidence
from zk_autograd.tee.keys import new_signing_key

ROOT, OTHER_ROOT, KEY, OTHER_KEY = (new_signing_key() for _ in range(4))
ROOTS = {"SIMULATED": {ROOT.public_key}}
EVIDENCE = simulate(ROOT, "TRAINER", KEY.public_key)


def test_evidence_verifies_for_its_role_and_key() -> None:
    verify_evidence("SIMULATED", EVIDENCE, "TRAINER", KEY.public_key, ROOTS)


@pytest.mark.parametrize("role", ["PROVER", "LEDGER", "ANCHOR", "trainer", "", "TRAINER\0", "TRAINER" + "x" * 1000])
def test_evidence_for_one_role_is_none_for_another(role: str) -> None:
    with pytest.raises(VerificationError, match="does not verify"):
        verify_evidence("SIMULATED", EVIDENCE, role, KEY.public_key, ROOTS)


@pytest.mark.parametrize(
    "key",
    [OTHER_KEY.public_key, ROOT.public_key, bytes(32), b"", KEY.public_key + b"\0"],
    ids=["another", "the root's", "zero", "none", "longer"],
)
def test_evidence_for_one_key_is_none_for_another(key: bytes) -> None:
    with pytest.raises(VerificationError, match="does not verify"):
        verify_evidence("SIMULATED", EVIDENCE, "TRAINER", key, ROOTS)


def test_role_and_key_cannot_trade_bytes() -> None:
    """The role ends where the key begins: no other split of the same bytes verifies."""
    evidence = simulate(ROOT, "A", b"B\0" + KEY.public_key)
    with pytest.raises(VerificationError):
        verify_evidence("SIMULATED", evidence, "A\0B", KEY.public_key[:30], ROOTS)


def test_a_root_that_the_verifier_does_not_know_vouches_for_nothing() -> None:
    evidence = simulate(OTHER_ROOT, "TRAINER", KEY.public_key)
    with pytest.raises(VerificationError, match="not one that the policy trusts") as refused:
        verify_evidence("SIMULATED", evidence, "TRAINER", KEY.public_key, ROOTS)
    assert OTHER_ROOT.public_key.hex()[:16] in str(refused.value)


@pytest.mark.parametrize("roots", [{}, {"SIMULATED": set()}, {"NITRO": {ROOT.public_key}}])
def test_without_roots_of_its_class_no_evidence_verifies(roots: dict[str, set[bytes]]) -> None:
    with pytest.raises(VerificationError, match="not one that the policy trusts"):
        verify_evidence("SIMULATED", EVIDENCE, "TRAINER", KEY.public_key, roots)


def test_naming_a_trusted_root_without_its_signature_does_not_help() -> None:
    forged = ROOT.public_key + simulate(OTHER_ROOT, "TRAINER", KEY.public_key)[32:]
    with pytest.raises(VerificationError, match="does not verify"):
        verify_evidence("SIMULATED", forged, "TRAINER", KEY.public_key, ROOTS)


def test_a_key_cannot_vouch_for_itself() -> None:
    own = simulate(KEY, "TRAINER", KEY.public_key)
    with pytest.raises(VerificationError, match="not one that the policy trusts"):
        verify_evidence("SIMULATED", own, "TRAINER", KEY.public_key, ROOTS)


@pytest.mark.parametrize("name", ["NITRO", "SEV_SNP", "simulated", "", "SIMULATED "])
def test_a_class_without_a_verifier_is_refused_whatever_the_roots(name: str) -> None:
    with pytest.raises(VerificationError, match="expected SIMULATED"):
        verify_evidence(name, EVIDENCE, "TRAINER", KEY.public_key, {name: {ROOT.public_key}})


@pytest.mark.parametrize("length", [0, 32, 64, 95, 97, 10_000])
def test_evidence_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(VerificationError, match=f"expected 96 bytes, got {length}"):
        verify_evidence("SIMULATED", (EVIDENCE * 200)[:length], "TRAINER", KEY.public_key, ROOTS)


def test_any_changed_byte_of_the_evidence_is_refused() -> None:
    for at in range(len(EVIDENCE)):
        changed = bytearray(EVIDENCE)
        changed[at] ^= 1
        with pytest.raises(VerificationError):
            verify_evidence("SIMULATED", bytes(changed), "TRAINER", KEY.public_key, ROOTS)


def test_a_home_gives_simulated_evidence_only_after_opting_in(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(UsageError, match="zk-setup --dev"):
        home.simulated_evidence("PROVER", KEY)
    home.opt_in_to_simulation()
    evidence = home.simulated_evidence("PROVER", KEY)
    verify_evidence("SIMULATED", evidence, "PROVER", KEY.public_key, home.policy().roots)
    with pytest.raises(VerificationError):
        verify_evidence("SIMULATED", evidence, "PROVER", KEY.public_key, ROOTS)
