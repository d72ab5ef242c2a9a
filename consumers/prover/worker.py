"""Takes witnesses from the consumer group, proves them, and publishes each proof together with its offset.

What is wrong with a message goes to the dead letters, and its offset with it. What is wrong here (a circuit or key that
is missing, a limit too tight) ends the prover and consumes nothing: another one can still do the work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from consumers.dead_letters import dead_letter
from consumers.options import Reporter
from consumers.prover.answered import Answered
from consumers.prover.check import check_witness
from consumers.steps_view import StepsView
from schemas.events import ProofAttached, Role, RunStarted, WitnessShard
from schemas.signing import Opened, seal
from schemas.topics import witness_partition
from zk_autograd.errors import EventLogError, ProofSystemError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.eventlog.base import Group, PartitionLostError, Producer, Record
from zk_autograd.home import Home
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Committer, Limits
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import SigningKey, load_data_key

ATTEMPTS = 2
"""How often a proof is tried."""


@dataclass
class Worker:
    """One prover. ``take`` handles one record completely: proof or dead letter, and offset, in one transaction.

    Attributes:
        partitions: of the topic ``witness``.
        skip_foreign: whether witnesses for which the circuit or the data key is not here are passed over.
    """

    home: Home
    circuits: CircuitStore
    view: StepsView
    answered: Answered
    group: Group
    producer: Producer
    key: SigningKey
    limits: Limits
    partitions: int
    report: Reporter
    skip_foreign: bool = False

    def __post_init__(self) -> None:
        self._committers: dict[bytes, Committer] = {}
        self.proven = 0

    def take(self, record: Record) -> None:
        """Proves one record, or publishes why not.

        Raises:
            EventLogError: the log is gone; nothing was lost, the record will be delivered again.
            UsageError: this prover cannot do it, and says why; the record is left to others.
        """
        out: list[tuple[str, bytes, bytes]] = []
        try:
            opened, start = self._open(record)
            # A prover that is restarted, or a witness that is played again, must not make a second proof of one
            # witness: it would cost time, and open the same columns at further points.
            if not self.answered.has(opened.event.run_id, opened.event.step, opened.event.shard):
                out.append(("proofs", opened.event.run_id, self._prove(opened.event, start)))
        except EventLogError:
            raise
        except ZkAutogradError as error:
            if isinstance(error, UsageError) and not self.skip_foreign:
                raise
            if isinstance(error, ProofSystemError) and not self.proven:
                # None has succeeded yet: it is more likely this machine than this message.
                raise UsageError(f"the first proof failed, nothing was consumed: {error}") from None
            self.report(
                f"refused {record.topic}/{record.partition}@{record.offset}: {error}",
                refused=True,
                offset=record.offset,
            )
            letter = dead_letter(record, Role.PROVER, error, self.key)
            out.append(("dead-letters", record.topic.encode(), letter))
        try:
            with self.producer.transaction() as transaction:
                for topic, key, value in out:
                    transaction.send(topic, key, value)
                transaction.consumed(self.group, [record])
        except PartitionLostError as error:
            # The group gave the partition to another prover meanwhile; it will prove the record, we drop our work.
            self.report(f"lost {record.topic}/{record.partition}: {error}", lost=True, offset=record.offset)
            self.group.rewind()

    def _open(self, record: Record) -> tuple[Opened[WitnessShard], RunStarted]:
        """The witness, signed by its run's own key, in its own partition, and the run's start."""
        opened: Opened[WitnessShard] = self.view.open("witness", record.value)  # type: ignore[assignment]
        event, where = opened.event, f"witness of run {opened.event.run_id.hex()[:12]}"
        if event.run_id not in self.view.runs:
            self.view.refresh()
        if event.run_id not in self.view.runs:
            raise VerificationError(f"{where}: no such run has started")
        start = self.view.runs[event.run_id]
        if start.key_id != opened.key_id:
            raise VerificationError(f"{where}: signed by another key than the run's start")
        expected = witness_partition(event.step, event.shard, start.event.shards, self.partitions)
        if record.partition != expected:
            raise VerificationError(
                f"{where}, step {event.step}, shard {event.shard}: expected in partition {expected}, "
                f"got it in {record.partition}: a copy"
            )
        return opened, start.event

    def _circuit(self, circuit_id: bytes) -> Circuit:
        if not self.circuits.allows(circuit_id):
            raise VerificationError(f"circuit {circuit_id.hex()}: not one that the policy allows (circuits)")
        try:
            return self.circuits(circuit_id)
        except VerificationError as error:  # our own copy of it
            raise UsageError(str(error)) from None

    def _prove(self, event: WitnessShard, start: RunStarted) -> bytes:
        circuit = self._circuit(event.circuit_id)
        data_key = load_data_key(self.home.data_keys, start.data_key_id)
        columns = check_witness(event, start, circuit, self._committer(circuit), data_key)
        self.group.keepalive()
        began = time.monotonic()
        with self.report.busy(f"proving step {event.step} shard {event.shard}"):
            proof = self._attempt(circuit, columns)
        seconds = time.monotonic() - began
        self.proven += 1
        self.report(
            f"proved run {event.run_id.hex()[:12]} step {event.step} shard {event.shard} in {seconds:.1f} s "
            f"({circuit.shard / seconds:.0f} parameters/s)",
            run_id=event.run_id.hex(), step=event.step, shard=event.shard, seconds=seconds,
        )  # fmt: skip
        return seal("proofs", _attached(event, circuit, proof), self.key)

    def _attempt(self, circuit: Circuit, columns: object) -> bytes:
        system = proof_system(circuit.system)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return system.prove(circuit, columns, self.limits, self.group.keepalive)  # type: ignore[arg-type]
            except ProofSystemError as error:
                if attempt == ATTEMPTS:
                    raise
                self.report(f"attempt {attempt} failed, trying again: {error}", attempt=attempt)
        raise AssertionError("unreachable")

    def _committer(self, circuit: Circuit) -> Committer:
        if circuit.id not in self._committers:
            self._committers[circuit.id] = proof_system(circuit.system).committer(circuit)
        return self._committers[circuit.id]


def _attached(event: WitnessShard, circuit: Circuit, proof: bytes) -> ProofAttached:
    return ProofAttached(
        run_id=event.run_id, step=event.step, shard=event.shard, proof_system=circuit.system, circuit_id=circuit.id,
        proof=proof, pre_path=event.pre_path, post_path=event.post_path, work_path=event.work_path,
        carry_in_path=event.carry_in_path, carry_out_path=event.carry_out_path,
    )  # fmt: skip
