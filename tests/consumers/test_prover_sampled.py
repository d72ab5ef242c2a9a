"""A prover of sampled runs: it proves what is drawn, waits for what is not drawn yet, and holds nobody else up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import pytest

from consumers.options import Reporter
from consumers.prover.answered import Answered
from consumers.prover.draws import Draws
from consumers.prover.outbox import Outbox
from consumers.prover.publisher import Publisher
from consumers.prover.worker import Worker
from consumers.steps_view import StepsView
from ledger.chain import MAX_SAMPLED
from ledger.sampling import Beacon
from schemas.events import Anchored, DeadLetter, ProofAttached, RunStarted
from schemas.signing import seal
from schemas.topics import witness_partition
from schemas.wire import open_event_log
from tests.support.broker import SESSION_TIMEOUT, unique_prefix
from tests.support.events import digest, sample
from tests.support.forge import Case, resigned
from tests.support.sampled import COUNT, SHARDS, STEPS, Teller
from zk_autograd.eventlog.base import EventLog, Reader, Record
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Limits
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import new_signing_key


class Bench:
    """Provers over a copy of the sampled run. Its drawn shards are proven already, so that no proof is made here."""

    def __init__(self, case: Case, log: EventLog, stack: ExitStack) -> None:
        self.case, self.log, self._stack = case, log, stack

    def worker(
        self, group: str = "again", policy: Policy | None = None, draw_limit: float = 3600, name: str = "first"
    ) -> Worker:
        home = self.case.sound.home
        chosen = policy or home.policy()
        view = StepsView(self.log, chosen)
        view.refresh()
        answered, draws = Answered(self.log, view), Draws(self.log, view, chosen, Reporter(True))
        producer = self._stack.enter_context(self.log.producer(f"prover-{group}-{name}"))
        key, outbox = self.case.insider.key("proofs"), Outbox(self.case.log.path.with_name("claimed"))
        publisher = Publisher(self.log, chosen, view, answered, outbox, producer, key)
        for each in (view, answered, draws, publisher):
            self._stack.callback(each.close)
        return Worker(
            home, CircuitStore(home.path, chosen.circuits), view, answered, publisher,
            self._stack.enter_context(self.log.group(group, ["witness"])), producer, key, Limits(),
            self.log.partitions("witness"), Reporter(True),
            draws=draws, draw_limit=draw_limit,
        )  # fmt: skip

    def run(self, worker: Worker, rounds: int = 40) -> int:
        return sum(worker.run_once(timeout=0.0) for _ in range(rounds))

    def letters(self) -> list[str]:
        return [o.event.reason for _, o in self.case.log.opened("dead-letters") if isinstance(o.event, DeadLetter)]


@pytest.fixture
def bench(sampled_case: Case) -> Iterator[Bench]:
    with ExitStack() as stack:
        log = stack.enter_context(open_event_log(sampled_case.log.url))
        yield Bench(sampled_case, log, stack)


def proofs(case: Case) -> list[ProofAttached]:
    return [o.event for _, o in case.log.opened("proofs") if isinstance(o.event, ProofAttached)]


def without(case: Case, topic: str) -> list[Record]:
    """Takes a topic's records away, to be given back later."""
    records = case.log.records(topic)
    case.log.clear(topic)
    return records


def test_what_is_not_drawn_is_consumed_without_a_proof_and_without_a_word(bench: Bench) -> None:
    worker = bench.worker()
    assert bench.run(worker) == STEPS * SHARDS
    assert (worker.proven, worker.held, bench.letters()) == (0, {}, [])
    assert len(proofs(bench.case)) == STEPS * COUNT
    worker.group.close()
    with bench.log.group("again", ["witness"]) as group:
        assert group.poll(timeout=0.2, max_records=10) == []


def test_only_drawn_shards_would_be_proven(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is answered now; what the prover then sets out to prove is what was drawn."""
    begun: list[tuple[int, int]] = []
    drawn = sorted((p.step, p.shard) for p in proofs(bench.case))
    told = Teller(bench.case)
    without(bench.case, "proofs")
    introduction, *_ = without(bench.case, "claims")
    bench.case.log.append("claims", introduction.value)

    def prove(self: Worker, event: object, start: object) -> bytes:
        begun.append((event.step, event.shard))  # type: ignore[attr-defined]
        return bench.case.insider.seal("proofs", told.proofs[event.step])  # type: ignore[attr-defined]

    monkeypatch.setattr(Worker, "_prove", prove)
    assert bench.run(bench.worker()) == STEPS * SHARDS
    assert sorted(begun) == drawn


def test_a_prover_waits_for_the_receipt_and_then_goes_on(bench: Bench) -> None:
    receipts = without(bench.case, "anchors")
    worker = bench.worker()
    assert bench.run(worker) == 0
    assert len(worker.held) == 8, "the first witness of every partition"
    assert bench.letters() == []
    # The first receipt draws steps 1 and 2; step 3 was recorded after it, and waits in the partitions that are next.
    bench.case.log.append("anchors", receipts[0].value)
    assert bench.run(worker) == 2 * SHARDS
    assert len(worker.held) == SHARDS
    bench.case.log.append("anchors", receipts[1].value)
    assert bench.run(worker) == SHARDS
    assert (worker.held, bench.letters()) == ({}, [])


def test_what_waits_is_not_consumed_and_goes_to_the_next_prover(bench: Bench) -> None:
    receipts = without(bench.case, "anchors")
    first = bench.worker()
    assert bench.run(first) == 0
    first.group.close()
    bench.case.log.append("anchors", *(r.value for r in receipts))
    assert bench.run(bench.worker()) == STEPS * SHARDS


def test_a_run_that_waits_holds_no_other_run_up(bench: Bench) -> None:
    """Behind the first witness of a partition others wait; those of other partitions go on."""
    # In partition 6 stands what is no witness at all, in the others what waits.
    receipts = without(bench.case, "anchors")
    worker = bench.worker()
    at_six = next(r for r in bench.case.log.records("witness") if r.partition == 6)
    bench.case.log.replace(at_six, b"garbage")
    assert bench.run(worker) == 1
    assert len(bench.letters()) == 1
    assert len(worker.held) == 7
    bench.case.log.append("witness", b"more garbage", partition=6)
    bench.case.log.append("witness", b"more garbage", partition=7)
    assert bench.run(worker) == 1, "what is behind a witness that waits, waits"
    bench.case.log.append("anchors", *(r.value for r in receipts))
    bench.run(worker)
    assert worker.held == {}
    assert len(bench.letters()) == 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The prover's clock, which a test sets."""
    now = SimpleNamespace(seconds=0.0)
    now.monotonic = lambda: now.seconds
    monkeypatch.setattr("consumers.prover.worker.time", now)
    return now


def test_a_run_that_has_come_to_a_halt_is_given_up_for_the_others(bench: Bench, clock: SimpleNamespace) -> None:
    """Its ledger or beacon is gone, or its drawn shard cannot be proven: nobody waits for ever."""
    without(bench.case, "anchors")
    worker = bench.worker(draw_limit=100)
    assert bench.run(worker, rounds=10) == 0
    clock.seconds += 99
    assert bench.run(worker, rounds=10) == 0
    clock.seconds += 1
    assert bench.run(worker) == STEPS * SHARDS
    assert all("not drawn, and nothing new of its run" in reason for reason in bench.letters())
    assert len(bench.letters()) == STEPS * SHARDS


def test_a_run_that_gets_on_is_waited_for(bench: Bench, clock: SimpleNamespace) -> None:
    """Every entry and every proof of the run begins the wait anew."""
    without(bench.case, "anchors")
    worker, told = bench.worker(draw_limit=100), Teller(bench.case)
    for shard in range(4):
        assert bench.run(worker, rounds=10) == 0
        clock.seconds += 60
        # A proof of a slot that is not there yet, by a prover: whether it holds is for the ledger.
        another = replace(told.proofs[3], shard=shard, proof=bytes([shard]))
        bench.case.log.append("proofs", bench.case.insider.seal("proofs", another))
    assert bench.letters() == []


def test_a_receipt_by_a_stranger_draws_nothing(bench: Bench) -> None:
    receipts = without(bench.case, "anchors")
    stranger = new_signing_key()
    bench.case.log.append("anchors", *(resigned("anchors", r.value, stranger) for r in receipts), b"garbage")
    worker = bench.worker()
    assert bench.run(worker) == 0
    assert len(worker.held) == 8


def test_receipts_after_a_hidden_one_draw_nothing(bench: Bench) -> None:
    receipts = without(bench.case, "anchors")
    bench.case.log.append("anchors", *(r.value for r in receipts[1:]))
    assert bench.run(bench.worker()) == 0


def test_a_receipt_that_is_not_of_this_log_draws_nothing(bench: Bench) -> None:
    """The beacon was raised for another log: its size would cover the records, its root does not."""
    told = Teller(bench.case)
    ((record, first),) = [(r, o.event) for r, o in bench.case.log.opened("anchors")][:1]
    assert isinstance(first, Anchored)
    without(bench.case, "anchors")
    told.open().record(1).add(*told.entries[:1])
    told.anchor()
    other = told.receipts[0]
    event = replace(first, counter=1, size=other.size, root=other.root, receipt=other.encode())
    bench.case.log.append("anchors", bench.case.insider.seal("anchors", event))
    assert record.topic == "anchors"
    assert bench.run(bench.worker()) == 0


def test_a_ledger_that_the_policy_does_not_name_records_nothing(bench: Bench) -> None:
    home = bench.case.sound.home
    policy = replace(home.policy(), ledger_keys=frozenset({new_signing_key().public_key}))
    assert bench.run(bench.worker(policy=policy)) == 0
    pinned = replace(home.policy(), ledger_keys=frozenset({bench.case.insider.key("ledger").public_key}))
    assert bench.run(bench.worker("pinned", policy=pinned)) == STEPS * SHARDS


def test_a_beacon_that_the_policy_does_not_name_is_refused(bench: Bench) -> None:
    policy = replace(bench.case.sound.home.policy(), anchors={"file:" + "0" * 64: ""})
    assert bench.run(bench.worker(policy=policy)) == STEPS * SHARDS
    assert all("not one that the policy allows (anchors)" in reason for reason in bench.letters())


def test_a_partition_that_goes_to_another_prover_goes_with_what_waits_in_it(bench: Bench) -> None:
    """Two share the work while everything waits; each witness is consumed once."""
    receipts = without(bench.case, "anchors")
    first = bench.worker()
    bench.run(first)
    assert len(first.held) == 8
    second = bench.worker(name="second")
    for _ in range(10):
        first.run_once(timeout=0.0)
        second.run_once(timeout=0.0)
    bench.case.log.append("anchors", *(r.value for r in receipts))
    taken = 0
    for _ in range(60):
        taken += first.run_once(timeout=0.0) + second.run_once(timeout=0.0)
    assert first.held == second.held == {}
    assert taken >= STEPS * SHARDS
    assert bench.letters() == []
    first.group.close()
    second.group.close()
    with bench.log.group("again", ["witness"]) as group:
        assert group.poll(timeout=0.2, max_records=10) == []


@pytest.mark.kafka
def test_on_kafka_a_prover_waits_for_the_receipt_too(sampled_case: Case, kafka_broker: str) -> None:
    """The same over a broker, whose client pauses partitions in its own way."""
    url = f"kafka://{kafka_broker}?topic_prefix={unique_prefix('sampled')}&session_timeout={SESSION_TIMEOUT}"
    with ExitStack() as stack:
        log = stack.enter_context(open_event_log(url))
        producer = stack.enter_context(log.producer("copy"))

        def copy(*topics: str) -> None:
            with producer.transaction() as transaction:
                for topic in topics:
                    for record in sampled_case.log.records(topic):
                        transaction.send(topic, b"", record.value, record.partition)

        copy("steps", "claims", "witness", "proofs", "ledger", "checkpoints")
        bench = Bench(sampled_case, log, stack)
        worker = bench.worker()
        deadline = time.monotonic() + 60
        while len(worker.held) < 8 and time.monotonic() < deadline:
            assert worker.run_once(timeout=0.2) == 0
        assert len(worker.held) == 8
        copy("anchors")
        taken = 0
        while taken < STEPS * SHARDS and time.monotonic() < deadline:
            taken += worker.run_once(timeout=0.2)
        worker.run_once(timeout=0.0)
        assert (taken, worker.held, worker.proven) == (STEPS * SHARDS, {}, 0)
        worker.group.close()
        with log.group("again", ["witness"]) as group:
            assert group.poll(timeout=3.0, max_records=10) == []


def test_a_prover_without_draws_takes_no_sampled_runs(bench: Bench) -> None:
    worker = bench.worker()
    worker.draws = None
    assert bench.run(worker) == STEPS * SHARDS
    assert all("takes no sampled runs" in reason for reason in bench.letters())


def test_runs_that_are_proven_whole_read_neither_ledger_nor_anchors(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sampled runs cost, they cost alone."""
    story = bench.case.story()
    story.edit(RunStarted, sampled=0, beacon="", window=0)
    told, ids = story.linked()
    bench.case.log.append("steps", bench.case.insider.seal("steps", told[0]))
    records = [(r, o.event) for r, o in bench.case.log.opened("witness")]
    without(bench.case, "witness")
    for record, event in records[:3]:
        value = seal("witness", replace(event, run_id=ids[0]), bench.case.insider.key("steps"))  # type: ignore[type-var]
        place = witness_partition(event.step, event.shard, SHARDS, 8)  # type: ignore[union-attr]
        assert place == record.partition
        bench.case.log.append("witness", value, partition=place)
    opened: list[str] = []
    original = type(bench.log).reader

    def reader(self: EventLog, topics: list[str]) -> Reader:
        opened.extend(topics)
        return original(self, topics)

    monkeypatch.setattr(type(bench.log), "reader", reader)
    worker = bench.worker()
    assert bench.run(worker) == 3
    assert set(opened) == {"steps", "claims", "proofs"}


def test_of_many_draws_a_few_are_remembered_and_all_can_be_made_again() -> None:
    """A trainer's events of some 300 bytes a step must not fill a prover's memory."""
    identity, shards = f"file:{digest('anchor').hex()}", 1 << 20
    draws = Draws(None, None, Policy(), Reporter(True))  # type: ignore[arg-type]
    beacon = Beacon(identity)
    beacon.take(SimpleNamespace(anchor=identity, counter=1, size=10_000, root=bytes(32), randomness=digest("r")))
    draws._beacons[identity] = beacon
    start = sample(RunStarted, sampled=MAX_SAMPLED, shards=shards, beacon=identity, window=(1 << 31) - 1)
    seen = {}
    for step in range(1, 401):
        draws._recorded[digest("run"), step] = (step, digest(str(step)))
        found = draws.of(digest("run"), start, step)
        assert found is not None
        seen[step] = hash(found.shards)
    assert len(draws._drawn) == 256
    again = draws.of(digest("run"), start, 1)
    assert again is not None
    assert hash(again.shards) == seen[1]
