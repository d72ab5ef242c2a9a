"""Who may sign what: known keys by role; a decoded event is judged as its bytes are."""

from __future__ import annotations

import pytest

from schemas.events import EvidenceClass, ProofAttached, ProofClaimed, Role, RunOpened, RunStarted, StepCommitted
from schemas.keyring import KeyRing, Known
from schemas.signing import decode_unverified, seal
from tests.support.events import SAMPLES, KeySigner, sample
from zk_autograd.errors import VerificationError
from zk_autograd.policy import Policy

SIGNERS = {role: KeySigner(role.value) for role in Role}


def ring() -> KeyRing:
    made = KeyRing(Policy())
    for role, key in SIGNERS.items():
        made.keys[key.key_id] = Known(role, key.public_key, EvidenceClass.SIMULATED)
    return made


@pytest.mark.parametrize("role", [*Role, None])
@pytest.mark.parametrize("kind", [StepCommitted, ProofAttached, ProofClaimed, RunOpened])
def test_decoded_or_not_only_the_topics_role_may_sign(role: Role | None, kind: type) -> None:
    topic, may = {
        StepCommitted: ("steps", Role.TRAINER),
        ProofAttached: ("proofs", Role.PROVER),
        ProofClaimed: ("claims", Role.PROVER),
        RunOpened: ("ledger", Role.LEDGER),
    }[kind]
    key = KeySigner("stranger") if role is None else SIGNERS[role]
    value = seal(topic, SAMPLES[kind], key)
    decoded, keys = decode_unverified(topic, value), ring()
    if role is may:
        assert keys.open_decoded(topic, decoded) == keys.open(topic, value)
        return
    messages = []
    for attempt in (lambda: keys.open(topic, value), lambda: keys.open_decoded(topic, decoded)):
        with pytest.raises(VerificationError, match="expected one of 1 known keys") as error:
            attempt()
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_decoded_or_not_a_start_names_its_own_key() -> None:
    key, keys = SIGNERS[Role.TRAINER], ring()
    own = seal("steps", sample(RunStarted, trainer_key_id=key.key_id), key)
    assert keys.open_decoded("steps", decode_unverified("steps", own)) == keys.open("steps", own)
    another = seal("steps", sample(RunStarted, trainer_key_id=bytes(32)), key)
    for attempt in (
        lambda: keys.open("steps", another),
        lambda: keys.open_decoded("steps", decode_unverified("steps", another)),
    ):
        with pytest.raises(VerificationError, match="but names"):
            attempt()
