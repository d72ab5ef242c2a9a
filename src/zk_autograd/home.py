"""A role's folder: keys, circuits, SRS, policy. ``ZK_HOME``, or ``~/.zk-autograd``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from zk_autograd.errors import UsageError
from zk_autograd.policy import Policy, load_policy
from zk_autograd.tee.evidence import simulate
from zk_autograd.tee.keys import SigningKey, load_or_make_signing_key, load_signing_key, write_private


def default_home() -> Path:
    """``$ZK_HOME`` or ``~/.zk-autograd``."""
    return Path(os.environ.get("ZK_HOME") or "~/.zk-autograd").expanduser()


@dataclass(frozen=True)
class Home:
    """Paths below one folder; nothing is made before it is needed."""

    path: Path

    @property
    def policy_path(self) -> Path:
        return self.path / "policy.json"

    @property
    def data_keys(self) -> Path:
        return self.path / "keys" / "data"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def claimed_proofs(self) -> Path:
        return self.path / "claimed"

    def signing_key(self, role: str, name: str = "") -> SigningKey:
        """The signing key of a role (and instance), made at first use."""
        suffix = f"-{name}" if name else ""
        if not all(c.isalnum() or c in "._-" for c in suffix):
            raise UsageError(f"name {name[:40]!r}: expected letters, digits, '.', '_' and '-'")
        return load_or_make_signing_key(self.path / "keys" / f"{role.lower()}{suffix}.pem")

    def simulated_evidence(self, role: str, key: SigningKey) -> bytes:
        """Evidence of class SIMULATED by this home's own root; UsageError if the home has none."""
        path = self.path / "keys" / "simulated-root.pem"
        if not path.exists():
            raise UsageError(
                f"{path}: not there. Without enclave hardware a role needs simulated evidence, which has "
                "to be opted into: run zk-setup --dev once in this home"
            )
        return simulate(load_signing_key(path), role, key.public_key)

    def opt_in_to_simulation(self) -> None:
        """Makes a simulated root, and a policy that accepts it and a local SRS, unless they are there."""
        root = load_or_make_signing_key(self.path / "keys" / "simulated-root.pem")
        policy = self.policy() if self.policy_path.exists() else Policy(circuits=frozenset())
        self._write_policy(
            replace(
                policy,
                evidence_classes=policy.evidence_classes | {"SIMULATED"},
                srs_classes=policy.srs_classes | {"DEV"},
                roots=policy.roots | {"SIMULATED": policy.roots.get("SIMULATED", frozenset()) | {root.public_key}},
            )
        )

    def allow_circuit(self, circuit_id: bytes) -> None:
        """Adds a circuit that was set up here to this home's policy."""
        policy = self.policy() if self.policy_path.exists() else Policy(circuits=frozenset())
        self._write_policy(replace(policy, circuits=(policy.circuits or frozenset()) | {circuit_id}))

    def policy(self) -> Policy:
        """This home's policy; UsageError if it has none."""
        if not self.policy_path.exists():
            raise UsageError(f"{self.policy_path}: not there; run zk-setup first, or give --policy FILE")
        return load_policy(self.policy_path)

    def _write_policy(self, policy: Policy) -> None:
        write_private(self.policy_path, policy.to_json().encode(), replace=True)
