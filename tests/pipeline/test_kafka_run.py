"""Whole runs with every role a process of its own, started through the installed commands, judged by zk-audit.

The last shard of every step is half full, so padding is proven with the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas.events import ProofAttached
from tests.pipeline.processes import Crew, Service
from tests.pipeline.watching import Contents, Watch
from zk_autograd.proofs.base import Circuit

StartCrew = Callable[[str], Crew]


def two_processes(crew: Crew) -> list[Service]:
    return [crew.prover("a"), crew.prover("b")]


def two_workers(crew: Crew) -> list[Service]:
    return [crew.provers("p", 2)]


def run_to_the_end(
    crew: Crew, circuit: Circuit, steps: int, shards: int, seconds: float, provers: Callable[[Crew], list[Service]]
) -> Contents:
    """Starts every role, two provers among them, and a run; returns the topics once all of it is anchored."""
    with Watch(crew.url) as watch:
        crew.ledger()
        crew.anchor()
        started = provers(crew)
        # The work is shared out among the provers that are there when it comes.
        watch.wait(lambda _: sum(s.printed.count("proving from") for s in started) == 2, 180, crew.ended_early)
        watch.wait(lambda _: crew.ready, 180, crew.ended_early)
        crew.trainer(circuit.id.hex(), steps, shards)
        watch.wait(lambda seen: seen.complete, seconds, crew.ended_early)
        contents = watch.read_again()
        assert not watch.rewritten(contents)
    return contents


def assert_sound(crew: Crew, contents: Contents, steps: int, shards: int, names: tuple[str, str]) -> None:
    """Nothing lost, doubled or out of order; both provers worked; the auditor finds the run sound."""
    assert not contents.faults(steps, shards)
    provers = {s.key_id for s in contents.of("proofs") if isinstance(s.event, ProofAttached)}
    assert provers == {crew.home.signing_key("PROVER", name).key_id for name in names}
    code, report = crew.audit(contents.run_id)
    assert (code, report["verdict"]) == (0, "sound"), report
    assert (report["steps"], report["steps_proven"], report["finished"]) == (steps, steps, True)
    assert report["proofs_verified"] == steps * shards


def assert_stops_cleanly(crew: Crew) -> None:
    """SIGTERM ends every service with exit code 130 and one line that says so."""
    for name, service in crew.services.items():
        if name != "trainer":
            assert service.stop() == 130, f"{name}: {service.printed}"
            assert service.printed.endswith("stopped\n")
            assert "Traceback" not in service.printed


@pytest.mark.kafka
def test_a_run_of_five_steps_over_kafka_with_two_provers_is_sound(
    kafka_url: str, start_crew: StartCrew, real_circuit: Callable[[str], Circuit]
) -> None:
    crew = start_crew(kafka_url)
    contents = run_to_the_end(crew, real_circuit("adam"), steps=5, shards=1, seconds=550, provers=two_processes)
    assert_sound(crew, contents, steps=5, shards=1, names=("a", "b"))
    assert_stops_cleanly(crew)


def test_a_run_over_the_embedded_log_with_two_provers_of_one_command_is_sound(
    sqlite_url: str, start_crew: StartCrew, real_circuit: Callable[[str], Circuit]
) -> None:
    crew = start_crew(sqlite_url)
    contents = run_to_the_end(crew, real_circuit("adam"), steps=2, shards=2, seconds=550, provers=two_workers)
    assert_sound(crew, contents, steps=2, shards=2, names=("p-1", "p-2"))
    assert_stops_cleanly(crew)
