"""A prover over a real log: what it cannot take becomes a dead letter, and the next witness is proven."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.options import Reporter
from consumers.prover.answered import Answered
from consumers.prover.outbox import Outbox
from consumers.prover.publisher import Publisher
from consumers.prover.worker import Worker
from consumers.steps_view import StepsView
from schemas.events import DeadLetter, ProofAttached, ProofClaimed, Role, RunStarted, WitnessShard
from schemas.signing import decode_unverified, seal
from schemas.topics import witness_partition
from schemas.wire import open_event_log
from tests.consumers.test_prover_check import Witness
from tests.support.forge import Case, LogFile, flipped, resigned
from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import Group
from zk_autograd.home import Home
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Limits
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import SigningKey, new_signing_key

OWN = witness_partition(2, 1, 2, 8)
"""Where the witness of step 2, shard 1 belongs."""


class Bench:
    """A log with the sound run's steps, no witness, and a prover that is driven by hand."""

    def __init__(self, case: Case, path: Path, stack: ExitStack) -> None:
        self.case, self.log, self._stack = case, LogFile(path), stack
        self._log = stack.enter_context(open_event_log(self.log.url))
        for record in case.log.records("steps"):
            self.log.append("steps", record.value, partition=record.partition)
        self.log.append("claims", case.insider.introduce(Role.PROVER, case.insider.key("claims"), topic="claims"))

    def worker(
        self, home: Home | None = None, limits: Limits | None = None, name: str = "b", group_name: str = "zk-prove",
        skip_foreign: bool = False, instead_of: tuple[bytes, ...] = (), key: SigningKey | None = None,
    ) -> tuple[Worker, Group]:  # fmt: skip
        """A prover under the home's key or another, with an outbox of its own."""
        sound = home or self.case.sound.home
        policy = self.case.sound.home.policy()
        view = StepsView(self._log, policy)
        self._stack.callback(view.close)
        circuits = CircuitStore(self.case.sound.home.path, policy.circuits)
        producer = self._stack.enter_context(self._log.producer(f"zk-prove-{name}"))
        group = self._stack.enter_context(self._log.group(group_name, ["witness"]))
        key = key or self.case.insider.key("proofs")
        answered = Answered(self._log, view)
        self._stack.callback(answered.close)
        partitions = self._log.partitions("witness")
        publisher = Publisher(self._log, policy, view, answered, self.outbox(name), producer, key, instead_of)
        self._stack.callback(publisher.close)
        worker = Worker(
            sound, circuits, view, answered, publisher, group, producer, key, limits or Limits(), partitions,
            Reporter(True), skip_foreign,
        )  # fmt: skip
        return worker, group

    def outbox(self, name: str) -> Outbox:
        """Where the prover of this name keeps what it has claimed."""
        return Outbox(self.log.path.with_name(f"claimed-{name}"))

    def run(self, worker: Worker, group: Group) -> None:
        while records := group.poll(timeout=0.1, max_records=1):
            worker.take(records[0])

    def letters(self) -> list[DeadLetter]:
        events = [o.event for _, o in self.log.opened("dead-letters")]
        return [e for e in events if isinstance(e, DeadLetter)]

    def claims(self) -> list[ProofClaimed]:
        events = [o.event for _, o in self.log.opened("claims")]
        return [e for e in events if isinstance(e, ProofClaimed)]

    def proofs(self) -> list[ProofAttached]:
        events = [o.event for _, o in self.log.opened("proofs")]
        return [e for e in events if isinstance(e, ProofAttached)]


@pytest.fixture
def bench(case: Case, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(case, tmp_path / "bench.db", stack)


@pytest.fixture
def witness(case: Case) -> Witness:
    return Witness(case.sound, 2, 1)


def poisons(case: Case, witness: Witness) -> dict[str, tuple[bytes, str]]:
    """By name: a record that cannot be proven, and what the prover says of it."""
    honest, trainer = witness.event, case.insider.key("steps")
    signed = seal("witness", honest, trainer)

    def by_trainer(event: WitnessShard) -> bytes:
        return seal("witness", event, trainer)

    return {
        "nothing": (b"", "single-object encoding"),
        "garbage": (b"\xff" * 300, "single-object encoding"),
        "a flipped byte in the signature": (flipped(signed, len(signed) - 1), "does not hold"),
        "a flipped byte in the ciphertext": (flipped(signed, 5000), "does not hold"),
        "a stranger's": (resigned("witness", signed, new_signing_key()), "known keys"),
        "a prover's": (resigned("witness", signed, case.insider.key("proofs")), "known keys"),
        "another run's": (by_trainer(witness.sealed(run_id=bytes(32))), "no such run has started"),
        "another circuit's": (by_trainer(witness.sealed(circuit_id=bytes(32))), "not one that the policy allows"),
        "moved to another shard": (by_trainer(replace(honest, shard=0)), "expected in partition 2"),
        "moved to another step": (by_trainer(replace(honest, step=3)), "expected in partition 5"),
        "with another ciphertext": (by_trainer(replace(honest, ciphertext=bytes(1000))), "does not open"),
        "a shard too many": (by_trainer(witness.sealed(shard=8 + 1)), "the run has 2 shards"),
        "too short inside": (by_trainer(witness.sealed(b"short")), "expected"),
        "other weights": (by_trainer(witness.with_state("w", 77)), "pre column"),
        "a moment outside the table": (by_trainer(witness.with_state("m", 1 << 40)), "leaves the look-up table"),
        "another state after": (by_trainer(witness.sealed(post=honest.pre)), "post column"),
        "no integers": (by_trainer(witness.sealed(public=())), "public integers"),
    }


def test_poison_becomes_dead_letters_and_the_next_witness_is_proven(bench: Bench, case: Case, witness: Witness) -> None:
    """All in one partition, so that any of them would hold the rest up; at the end the honest one is played again."""
    other = new_signing_key()
    bench.log.append("steps", case.insider.introduce(Role.TRAINER, other))
    honest = seal("witness", witness.event, case.insider.key("steps"))
    bad = poisons(case, witness) | {
        "another trainer's": (resigned("witness", honest, other), "another key than the run's start"),
    }
    bench.log.append("witness", *(value for value, _ in bad.values()), honest, honest, honest, partition=OWN)

    worker, group = bench.worker()
    bench.run(worker, group)

    letters = bench.letters()
    assert [e.offset for e in letters] == list(range(len(bad)))
    for letter, (name, (_, reason)) in zip(letters, bad.items(), strict=True):
        assert reason in letter.reason, f"{name}: {letter.reason}"
        assert (letter.source_topic, letter.role, letter.value) == ("witness", "prover", b"")
    (proof,) = bench.proofs()
    assert (proof.step, proof.shard, proof.run_id) == (2, 1, case.run_id)
    (record,) = bench.log.records("proofs")
    assert record.key == case.run_id, "a proof goes where its run is, whatever key the witness came under"
    assert worker.proven == 1, "a witness that is played again costs no second proof"
    with proof_system(case.sound.circuit.system).verifier(case.sound.circuit) as verifier:
        found = verifier.verify(proof.proof, witness.event.public)
    assert (found.pre, found.post, found.work) == (witness.event.pre, witness.event.post, witness.event.work)

    # Everything is committed: nobody meets any of it again, not even who joins later.
    again, group = bench.worker(name="later")
    bench.run(again, group)
    assert len(bench.letters()) == len(bad)
    assert len(bench.proofs()) == 1


def test_a_prover_that_cannot_prove_the_first_ends_and_leaves_it_to_others(
    bench: Bench, case: Case, witness: Witness
) -> None:
    """Its limits are too tight: that is no fault of the message."""
    bench.log.append("witness", seal("witness", witness.event, case.insider.key("steps")), partition=OWN)
    hasty, group = bench.worker(limits=Limits(seconds=0.3))
    with pytest.raises(UsageError, match=r"nothing was consumed: .*took longer than the limit"):
        bench.run(hasty, group)
    assert (bench.letters(), bench.proofs()) == ([], [])
    group.close()
    patient, group = bench.worker(name="patient")
    bench.run(patient, group)
    assert patient.proven == 1


@pytest.mark.parametrize("lacking", ["data key", "circuit"])
def test_a_prover_that_lacks_something_ends_and_says_what(
    bench: Bench, case: Case, witness: Witness, tmp_path: Path, lacking: str
) -> None:
    start = decode_unverified("steps", case.log.find("steps", RunStarted).value).event
    assert isinstance(start, RunStarted)
    bench.log.append("witness", seal("witness", witness.event, case.insider.key("steps")), partition=OWN)
    worker, group = bench.worker(home=Home(tmp_path / "another home") if lacking == "data key" else None)
    if lacking == "circuit":
        worker.circuits = CircuitStore(tmp_path / "another home", None)
    named = start.data_key_id.hex()[:16] if lacking == "data key" else start.circuit_id.hex()
    with pytest.raises(UsageError, match=named):
        bench.run(worker, group)
    assert bench.letters() == []
    group.rewind()
    worker.skip_foreign = True
    bench.run(worker, group)
    (letter,) = bench.letters()
    assert named in letter.reason


def test_no_witness_is_proven_twice_whatever_the_group_or_partition(bench: Bench, case: Case, witness: Witness) -> None:
    """A second proof opens the same columns at further points, which their salt does not cover."""
    honest = seal("witness", witness.event, case.insider.key("steps"))
    bench.log.append("witness", honest, partition=OWN)
    worker, group = bench.worker()
    bench.run(worker, group)
    assert worker.proven == 1
    for partition in range(8):
        bench.log.append("witness", honest, partition=partition)
    for name in ("zk-prove", "rescue"):
        again, group = bench.worker(name=f"in-{name}", group_name=name)
        bench.run(again, group)
        assert again.proven == 0
    assert len(bench.proofs()) == 1
    assert all("a copy" in letter.reason for letter in bench.letters())


def test_before_the_first_proof_a_copy_in_another_partition_is_refused(
    bench: Bench, case: Case, witness: Witness
) -> None:
    """Two provers would otherwise prove it at the same time, and neither could know."""
    honest = seal("witness", witness.event, case.insider.key("steps"))
    bench.log.append("witness", honest, partition=OWN - 1)
    worker, group = bench.worker()
    bench.run(worker, group)
    (letter,) = bench.letters()
    assert f"expected in partition {OWN}, got it in {OWN - 1}" in letter.reason


def test_a_key_that_is_introduced_later_is_known_by_then(bench: Bench, case: Case, witness: Witness) -> None:
    """The view of the steps is read on when a witness names what it does not know yet."""
    worker, group = bench.worker()
    worker.view.refresh()
    story = case.story()
    story.edit(RunStarted, name="a later run")
    told, ids = story.linked()
    bench.log.append("steps", case.insider.seal("steps", told[0]))
    late = seal("witness", witness.sealed(run_id=ids[0], shard=7), case.insider.key("steps"))
    bench.log.append("witness", late, partition=witness_partition(2, 7, 2, 8))
    bench.run(worker, group)
    (letter,) = bench.letters()
    assert "the run has 2 shards" in letter.reason
