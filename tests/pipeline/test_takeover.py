"""A process that stalled, was taken for dead and replaced, wakes up again: it ends, and changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from schemas.events import RunOpened
from tests.pipeline.processes import Crew
from tests.pipeline.watching import Contents, Watch
from zk_autograd.proofs.base import Circuit

StartCrew = Callable[[str], Crew]


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest) -> str:
    """Each of the two logs in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def anchored(contents: Contents) -> bool:
    return bool(contents.of("anchors"))


@pytest.mark.parametrize("role", ["ledger", "anchor"])
def test_a_stalled_instance_that_wakes_up_after_its_successor_ends_and_writes_nothing(
    role: str, log_url: str, start_crew: StartCrew, real_circuit: Callable[[str], Circuit]
) -> None:
    crew = start_crew(log_url)
    with Watch(crew.url) as watch:
        stalled = crew.ledger() if role == "ledger" else crew.anchor()
        watch.wait(lambda _: crew.ready, 180, crew.ended_early)
        assert stalled.process is not None
        stalled.process.send_signal(signal.SIGSTOP)
        crew.services["stalled"] = crew.services.pop(role)
        crew.ledger()
        crew.anchor()
        # The start of a run is an entry, and needs no proof.
        crew.trainer(real_circuit("adam").id.hex(), 1, 1)
        watch.wait(anchored, 180, crew.ended_early)
        stalled.process.send_signal(signal.SIGCONT)
        watch.wait(lambda _: stalled.exit_code is not None, 180, list)
        contents = watch.read_again()
        assert not watch.rewritten(contents)
    assert stalled.exit_code == 2, stalled.printed
    assert "Traceback" not in stalled.printed
    assert "newer" in stalled.printed.splitlines()[-1] or "stale" in stalled.printed.splitlines()[-1], stalled.printed
    assert [type(s.event) for s in contents.of("ledger")] == [RunOpened]
    assert len(contents.of("checkpoints")) == len(contents.of("anchors")) == 1
    assert [s.exit_code for s in crew.services.values() if s is not stalled] == [None, None, 0]
