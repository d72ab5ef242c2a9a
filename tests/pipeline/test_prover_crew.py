"""``zk-prove --workers``: its processes end with it, however it ends, and one that fails ends it with its words."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.processes import Crew, Service, crew
from zk_autograd.home import Home


@pytest.fixture
def idle(sqlite_url: str, tmp_path: Path) -> Iterator[Crew]:
    """A home without circuits, over an empty log."""
    home = Home(tmp_path / "home")
    home.opt_in_to_simulation()
    with crew(home, sqlite_url, tmp_path) as made:
        yield made


@pytest.fixture
def provers(idle: Crew) -> Service:
    """Two at work, with nothing to do."""
    service = idle.provers("p", 2)
    wait(lambda: service.printed.count("proving from") == 2, service)
    assert {line[:4] for line in service.printed.splitlines() if "proving from" in line} == {"[1] ", "[2] "}
    return service


def wait(what: Callable[[], bool], service: Service, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, service.printed
        time.sleep(0.1)


def processes(named: str) -> list[int]:
    """Ids of the processes with ``named`` on their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if named.encode() in words:
            found.append(int(path.parent.name))
    return found


def test_a_stopped_command_leaves_no_worker(provers: Service, sqlite_url: str) -> None:
    assert len(processes(sqlite_url)) == 3
    assert provers.stop() == 130
    assert processes(sqlite_url) == []
    assert provers.printed.endswith("\nzk-prove: stopped\n")
    assert "Traceback" not in provers.printed


def test_a_killed_command_leaves_no_worker(provers: Service, sqlite_url: str) -> None:
    provers.kill()
    wait(lambda: processes(sqlite_url) == [], provers)


def test_a_killed_worker_ends_the_command(provers: Service, sqlite_url: str) -> None:
    assert provers.process is not None
    worker = next(pid for pid in processes(sqlite_url) if pid != provers.process.pid)
    os.kill(worker, signal.SIGKILL)
    wait(lambda: provers.exit_code is not None, provers)
    assert provers.exit_code == 2
    assert processes(sqlite_url) == []
    assert "zk-prove: worker " in provers.printed.splitlines()[-1]


def test_what_a_worker_cannot_do_is_said_once_more_by_the_command(idle: Crew) -> None:
    (idle.home.path / "keys" / "simulated-root.pem").unlink()
    service = idle.provers("p", 2)
    wait(lambda: service.exit_code is not None, service)
    assert service.exit_code == 2
    last = service.printed.splitlines()[-1]
    assert last.startswith("zk-prove: worker ")
    assert "simulated-root.pem: not there" in last


def test_more_than_fit_into_memory_are_not_started(idle: Crew) -> None:
    idle.home.allow_circuit(bytes(32))
    key = idle.home.path / "circuits" / bytes(32).hex() / "pk.key"
    key.parent.mkdir(parents=True)
    with key.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    service = idle.provers("p", 2)
    wait(lambda: service.exit_code is not None, service)
    assert service.exit_code == 2
    (line,) = service.printed.splitlines()
    assert line.startswith("zk-prove: --workers 2: at most 1 fit into memory (one needs 3072.2 GiB, ")
