"""The audit's replay without proof verification: steps per second and memory, all other checks made."""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.circuits import bench_circuit
from bench.fold import _run
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit
from consumers.audit.proofs import Verdict
from ledger.checkpoint import sign_checkpoint
from ledger.entries import leaf_data
from ledger.fold import Fold
from ledger.tree import Tree
from schemas.events import CheckpointIssued, EvidenceClass, Role
from schemas.keyring import introduction
from schemas.signing import decode_unverified, event_id, open_signed, seal
from schemas.wire import open_event_log
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit, Commitments
from zk_autograd.tee.evidence import simulate
from zk_autograd.tee.keys import SigningKey, new_signing_key

STEPS = 5000
ORIGIN = "bench/log"


def _unproven(circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]]) -> list[Verdict]:
    """Takes every proof for what it begins with."""
    return [Verdict(Commitments.first_in(proof, circuit.statement)) for proof, _ in jobs]


def _write(url: str, circuit: Circuit, steps: int) -> tuple[bytes, Policy]:
    """A run of one shard a step and its ledger; the proofs are none."""
    root = new_signing_key()
    keys = {role: new_signing_key() for role in (Role.TRAINER, Role.PROVER, Role.LEDGER)}
    events, unsigned = _run(circuit, keys[Role.TRAINER], steps)
    proofs = [seal("proofs", decode_unverified("proofs", p).event, keys[Role.PROVER]) for p in unsigned]
    fold, entries = Fold(lambda _: circuit, lambda c, body, _: Commitments.first_in(body, c.statement)), []
    for topic, values, role in (("steps", events, Role.TRAINER), ("proofs", proofs, Role.PROVER)):
        known = {keys[role].key_id: keys[role].public_key}
        for value in values:
            opened: Any = open_signed(topic, value, known)
            entries += fold.step_event(opened) if topic == "steps" else fold.proof_event(opened)
    tree, ledger = Tree(leaf_data(e) for e in entries), keys[Role.LEDGER]
    note = sign_checkpoint(ORIGIN, tree.size, tree.root(), ORIGIN, ledger.sign, ledger.public_key)
    with open_event_log(url) as log:
        _send(log, "steps", [_introduced(root, role, key) for role, key in keys.items()])
        _send(log, "steps", events)
        _send(log, "proofs", proofs)
        _send(log, "ledger", [seal("ledger", e, ledger) for e in entries])
        _send(log, "checkpoints", [seal("checkpoints", CheckpointIssued(note), ledger)])
    roots = {"SIMULATED": frozenset({root.public_key})}
    policy = Policy(frozenset({"SIMULATED"}), roots, frozenset({"DEV"}), frozenset({circuit.id}))
    return event_id(
        open_signed("steps", events[0], {keys[Role.TRAINER].key_id: keys[Role.TRAINER].public_key}).body
    ), policy


def _introduced(root: SigningKey, role: Role, key: SigningKey) -> bytes:
    return introduction(role, key, EvidenceClass.SIMULATED, simulate(root, role.value, key.public_key), 0)


def _send(log: EventLog, topic: str, values: Sequence[bytes]) -> None:
    with log.producer(f"bench-{topic}") as producer:
        for start in range(0, len(values), 500):
            with producer.transaction() as transaction:
                for value in values[start : start + 500]:
                    transaction.send(topic, b"bench", value)


def replay(url: str, circuit: Circuit, run_id: bytes, policy: Policy) -> Audit:
    """All checks but the proofs' own."""
    with open_event_log(f"{url}?mode=ro", create=False) as log:
        found = collect(log, run_id, policy)
    return audit(found, run_id, policy, lambda _: circuit, _unproven, [], ORIGIN)


def run() -> dict[str, Any]:
    """Replays a run of 5,000 steps; the peer is the Ed25519 verification of its records alone, which nobody avoids."""
    circuit = bench_circuit("adam", "default")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'log.db'}"
        run_id, policy = _write(url, circuit, STEPS)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ours, theirs = [], []
        for _ in range(3):
            began = time.perf_counter()
            out = replay(url, circuit, run_id, policy)
            ours.append(STEPS / (time.perf_counter() - began))
            if out.proven != STEPS or out.violations:
                raise RuntimeError(f"replayed {out.proven} of {STEPS} steps: {[c.findings for c in out.checks]}")
            theirs.append(_signatures())
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    value, peer = statistics.median(ours), statistics.median(theirs)
    return {
        "name": "replay", "value": value, "unit": "steps/s without proof verification",
        "peer": "Ed25519 verification of its three records a step", "peer_value": peer, "ratio": value / peer,
        "details": {"steps": STEPS, "peak_kib": grown, "bytes_a_step": 1024 * grown / STEPS},
    }  # fmt: skip


def _signatures(count: int = 3000) -> float:
    """Steps a second if a step were three signatures and nothing else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, message = Ed25519PrivateKey.generate(), bytes(1000)
    public, signature = key.public_key(), key.sign(message)
    began = time.perf_counter()
    for _ in range(count):
        public.verify(signature, message)
    return count / 3 / (time.perf_counter() - began)
