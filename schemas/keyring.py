"""Which keys may sign what: introduced by attested evidence, judged by a policy that the reader chose. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import EnclaveAttested, Event, EvidenceClass, Role, RunStarted
from schemas.signing import Opened, decode_unverified, open_introduction, open_signed, seal, verify_decoded
from schemas.topics import TOPICS
from zk_autograd.errors import VerificationError
from zk_autograd.policy import Policy
from zk_autograd.tee.evidence import verify_evidence
from zk_autograd.tee.keys import SigningKey

SIGNERS: dict[str, frozenset[Role]] = {
    "steps": frozenset({Role.TRAINER}),
    "witness": frozenset({Role.TRAINER}),
    "proofs": frozenset({Role.PROVER}),
    "claims": frozenset({Role.PROVER}),
    "ledger": frozenset({Role.LEDGER}),
    "checkpoints": frozenset({Role.LEDGER}),
    "anchors": frozenset({Role.ANCHOR}),
    "dead-letters": frozenset({Role.PROVER, Role.LEDGER, Role.ANCHOR}),
}
"""The roles whose keys may sign on a topic (introductions are signed by the key they introduce)."""


@dataclass(frozen=True, slots=True)
class Known:
    """A key that the policy accepts, and why."""

    role: Role
    public_key: bytes
    evidence_class: EvidenceClass


class KeyRing:
    """Keys with evidence that ``policy`` accepts."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.keys: dict[bytes, Known] = {}

    def introduce(self, opened: Opened[EnclaveAttested]) -> None:
        """Takes an introduction that :func:`open_introduction` has opened.

        Raises:
            VerificationError: evidence of a class or under a root that the policy does not accept, or a key that has
                another role already.
        """
        event = opened.event
        if event.evidence_class.value not in self._policy.evidence_classes:
            raise VerificationError(
                f"key {opened.key_id.hex()[:12]} ({event.role}): evidence of class {event.evidence_class} is not "
                "accepted by the policy (evidence_classes)"
            )
        verify_evidence(
            event.evidence_class.value, event.evidence, event.role.value, event.public_key, self._policy.roots
        )
        known = self.keys.get(opened.key_id)
        if known is not None and known.role is not event.role:
            raise VerificationError(
                f"key {opened.key_id.hex()[:12]} is introduced as {event.role}, but is {known.role}"
            )
        self.keys[opened.key_id] = Known(event.role, event.public_key, event.evidence_class)

    def open(self, topic: str, value: bytes) -> Opened[Event]:
        """Opens an event signed by a known key of a role that may sign on ``topic``; takes introductions on the way.

        Raises:
            DecodeError: not one well-formed event of this topic.
            VerificationError: unknown key, wrong role, a ledger's that the policy does not name, bad signature, or a
                run's start signed by another key than the one that it names.
        """
        if EnclaveAttested in TOPICS[topic].events and isinstance(
            decode_unverified(topic, value).event, EnclaveAttested
        ):
            introduction = open_introduction(topic, value)
            self.introduce(introduction)
            return introduction
        roles = SIGNERS[topic]
        return self.own(
            topic, open_signed(topic, value, {k: v.public_key for k, v in self.keys.items() if v.role in roles})
        )

    def open_decoded(self, topic: str, decoded: Opened[Event]) -> Opened[Event]:
        """:meth:`open` for what :func:`~schemas.signing.decode_unverified` gave for this topic, but no introductions.

        Raises:
            VerificationError: as for :meth:`open`.
        """
        return self.own(topic, verify_decoded(topic, decoded, self.claimed(topic, decoded).public_key))

    def claimed(self, topic: str, decoded: Opened[Event]) -> Known:
        """The key that ``decoded`` says has signed it, if it may sign on ``topic``. Whether it has is not checked.

        Raises:
            VerificationError: unknown key, or of another role.
        """
        known = self.keys.get(decoded.key_id)
        if known is None or known.role not in SIGNERS[topic]:
            count = sum(key.role in SIGNERS[topic] for key in self.keys.values())
            raise VerificationError(f"topic {topic}: expected one of {count} known keys, got {decoded.key_id.hex()}")
        return known

    def vouched(self, topic: str, decoded: Opened[Event]) -> Opened[Event]:
        """:meth:`open_decoded` for an event that its signer is known to have said, by its signature or otherwise.

        Raises:
            VerificationError: as for :meth:`open`, but for the signature.
        """
        self.claimed(topic, decoded)
        return self.own(topic, decoded)

    def own(self, topic: str, opened: Opened[Event]) -> Opened[Event]:
        """An event whose signer is known to have said it, and to have a role that may, if it is also its to say.

        Raises:
            VerificationError: by a ledger that the policy does not name, or another's start of a run.
        """
        # There is one log: what another ledger signs, however well attested, is no part of it.
        pinned = self._policy.ledger_keys if topic in ("ledger", "checkpoints") else None
        if pinned is not None and self.keys[opened.key_id].public_key not in pinned:
            raise VerificationError(
                f"topic {topic}: by ledger key {opened.key_id.hex()[:12]}, which the policy does not name (ledger_keys)"
            )
        # The run id does not cover the envelope: without this, any trainer could sign a copy and call the run its own.
        if isinstance(opened.event, RunStarted) and opened.event.trainer_key_id != opened.key_id:
            raise VerificationError(
                f"topic {topic}: run {opened.event_id.hex()[:12]} is started by key {opened.key_id.hex()[:12]}, "
                f"but names {opened.event.trainer_key_id.hex()[:12]}"
            )
        return opened


def introduction(
    role: Role, key: SigningKey, evidence_class: EvidenceClass, evidence: bytes, issued_ms: int, topic: str = "steps"
) -> bytes:
    """A sealed EnclaveAttested for the topic, signed by the key it introduces."""
    return seal(topic, EnclaveAttested(role, key.public_key, evidence_class, evidence, issued_ms), key)
