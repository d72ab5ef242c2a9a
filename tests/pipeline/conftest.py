"""Event logs for whole pipelines of processes: a file, and a real broker with a topic prefix of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.processes import Crew, crew
from tests.support.broker import SESSION_TIMEOUT, unique_prefix
from zk_autograd.home import Home


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An embedded log that takes a killed group member for dead after 2 s."""
    return f"sqlite:///{tmp_path}/log.db?session_timeout=2"


@pytest.fixture
def kafka_url(kafka_broker: str) -> str:
    """An empty log on the broker, with a session timeout as short as it takes."""
    return f"kafka://{kafka_broker}?topic_prefix={unique_prefix('pipeline')}&session_timeout={SESSION_TIMEOUT}"


@pytest.fixture
def start_crew(tmp_path: Path, fresh_home: Callable[..., Home]) -> Iterator[Callable[[str], Crew]]:
    """Makes the test's crew over a log, with a home that has the Adam circuit; ends its processes afterwards."""
    with contextlib.ExitStack() as stack:
        yield lambda url: stack.enter_context(crew(fresh_home("adam"), url, tmp_path))
