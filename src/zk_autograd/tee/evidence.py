"""Evidence that a signing key lives in an enclave: one verifier per class, roots chosen by who verifies.

``SIMULATED`` is a signature of a root key that anyone can make: it says who vouches, and nothing about hardware.
A policy has to opt in to it, and every verdict prints it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zk_autograd.errors import VerificationError
from zk_autograd.tee.keys import SigningKey, verify_signature

_DOMAIN = b"zk-autograd/simulated-evidence/v1\0"


def _statement(role: str, public_key: bytes) -> bytes:
    return _DOMAIN + role.encode() + b"\0" + public_key


def simulate(root: SigningKey, role: str, public_key: bytes) -> bytes:
    """Simulated evidence: root public key (32 bytes) || signature over role and key (64 bytes)."""
    return root.public_key + root.sign(_statement(role, public_key))


def verify_evidence(
    evidence_class: str, evidence: bytes, role: str, public_key: bytes, roots: Mapping[str, Collection[bytes]]
) -> None:
    """Checks that ``evidence`` binds ``public_key`` and ``role`` under one of the verifier's own roots.

    1. the class has a verifier and the caller has roots for it;
    2. the evidence names a root that the caller trusts;
    3. the root's signature covers role and key.

    Raises:
        VerificationError: any of these does not hold.
    """
    # 1. class
    if evidence_class != "SIMULATED":
        raise VerificationError(
            f"evidence of class {evidence_class} cannot be verified by this release: expected SIMULATED"
        )
    trusted = roots.get(evidence_class, ())
    # 2. root
    if len(evidence) != 96:
        raise VerificationError(f"simulated evidence: expected 96 bytes, got {len(evidence)}")
    root = evidence[:32]
    if root not in trusted:
        raise VerificationError(
            f"simulated evidence: its root key {root.hex()[:16]}… is not one that the policy trusts"
        )
    # 3. signature
    verify_signature(root, evidence[32:], _statement(role, public_key))
