"""What provers and strangers publish cannot make an honest run fail, as long as trainer, ledger and anchor are honest.

The real ledger folds a log in which hostile records stand at random places among the honest ones, in any partition. The
audit of what it made must come to 0: whatever the ledger takes, the auditor takes, and whatever the auditor would
object to, the ledger has refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.audit.proofs import Verdict
from schemas.events import CheckpointIssued, EnclaveAttested, ProofAttached, Role, RunStarted
from schemas.signing import decode_unverified, seal
from tests.support.forge import Case, explain, flipped, resigned
from tests.support.sound_run import SHARDS, STEPS, SoundRun
from zk_autograd.eventlog.base import Record
from zk_autograd.tee.keys import SigningKey, new_signing_key

SLOTS = [(step, shard) for step in range(1, STEPS + 1) for shard in range(SHARDS)]

slots = st.sampled_from(SLOTS)
changes = st.fixed_dictionaries(
    {},
    optional={
        "step": st.sampled_from([1, 2, 3, 4, 1 << 40]),
        "shard": st.sampled_from([0, 1, 2, (1 << 20) - 1]),
        "circuit_id": st.just(bytes(32)),
        "run_id": st.just(bytes(32)),
        "proof_system": st.sampled_from(["ezkl-23.0.5", "another-1"]),
        "pre_path": st.sampled_from([(), (bytes(32),), (bytes(32),) * 20]),
        "post_path": st.sampled_from([(), (bytes(32),)]),
        "work_path": st.sampled_from([(), (bytes(32),)]),
        "proof": st.sampled_from(["twin", "hot", "foreign", "sgd", "flipped", "empty", "long"]),
    },
)
signers = st.sampled_from(["prover", "another prover", "stranger", "trainer", "ledger"])
hostile = st.one_of(
    st.tuples(st.just("proof"), slots, changes, signers),
    st.tuples(st.just("garbage"), st.sampled_from(["steps", "proofs"]), st.binary(max_size=60), signers),
    st.tuples(st.just("replayed proof"), slots, st.just(None), signers),
    st.tuples(st.just("replayed step"), st.integers(0, 4), st.just(None), signers),
    st.tuples(st.just("another trainer's step"), st.integers(0, 4), st.just(None), signers),
)


class Hostile:
    """Makes the records that hypothesis thought of."""

    def __init__(self, case: Case) -> None:
        self.case, self.other, self.stranger = case, new_signing_key(), new_signing_key()
        self.trainer = new_signing_key()
        self.steps = [r.value for r, o in case.log.opened("steps") if not isinstance(o.event, EnclaveAttested)]
        self.events = {slot: decode_unverified("proofs", r.value).event for slot, r in case.proofs().items()}

    def key(self, signer: str) -> SigningKey:
        insider = self.case.insider
        return {
            "prover": insider.key("proofs"),
            "another prover": self.other,
            "stranger": self.stranger,
            "trainer": insider.key("steps"),
            "ledger": insider.key("ledger"),
        }[signer]

    def record(self, what: Any, partition: int) -> Record:
        kind, where, change, signer = what
        if kind == "garbage":
            return Record(where, partition, 0, b"", change, 0)
        if kind == "replayed step":
            return Record("steps", partition, 0, b"", self.steps[where], 0)
        if kind == "another trainer's step":
            return Record("steps", partition, 0, b"", resigned("steps", self.steps[where], self.trainer), 0)
        event = self.events[where]
        assert isinstance(event, ProofAttached)
        if kind == "replayed proof":
            return Record("proofs", partition, 0, b"", self.case.insider.seal("proofs", event), 0)
        if "proof" in change:
            sound = self.case.sound
            change = change | {
                "proof": {
                    "twin": sound.twin_proof,
                    "hot": sound.hot_proofs[0],
                    "foreign": sound.foreign_proof,
                    "sgd": sound.sgd_proof,
                    "flipped": flipped(event.proof, 2000),
                    "empty": b"",
                    "long": event.proof + b"\0",
                }[change["proof"]]
            }
        return Record("proofs", partition, 0, b"", seal("proofs", replace(event, **change), self.key(signer)), 0)


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Case]:
    """New cases without end, all over one store of verdicts."""
    sound: SoundRun = request.getfixturevalue("sound_run")
    verdicts: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict] = request.getfixturevalue("verdicts")

    def new() -> Case:
        path: Path = tmp_path_factory.mktemp("case")
        return Case(sound, path, verdicts)

    return new


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    records=st.lists(st.tuples(hostile, st.integers(0, 3), st.integers(0, 17)), max_size=8),
    restart=st.integers(0, 30),
)
def test_no_prover_and_no_stranger_spoils_an_honest_run(
    made: Callable[[], Case], records: list[Any], restart: int
) -> None:
    case = made()
    hostile_ = Hostile(case)
    start = case.log.find("steps", RunStarted)
    inputs = case.log.records("steps") + [case.proofs()[slot] for slot in SLOTS]
    first = inputs.index(start) + 1
    for what, partition, at in sorted(records, key=lambda r: -r[2]):
        # A start is out before anyone else can say anything about its run.
        inputs.insert(max(at, first), hostile_.record(what, partition))
    for topic in ("steps", "proofs", "ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    case.anchor_path = case.folder / "its own anchor"
    case.log.append("steps", case.insider.introduce(Role.PROVER, hostile_.other))
    case.log.append("steps", case.insider.introduce(Role.TRAINER, hostile_.trainer))
    for number, record in enumerate(inputs):
        case.log.append(record.topic, record.value, partition=record.partition)
        if number == restart:
            case.run_ledger()
    case.run_ledger()
    for record, opened in case.log.opened("checkpoints"):
        assert isinstance(opened.event, CheckpointIssued)
        size = int(opened.event.note.split("\n")[1])
        case.anchor(record.value, case.leaves()[:size])
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert found.proven == STEPS
