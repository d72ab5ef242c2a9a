"""Takes witnesses from the consumer group, proves them, and publishes each proof together with its offset.

What is wrong with a message goes to the dead letters, and its offset with it. What is wrong here (a circuit or key that
is missing, a limit too tight) ends the prover and consumes nothing: another one can still do the work.

A sampled run's witness is proven if its shard is drawn, and only consumed if it is not. While nobody knows, it is held,
and its partition with it: the others go on, since what it waits for may be a proof of one of theirs. In the same way a
witness is held whose proof another prover has claimed (:mod:`.publisher`), until that proof is there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from consumers.dead_letters import dead_letter
from consumers.options import Reporter
from consumers.prover.answered import Answered
from consumers.prover.check import public_of
from consumers.prover.claims import Claim, ClaimedError, Turn
from consumers.prover.draws import Draws
from consumers.prover.opening import open_witness
from consumers.prover.proving import Proving
from consumers.prover.publisher import Publisher
from consumers.steps_view import StepsView
from ledger.chain import RunChain
from schemas.events import Role, RunStarted, WitnessShard
from schemas.signing import Opened
from zk_autograd.errors import (
    EventLogError,
    ProofSystemError,
    StorageError,
    UsageError,
    VerificationError,
    ZkAutogradError,
)
from zk_autograd.eventlog.base import Group, PartitionLostError, Producer, Record, TopicPartition
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit, Limits
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import SigningKey, load_data_key

BATCH = 64
"""Of so many witnesses that are not drawn the offsets are committed at once, at most."""

DRAW_LIMIT = 3600.0
"""Seconds without news of a sampled run after which its witnesses no longer keep others waiting."""

CLAIM_LIMIT = 300.0
"""Seconds after which a claimed proof that has not come no longer keeps others waiting: its prover has died."""


@dataclass(frozen=True)
class Held:
    """A witness that waits for its draw, or since a point in time for proofs that others have claimed; opened.

    ``claim`` is the one that stood last. It may change for as long as somebody claims what is no proof.
    """

    record: Record
    opened: Opened[WitnessShard]
    start: RunStarted
    claim: Claim | None = None
    since: float = 0.0


@dataclass
class Worker:
    """One prover. ``take`` handles one record completely: proof or dead letter, and offset, in one transaction.

    Attributes:
        partitions: of the topic ``witness``.
        skip_foreign: whether witnesses for which the circuit or the data key is not here are passed over.
        draws: what is drawn of sampled runs; None refuses their witnesses.
        draw_limit: seconds that a sampled run may go without news before its witnesses are given up.
        claim_limit: seconds that a claimed proof may take to be there before its witness is given up.
        held: the witnesses that wait, the first of each partition.
    """

    home: Home
    circuits: CircuitStore
    view: StepsView
    answered: Answered
    publisher: Publisher
    group: Group
    producer: Producer
    key: SigningKey
    limits: Limits
    partitions: int
    report: Reporter
    skip_foreign: bool = False
    draws: Draws | None = None
    draw_limit: float = DRAW_LIMIT
    claim_limit: float = CLAIM_LIMIT
    held: dict[TopicPartition, Held] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._proving = Proving(self.limits, self.group.keepalive, self.key, self.report)
        self._runs: set[bytes] = set()  # of which the start has been checked
        # By run: since when there is no news of its draws, and how much there was.
        self._waiting: dict[bytes, tuple[float, int]] = {}
        self._passed: list[Record] = []  # not drawn, and not yet consumed; without their values

    @property
    def proven(self) -> int:
        """How many proofs it has made."""
        return self._proving.made

    def run_once(self, timeout: float) -> int:
        """Takes what it can of the records held, and the next one of other partitions; returns how many it took.

        Raises:
            EventLogError, UsageError: as :meth:`take`.
        """
        taken = 0
        if self.held and self.draws is not None:
            self.draws.refresh()
        for place, each in list(self.held.items()):
            taken += self.held.get(place) is each and self._take(each.record, each)
        for record in self.group.poll(timeout=0.0 if taken else timeout, max_records=1, paused=self.held.keys()):
            if (record.topic, record.partition) in self.held:
                # The partition was away and came back meanwhile: everything again, from what is committed.
                self._start_again()
                break
            taken += self.take(record)
        if not taken and self._passed:
            self._commit([])
        return taken

    def take(self, record: Record) -> bool:
        """Proves one record, or publishes why not; False if it has to wait, and is held.

        Raises:
            EventLogError: the log is gone; nothing was lost, the record will be delivered again.
            UsageError: this prover cannot do it, and says why; the record is left to others.
        """
        return self._take(record, None)

    def _take(self, record: Record, held: Held | None) -> bool:
        out: list[tuple[str, bytes, bytes]] = []
        answer = None
        try:
            if held:
                opened, start = held.opened, held.start
            else:
                opened, started = open_witness(record, self.view, self.partitions)
                self._check_start(started)
                start = started.event
            # A prover that is restarted, or a witness that is played again, must not make a second proof of one
            # witness: it would cost time, and open the same columns at further points.
            drawn = self._drawn(opened, start)
            if drawn is None:
                self.held[record.topic, record.partition] = held or Held(record, opened, start)
                return False
            if not drawn:
                self.held.pop((record.topic, record.partition), None)
                self._passed.append(replace(record, value=b""))
                if len(self._passed) >= BATCH:
                    self._commit([])
                return True
            try:
                answer = self._answer(opened.event, start)
            except ClaimedError as claimed:
                now = time.monotonic()
                since = held.since if held and held.claim else now
                if held and held.claim and now - since >= self.claim_limit:
                    raise VerificationError(claimed.advice(now - since)) from None
                if held is None or held.claim != claimed.claim:
                    self.report(f"waiting for {claimed}", run_id=opened.event.run_id.hex(), waiting=True)
                self.held[record.topic, record.partition] = Held(record, opened, start, claimed.claim, since)
                return False
        except (EventLogError, StorageError):
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
        self.held.pop((record.topic, record.partition), None)
        self._passed.append(record)
        if answer is None:
            self._commit(out)
        elif self._commit([("proofs", answer[0].run_id, answer[1])]):
            self.publisher.published(answer[0])
        else:
            # Its claim stands: no other prover may publish another.
            self.publisher.publish(*answer)
        return True

    def _answer(self, event: WitnessShard, start: RunStarted) -> tuple[Turn, bytes] | None:
        """The proof to publish, which is claimed; None if the witness has one.

        Raises:
            ClaimedError: another one is claimed.
        """
        if self._proven(event, start):
            return None
        circuit, public = self._circuit(event.circuit_id), self._public(event, start)
        data_key = load_data_key(self.home.data_keys, start.data_key_id)
        turn, proof = self.publisher.turn(event, circuit, public, data_key)
        if proof is None:
            proof = self._prove(event, start)
            # Another group's prover may have been faster: a proof that nobody sees reveals nothing.
            if self._proven(event, start):
                self._thrown_away(event, "another is published")
                return None
        try:
            return turn, self.publisher.claim(turn, proof, data_key)
        except ClaimedError as claimed:
            self._thrown_away(event, f"prover {claimed.claim.key_id.hex()[:12]} had claimed one first")
            raise

    def _thrown_away(self, event: WitnessShard, why: str) -> None:
        self.report(
            f"run {event.run_id.hex()[:12]} step {event.step} shard {event.shard}: thrown away unseen, {why}",
            run_id=event.run_id.hex(), step=event.step, shard=event.shard, thrown_away=True,
        )  # fmt: skip

    def _commit(self, out: list[tuple[str, bytes, bytes]]) -> bool:
        """Publishes what came of the last record, and consumes it with those that were passed over before.

        Nothing of it is done, and False returned, if the group has given one of their partitions to another prover.
        """
        passed, self._passed = self._passed, []
        last = passed[-1]
        try:
            with self.producer.transaction() as transaction:
                for topic, key, value in out:
                    transaction.send(topic, key, value)
                transaction.consumed(self.group, passed)
        except PartitionLostError as error:
            self.report(f"lost {last.topic}/{last.partition}: {error}", lost=True, offset=last.offset)
            self._start_again()
            return False
        return True

    def _start_again(self) -> None:
        """From the committed offsets: what is held will be delivered again, to whom its partition belongs now."""
        self.held.clear()
        self._passed.clear()
        self.group.rewind()

    def _drawn(self, opened: Opened[WitnessShard], start: RunStarted) -> bool | None:
        """Whether the witness is to be proven; None if that is not known yet.

        Raises:
            VerificationError: the run's beacon may not draw, or the run has come to a halt.
        """
        event = opened.event
        if not start.sampled:
            return True
        where = f"witness of run {event.run_id.hex()[:12]}, step {event.step}, shard {event.shard}"
        if self.draws is None:
            raise VerificationError(f"{where}: this prover takes no sampled runs")
        draw = self.draws.of(event.run_id, start, event.step)
        if draw is None and not self.held:  # else they were read on a moment ago
            self.draws.refresh()
            draw = self.draws.of(event.run_id, start, event.step)
        if draw is not None:
            return event.shard in draw
        # A run that gets on, by a proof or an entry, is waited for. One that cannot must not hold others up for ever.
        news = self.draws.entries[event.run_id] + self.answered.count(event.run_id)
        if event.run_id not in self._waiting:
            self.report(
                f"run {event.run_id.hex()[:12]} waits: its beacon {start.beacon[:80]} has to draw step {event.step}, "
                "once zk-ledger has recorded it and the zk-anchor with that identity has anchored that. Until then its "
                f"partitions wait, with other runs' witnesses in them, at most {self.draw_limit:.0f} s (--draw-limit)",
                run_id=event.run_id.hex(), step=event.step, waiting=True,
            )  # fmt: skip
        since, seen = self._waiting.get(event.run_id, (time.monotonic(), -1))
        if news != seen:
            since = time.monotonic()
        self._waiting[event.run_id] = since, news
        if (waited := time.monotonic() - since) >= self.draw_limit:
            raise VerificationError(
                f"{where}: not drawn, and nothing new of its run for {waited:.0f} s: do zk-ledger and zk-anchor run? "
                "Others have to go on; prove it later under another --group"
            )
        return None

    def _check_start(self, start: Opened[RunStarted]) -> None:
        """As the ledger does: a run that it has refused gets no entry and no draw, and must not be waited for."""
        if start.event_id not in self._runs:
            RunChain(start, self._circuit(start.event.circuit_id))
            self._runs.add(start.event_id)

    def _proven(self, event: WitnessShard, start: RunStarted) -> bool:
        if not self.answered.has(event.run_id, event.step, event.shard):
            return False
        return self.answered.proven(event, self._circuit(event.circuit_id), self._public(event, start))

    def _public(self, event: WitnessShard, start: RunStarted) -> tuple[int, ...]:
        st = self._circuit(event.circuit_id).statement
        public = public_of(event, start, st)
        return tuple(public[name] for name in st.inputs)

    def _circuit(self, circuit_id: bytes) -> Circuit:
        if not self.circuits.allows(circuit_id):
            raise VerificationError(
                f"circuit {circuit_id.hex()}: not one that the policy allows (circuits; it is read once, at the start)"
            )
        try:
            return self.circuits(circuit_id)
        except VerificationError as error:  # our own copy of it
            raise UsageError(str(error)) from None

    def _prove(self, event: WitnessShard, start: RunStarted) -> bytes:
        data_key = load_data_key(self.home.data_keys, start.data_key_id)
        return self._proving.prove(event, start, self._circuit(event.circuit_id), data_key)
