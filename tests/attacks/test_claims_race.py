"""Two groups of provers finish one witness in the same moment, on either log; a prover is killed in between."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from consumers.options import Reporter
from consumers.prover.answered import Answered
from consumers.prover.outbox import Outbox
from consumers.prover.publisher import Publisher
from consumers.prover.worker import Worker
from consumers.steps_view import StepsView
from schemas.events import ProofClaimed, Role
from schemas.signing import decode_unverified, seal
from schemas.wire import open_event_log
from tests.consumers.test_prover_check import Witness
from tests.consumers.test_prover_worker import OWN
from tests.pipeline.watching import aborted_records
from tests.support.broker import SESSION_TIMEOUT, unique_prefix
from tests.support.claims import SHARD, STEP
from tests.support.forge import Case
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit, Limits
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import SigningKey, load_signing_key, new_signing_key


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty log, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/race.db"
    broker = request.getfixturevalue("kafka_broker")
    return f"kafka://{broker}?topic_prefix={unique_prefix('race')}&session_timeout={SESSION_TIMEOUT}"


def prepare(log: EventLog, case: Case, *keys: SigningKey) -> None:
    """The sound run's steps, these provers' introductions, and one witness."""
    witness = Witness(case.sound, STEP, SHARD).event
    with log.producer("everybody-else") as producer, producer.transaction() as transaction:
        for record in case.log.records("steps"):
            transaction.send("steps", record.key, record.value, partition=record.partition)
        for key in keys:
            transaction.send("steps", key.key_id, case.insider.introduce(Role.PROVER, key))
        for key in (*keys, case.insider.key("claims")):
            transaction.send("claims", key.key_id, case.insider.introduce(Role.PROVER, key, topic="claims"))
        value = seal("witness", witness, case.insider.key("steps"))
        transaction.send("witness", witness.run_id, value, partition=OWN)


def prover(stack: ExitStack, home: Home, url: str, key: SigningKey, group: str, claimed: Path) -> Worker:
    """A prover with a connection of its own."""
    log = stack.enter_context(open_event_log(url))
    policy = home.policy()
    view = StepsView(log, policy)
    view.refresh()
    producer = stack.enter_context(log.producer(f"prover-{group}"))
    answered = Answered(log, view)
    publisher = Publisher(log, policy, view, answered, Outbox(claimed), producer, key)
    for each in (view, answered, publisher):
        stack.callback(each.close)
    return Worker(
        home, CircuitStore(home.path, policy.circuits), view, answered, publisher,
        stack.enter_context(log.group(group, ["witness"])), producer, key, Limits(), log.partitions("witness"),
        Reporter(True),
    )  # fmt: skip


def until_taken(worker: Worker, seconds: float = 60.0) -> None:
    """Runs a prover until it has consumed one record."""
    deadline = time.monotonic() + seconds
    while not worker.run_once(timeout=0.2):
        assert time.monotonic() < deadline, f"nothing taken; held: {list(worker.held)}"


def records(url: str, topic: str) -> list[Record]:
    with open_event_log(url) as log, log.reader([topic]) as reader:
        return list(reader.read_to_end())


def claims_in(url: str) -> list[ProofClaimed]:
    events = [decode_unverified("claims", r.value).event for r in records(url, "claims")]
    return [event for event in events if isinstance(event, ProofClaimed)]


@pytest.fixture
def two_proofs(case: Case, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Two proofs of the witness: whoever proves gets the next. Those that were taken."""
    left = [case.sound.twin_proof, case.story().proofs[STEP, SHARD].proof]
    taken: list[bytes] = []

    def prove(self: Ezkl, circuit: Circuit, columns: Any, limits: Any, tick: Any = None) -> bytes:
        taken.append(left[len(taken)])
        return taken[-1]

    monkeypatch.setattr(Ezkl, "prove", prove)
    return taken


def race(case: Case, url: str, folder: Path) -> None:
    """Two groups, each with a home of its own. Each prover's first word to the log waits for the other's."""
    keys = {"one": case.insider.key("claims"), "two": new_signing_key()}
    with open_event_log(url) as log:
        prepare(log, case, keys["two"])
    barrier = threading.Barrier(2)
    failed: list[BaseException] = []

    def run(group: str) -> None:
        try:
            with ExitStack() as stack:
                worker = prover(stack, case.sound.home, url, keys[group], group, folder / f"claimed-{group}")
                at_once(worker, barrier)
                until_taken(worker)
                assert worker.proven == 1
                assert not worker.held
        except BaseException as error:
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=[group]) for group in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in failed:
        raise error


def at_once(worker: Worker, barrier: threading.Barrier) -> None:
    honest, first = worker.producer.transaction, [True]

    def transaction() -> Any:
        if first.pop() if first else False:
            barrier.wait(60)
        return honest()

    worker.producer.transaction = transaction  # type: ignore[method-assign]


def test_of_two_groups_that_finish_in_the_same_moment_one_publishes(
    case: Case, url: str, tmp_path: Path, two_proofs: list[bytes]
) -> None:
    """Four openings of a column, where its salt hides two: that is what both proofs would be."""
    race(case, url, tmp_path)
    assert len(two_proofs) == 2
    (published,) = records(url, "proofs")
    claims = claims_in(url)
    assert decode_unverified("proofs", published.value).event_id == claims[0].proof
    assert records(url, "dead-letters") == []
    for group in ("one", "two"):
        assert Outbox(tmp_path / f"claimed-{group}").turns() == []
    if url.startswith("kafka:"):
        assert aborted_records(url) == 0, "what lost was not even sent"


def test_without_claims_both_would_publish(
    case: Case, tmp_path: Path, two_proofs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race is one: the test above is not passed by luck."""
    monkeypatch.setattr(Publisher, "claim", lambda self, turn, value, data_key: value)
    url = f"sqlite:///{tmp_path}/race.db"
    race(case, url, tmp_path)
    assert len({r.value for r in records(url, "proofs")}) == 2


def claim_and_die(home: Path, key: Path, url: str, claimed: Path, proof: bytes) -> None:
    """A prover process that is killed when it has claimed and is about to publish."""
    Ezkl.prove = lambda *_: proof  # type: ignore[method-assign, assignment]
    with ExitStack() as stack:
        worker = prover(stack, Home(home), url, load_signing_key(key), "killed", claimed)
        honest, begun = worker.producer.transaction, []

        def transaction() -> Any:
            begun.append(None)
            if len(begun) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return honest()

        worker.producer.transaction = transaction  # type: ignore[method-assign]
        until_taken(worker)


def test_a_prover_that_is_killed_between_claim_and_proof_publishes_what_it_claimed_when_it_comes_back(
    case: Case, tmp_path: Path, two_proofs: list[bytes]
) -> None:
    url, claimed = f"sqlite:///{tmp_path}/killed.db?session_timeout=1", tmp_path / "claimed"
    home = case.sound.home
    with open_event_log(url) as log:
        prepare(log, case)
    arguments = (home.path, home.path / "keys" / "prover-a.pem", url, claimed, case.sound.twin_proof)
    child = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=arguments)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    (claim,) = claims_in(url)
    assert records(url, "proofs") == []
    with ExitStack() as stack:
        again = prover(stack, home, url, case.insider.key("claims"), "killed", claimed)
        again.publisher.resume(home, Reporter(True))
        (published,) = records(url, "proofs")
        assert decode_unverified("proofs", published.value).event_id == claim.proof
        until_taken(again)
    assert two_proofs == []
    assert records(url, "dead-letters") == []
