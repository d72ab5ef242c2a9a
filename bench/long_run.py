"""An event log with one long run, written a batch at a time: real keys, chain, signatures, entries and checkpoints.

Proofs begin with the step's commitments, as real ones do, and prove nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from ledger.checkpoint import sign_checkpoint
from ledger.entries import NO_CHALLENGE, leaf_data, proofs_digest
from ledger.frontier import Frontier
from schemas.codec import encode
from schemas.events import (
    Block,
    CheckpointIssued,
    EvidenceClass,
    Group,
    Hyper,
    ProofAttached,
    Role,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    ScheduleKind,
    SrsClass,
    StepCommitted,
    StepProven,
)
from schemas.keyring import introduction
from schemas.signing import event_id, seal
from schemas.wire import open_event_log
from zk_autograd.merkle import leaf_hash
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import POINT_BYTES, Circuit
from zk_autograd.tee.evidence import simulate
from zk_autograd.tee.keys import SigningKey, new_signing_key

ORIGIN = "bench/log"
BATCH = 1000
"""Steps that become visible together, with a checkpoint over them."""

OTHERS = 10_000
"""Entries of another run that do."""


def _point(what: str, step: int) -> bytes:
    return hashlib.shake_256(f"{what} {step}".encode()).digest(POINT_BYTES)


def write(
    url: str, circuit: Circuit, steps: int, proof_bytes: int | None = None,
    tick: Callable[[int], None] = lambda _: None, others: int = 0,
) -> tuple[bytes, Policy]:  # fmt: skip
    """Writes a finished run of one shard a step and its ledger.

    Args:
        proof_bytes: length of a proof; None: the circuit's.
        tick: called with the entries that there are, but for those that open and close runs.
        others: entries before it, of a run whose events are in none of the topics: the ledger is shared.
    Returns:
        The run's id, and a policy that accepts it.
    """
    root = new_signing_key()
    trainer, prover, ledger = (new_signing_key() for _ in range(3))
    st = circuit.statement
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, circuit.P)
    group = Group(tuple(Hyper(n, v) for n, v in sorted(st.defaults.items())), 1e-3, ScheduleKind.CONSTANT, (1e-3,))
    state = leaf_hash(_point("state", 0))
    block = Block(0, 1, fmt.scale_w, fmt.scale_g, fmt.guard, fmt.clip)
    start = RunStarted(
        "long", bytes(32), trainer.key_id, st.name, (group,), (block,),
        circuit.system, circuit.id, circuit.srs_id, SrsClass(circuit.srs_class), circuit.shard, 1, 0, "", 0, 0, 1.0,
        state, bytes(32),
    )  # fmt: skip
    run_id = head = event_id(encode(start))
    tree, rest = Frontier(), bytes((proof_bytes or circuit.proof_bytes) - 3 * POINT_BYTES)
    roles = ((Role.TRAINER, trainer), (Role.PROVER, prover), (Role.LEDGER, ledger))
    with open_event_log(url) as log, log.producer("bench") as producer:

        def send(**topics: Sequence[bytes]) -> None:
            with producer.transaction() as transaction:
                for topic, values in topics.items():
                    for value in values:
                        transaction.send(topic, run_id if topic in ("steps", "proofs") else b"", value)

        def entered(entry: RunOpened | StepProven | RunClosed) -> bytes:
            tree.append(leaf_data(entry))
            return seal("ledger", entry, ledger)

        def checkpoint() -> list[bytes]:
            note = sign_checkpoint(ORIGIN, tree.size, tree.root(), ORIGIN, ledger.sign, ledger.public_key)
            return [seal("checkpoints", CheckpointIssued(note), ledger)]

        send(steps=[*(_introduced(root, *pair) for pair in roles), seal("steps", start, trainer)])
        another = hashlib.sha256(run_id).digest()
        for first in range(1, others + 1, OTHERS):
            numbers = range(first, min(first + OTHERS, others + 1))
            found = [StepProven(another, n, *(_point("other", n)[:32],) * 5) for n in numbers]
            send(ledger=[entered(entry) for entry in found], checkpoints=checkpoint())
            tick(numbers[-1])
        send(ledger=[entered(RunOpened(run_id))])
        for first in range(1, steps + 1, BATCH):
            events, proofs, entries = list[bytes](), list[bytes](), list[bytes]()
            for step in range(first, min(first + BATCH, steps + 1)):
                pre, post, work = _point("state", step - 1), _point("state", step), _point("work", step)
                public = tuple(st.public_vector(st.public_integers(st.defaults, 1e-3, step, fmt, circuit.P)))
                state, did = leaf_hash(post), leaf_hash(work)
                event = StepCommitted(run_id, step, head, (1e-3,), (), public, state, did, 0, 0, 0, 0.0)
                head = event_id(encode(event))
                proof = ProofAttached(run_id, step, 0, circuit.system, circuit.id, pre + post + work + rest, (), (), ())
                digest = proofs_digest([event_id(encode(proof))])
                events.append(seal("steps", event, trainer))
                proofs.append(seal("proofs", proof, prover))
                entries.append(entered(StepProven(run_id, step, head, digest, NO_CHALLENGE, state, did)))
            send(steps=events)
            send(proofs=proofs)
            send(ledger=entries, checkpoints=checkpoint())
            tick(others + min(first + BATCH - 1, steps))
        end = RunFinished(run_id, head, steps, state)
        closed = entered(RunClosed(run_id, event_id(encode(end)), steps))
        send(steps=[seal("steps", end, trainer)])
        send(ledger=[closed], checkpoints=checkpoint())
    roots = {"SIMULATED": frozenset({root.public_key})}
    return run_id, Policy(frozenset({"SIMULATED"}), roots, frozenset({"DEV"}), frozenset({circuit.id}))


def _introduced(root: SigningKey, role: Role, key: SigningKey) -> bytes:
    return introduction(role, key, EvidenceClass.SIMULATED, simulate(root, role.value, key.public_key), 0)
