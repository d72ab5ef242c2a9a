"""SIGKILL at random moments, over all roles, with a restart at once: nothing is lost, doubled or put out of order.

The long version (``make chaos``) takes ZK_CHAOS_KILLS kills (100) with the seed ZK_CHAOS_SEED (from the clock), and
prints both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from schemas.events import StepCommitted
from tests.pipeline.killing import Killer
from tests.pipeline.processes import Crew
from tests.pipeline.watching import Contents, Watch, aborted_records, summary
from zk_autograd.proofs.base import Circuit

StartCrew = Callable[[str], Crew]
RealCircuit = Callable[[str], Circuit]


@dataclass(frozen=True)
class Plan:
    """How many kills, over how many steps; ``every``: seconds between two steps; the rest as in :class:`Killer`."""

    kills: int
    seed: int
    steps: int
    every: float
    pause_s: float = 3.0
    again: float = 0.0
    settle_s: float = 480.0


def survive(crew: Crew, circuit: Circuit, plan: Plan) -> None:
    """Runs ``plan`` and asserts that nobody reading the topics can tell that anything was killed."""
    began = time.monotonic()
    print(f"\nchaos: {plan.kills} kills, seed {plan.seed}, {plan.steps} steps", flush=True)
    with Watch(crew.url) as watch:
        crew.ledger()
        crew.anchor()
        crew.prover("a")
        crew.prover("b")
        origin = time.time()
        crew.trainer(circuit.id.hex(), plan.steps, 1, "--from", str(origin), "--every", str(plan.every))

        def next_step() -> float:
            taken = sum(isinstance(s.event, StepCommitted) for s in watch.contents.of("steps"))
            return origin + (taken + 1) * plan.every

        killer = Killer(crew, watch, plan.seed, next_step, plan.pause_s, plan.again)
        try:
            killer.kill(plan.kills)
            killed_s = time.monotonic() - began
            watch.wait(lambda seen: seen.complete, plan.settle_s, crew.ended_early)
        except AssertionError:
            print(crew.last_words(), flush=True)
            raise
        contents = watch.read_again()
        faults = contents.faults(plan.steps, shards=1) + watch.rewritten(contents)
    print(f"chaos: kills {dict(sorted(killer.kills.items()))}, {killer.aimed} of them aimed at a transaction")
    print(f"chaos: {killed_s:.0f} s of killing, {time.monotonic() - began:.0f} s in all; {summary(contents)}")
    if crew.url.startswith("kafka:"):
        print(f"chaos: {aborted_records(crew.url)} records were in transactions that a kill interrupted")
    print(f"chaos: lost, doubled or out of order: {len(faults)}", flush=True)
    assert not faults, "\n".join(faults)
    assert_sound(crew, contents, plan.steps)


def assert_sound(crew: Crew, contents: Contents, steps: int) -> None:
    code, report = crew.audit(contents.run_id)
    assert (code, report["verdict"]) == (0, "sound"), report
    assert (report["steps_proven"], report["finished"], report["records_refused"]) == (steps, True, 0)


@pytest.mark.kafka
def test_chaos_of_six_kills_over_all_roles_on_kafka(
    kafka_url: str, start_crew: StartCrew, real_circuit: RealCircuit
) -> None:
    survive(start_crew(kafka_url), real_circuit("adam"), Plan(kills=6, seed=1, steps=3, every=3.0))


@pytest.mark.slow
def test_chaos_of_six_kills_over_all_roles_on_the_embedded_log(
    sqlite_url: str, start_crew: StartCrew, real_circuit: RealCircuit
) -> None:
    survive(start_crew(sqlite_url), real_circuit("adam"), Plan(kills=6, seed=2, steps=2, every=4.0))


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(2400)
def test_chaos_of_many_kills_over_all_roles_on_kafka(
    kafka_url: str, start_crew: StartCrew, real_circuit: RealCircuit
) -> None:
    kills = int(os.environ.get("ZK_CHAOS_KILLS", "100"))
    seed = int(os.environ.get("ZK_CHAOS_SEED", str(time.time_ns() % 1_000_000)))
    # Long enough from kill to kill that provers get proofs done, and steps for as long as there are kills.
    plan = Plan(kills, seed, steps=20, every=3.0 * kills / 20, pause_s=6.0, again=0.2, settle_s=1200.0)
    survive(start_crew(kafka_url), real_circuit("adam"), plan)
