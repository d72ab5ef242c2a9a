"""A real Kafka broker for tests: an outside one (KAFKA_BOOTSTRAP), or one that ``scripts/kafka.sh`` starts.

Import ``kafka_broker`` into a package's ``conftest.py`` to use it. Tests share the broker: each takes a topic prefix
of its own (``topic_prefix=`` of the URL covers topics, groups and transactional ids).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SESSION_TIMEOUT = 6.0 if os.environ.get("KAFKA_BOOTSTRAP") else 2.5
"""The shortest group session timeout, in seconds, that the broker takes: tests of dying members wait for it."""

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "kafka.sh"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def missing_tools() -> str | None:
    """Why no broker can be started here, or None."""
    jars = Path(os.environ.get("KAFKA_LIB", REPOSITORY / ".kafka" / "lib"))
    if not shutil.which("java"):
        return "no java on the PATH to run a broker with, and KAFKA_BOOTSTRAP is not set"
    if not any(jars.glob("kafka-*")) and not shutil.which("mvn"):
        return "no mvn on the PATH to fetch Kafka's jars with, and KAFKA_BOOTSTRAP is not set"
    return None


@contextmanager
def running_broker(directory: Path, extra: str = "", port: int | None = None) -> Iterator[str]:
    """A broker with its data in ``directory``, ``extra`` lines of configuration and a plain listener: host:port."""
    free = free_ports(2)
    command = ["up", "--dir", str(directory), "--port", str(port or free[0]), "--controller-port", str(free[1])]
    if extra:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "extra.properties").write_text(extra)
        command += ["--extra", str(directory / "extra.properties")]
    started = subprocess.run([SCRIPT, *command], capture_output=True, text=True, timeout=300)
    if started.returncode:
        pytest.fail(f"scripts/kafka.sh could not start a broker:\n{started.stderr}")
    try:
        yield started.stdout.strip()
    finally:
        subprocess.run([SCRIPT, "down", "--dir", str(directory)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of a broker that lives as long as the test session."""
    if outside := os.environ.get("KAFKA_BOOTSTRAP"):
        yield outside
        return
    if reason := missing_tools():
        pytest.skip(reason)
    with running_broker(tmp_path_factory.mktemp("kafka"), "group.min.session.timeout.ms=1000\n") as bootstrap:
        yield bootstrap


def unique_prefix(name: str) -> str:
    """A topic prefix that no other test has, also on a broker that outlives the session."""
    return f"{name}-{os.getpid()}-{time.time_ns()}."
