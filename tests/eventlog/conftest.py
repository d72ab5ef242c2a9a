"""Both adapters behind the same fixtures: ``log_url`` runs a test once on a file and once on a broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import SESSION_TIMEOUT, unique_prefix
from zk_autograd.eventlog import EventLog, TopicSpec, open_log

WORKER = Path(__file__).with_name("worker.py")
Worker = Callable[..., subprocess.Popen[str]]


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty event log's URL; the session timeout is as short as the adapter allows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db?session_timeout=1"
    broker = request.getfixturevalue("kafka_broker")
    prefix = unique_prefix("test")
    return f"kafka://{broker}?topic_prefix={prefix}&session_timeout={SESSION_TIMEOUT}&request_timeout=5"


@pytest.fixture
def log(log_url: str) -> Iterator[EventLog]:
    """An open log with the topics ``one`` and ``other`` (one partition) and ``many`` (four)."""
    with open_log(log_url) as log:
        log.create_topics([TopicSpec("one", 1), TopicSpec("other", 1), TopicSpec("many", 4)])
        yield log


@pytest.fixture
def worker(log_url: str) -> Iterator[Worker]:
    """Starts worker.py in a process of its own: ``worker(action, ...)``; what is left running ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(action: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, WORKER, log_url, action, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
