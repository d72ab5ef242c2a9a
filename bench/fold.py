"""The ledger's fold: steps per second, with and without the verification of proofs."""

from __future__ import annotations

import hashlib
import statistics
import time
from typing import Any

from bench.circuits import bench_proof
from ledger.entries import leaf_data
from ledger.fold import Fold
from ledger.tree import Tree
from schemas.codec import encode
from schemas.events import Block, Group, Hyper, ProofAttached, RunStarted, ScheduleKind, SrsClass, StepCommitted
from schemas.signing import event_id, open_signed, seal
from zk_autograd.merkle import all_paths
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Commitments
from zk_autograd.tee.keys import SigningKey, new_signing_key


def _point(*seed: object) -> bytes:
    return hashlib.shake_256(repr(seed).encode()).digest(POINT_BYTES)


def _run(circuit: Circuit, key: SigningKey, steps: int) -> tuple[list[bytes], list[bytes]]:
    """The sealed events of a run of one shard and its proofs; commitments are random, places are right."""
    st = circuit.statement
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, circuit.P)
    state, path = all_paths([_point("state", 0)])
    hyper = tuple(Hyper(n, v) for n, v in sorted(st.defaults.items()))
    group = Group(hyper, 1e-3, ScheduleKind.CONSTANT, (1e-3,))
    block = Block(0, 1, fmt.scale_w, fmt.scale_g, fmt.guard, fmt.clip)
    started = RunStarted(
        "bench", bytes(32), key.key_id, st.name, (group,), (block,),
        circuit.system, circuit.id, circuit.srs_id, SrsClass(circuit.srs_class), circuit.shard, 1, 0, "", 0, 0, 1.0,
        state, bytes(32),
    )  # fmt: skip
    head = run_id = event_id(encode(started))
    events, proofs = [seal("steps", started, key)], []
    for step in range(1, steps + 1):
        pre, post, work = _point("state", step - 1), _point("state", step), _point("work", step)
        public = tuple(st.public_vector(st.public_integers(st.defaults, 1e-3, step, fmt, circuit.P)))
        roots = all_paths([post])[0], all_paths([work])[0]
        event = StepCommitted(run_id, step, head, (1e-3,), (), public, *roots, 0, 0, 0, 0.0)
        head = event_id(encode(event))
        events.append(seal("steps", event, key))
        body = pre + post + work + bytes(circuit.proof_bytes - 3 * POINT_BYTES)
        attached = ProofAttached(
            run_id, step, 0, circuit.system, circuit.id, body, tuple(path[0]), tuple(path[0]), tuple(path[0])
        )
        proofs.append(seal("proofs", attached, key))
    return events, proofs


def _time(circuit: Circuit, key: SigningKey, events: list[bytes], proofs: list[bytes], verify: Any) -> float:
    keys = {key.key_id: key.public_key}
    fold, tree, entered = Fold(lambda _: circuit, verify), Tree(), 0
    began = time.perf_counter()
    for value in events:
        for entry in fold.step_event(open_signed("steps", value, keys)):  # type: ignore[arg-type]
            tree.append(leaf_data(entry))
    for value in proofs:
        for entry in fold.proof_event(open_signed("proofs", value, keys)):  # type: ignore[arg-type]
            tree.append(leaf_data(entry))
            entered += 1
    tree.root()
    seconds = time.perf_counter() - began
    if entered != len(proofs):
        raise RuntimeError(f"folded {entered} of {len(proofs)} steps")
    return entered / seconds


def run() -> dict[str, Any]:
    """Steps of one shard per second: signatures, decoding, places, entries and Merkle tree; then the same with proofs.

    With verification, every step verifies one and the same real proof, and its commitments are then the step's own.
    """
    circuit, columns, proof = bench_proof("adam", "default")
    key = new_signing_key()

    def places(_circuit: Circuit, body: bytes, _hyper: object) -> Commitments:
        return Commitments(*(body[i : i + POINT_BYTES] for i in range(0, 4 * POINT_BYTES, POINT_BYTES)))

    with proof_system(circuit.system).verifier(circuit) as verifier:

        def verified(c: Circuit, body: bytes, hyper: object) -> Commitments:
            verifier.verify(proof, columns.hyper)
            return places(c, body, hyper)

        few, many = _run(circuit, key, 40), _run(circuit, key, 1000)
        with_proofs, without = [], []
        for _ in range(3):
            with_proofs.append(_time(circuit, key, *few, verified))
            without.append(_time(circuit, key, *many, places))
    value, peer = statistics.median(without), statistics.median(with_proofs)
    return {
        "name": "fold", "value": value, "unit": "steps/s without proof verification",
        "peer": "the same fold with every proof verified", "peer_value": peer, "ratio": value / peer,
    }  # fmt: skip
