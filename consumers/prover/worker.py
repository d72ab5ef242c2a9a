"""Takes witnesses from the consumer group, proves them, and publishes each proof together with its offset."""

from __future__ import annotations

import time
from dataclasses import dataclass

from consumers.dead_letters import dead_letter
from consumers.options import Reporter
from consumers.prover.check import check_witness
from consumers.steps_view import StepsView
from schemas.events import ProofAttached, Role, RunStarted, WitnessShard
from schemas.signing import Opened, seal
from zk_autograd.errors import EventLogError, ProofSystemError, UsageError, ZkAutogradError
from zk_autograd.eventlog.base import Group, PartitionLostError, Producer, Record
from zk_autograd.home import Home
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Committer, Limits
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import SigningKey, load_data_key

ATTEMPTS = 2
"""How often a proof is tried before its witness goes to the dead letters."""


@dataclass
class Worker:
    """One prover. ``take`` handles one record completely: proof or dead letter, and offset, in one transaction."""

    home: Home
    circuits: CircuitStore
    view: StepsView
    group: Group
    producer: Producer
    key: SigningKey
    limits: Limits
    report: Reporter

    def __post_init__(self) -> None:
        self._committers: dict[bytes, Committer] = {}
        self._answered: set[bytes] = set()  # witnesses whose proof is published, by event id
        self.proven = 0

    def take(self, record: Record) -> None:
        """Proves one record, or publishes why not.

        Raises:
            EventLogError: the log is gone; nothing was lost, the record will be delivered again.
        """
        out: list[tuple[str, bytes, bytes]] = []
        answered: set[bytes] = set()
        try:
            opened, start = self._open(record)
            # Who may write to the topic can play a witness again: that must not cost a proof each time.
            if opened.event_id not in self._answered:
                out.append(("proofs", opened.event.run_id, self._prove(opened.event, start)))
                answered.add(opened.event_id)
        except EventLogError:
            raise
        except ZkAutogradError as error:
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
            return
        self._answered |= answered

    def _open(self, record: Record) -> tuple[Opened[WitnessShard], RunStarted]:
        """The witness, signed by its run's own key, and the run's start."""
        opened: Opened[WitnessShard] = self.view.open("witness", record.value)  # type: ignore[assignment]
        run_id = opened.event.run_id
        if run_id not in self.view.runs:
            self.view.refresh()
        if run_id not in self.view.runs:
            raise UsageError(f"witness of run {run_id.hex()[:12]}: no such run has started")
        start = self.view.runs[run_id]
        if start.key_id != opened.key_id:
            raise UsageError(f"witness of run {run_id.hex()[:12]}: signed by another key than the run's start")
        return opened, start.event

    def _prove(self, event: WitnessShard, start: RunStarted) -> bytes:
        circuit = self.circuits(event.circuit_id)
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
    )  # fmt: skip
