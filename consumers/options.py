"""Options and start-up that all consumer commands share."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from schemas.events import EvidenceClass, Role
from schemas.keyring import introduction
from zk_autograd.cli import add_home
from zk_autograd.eventlog.base import EventLog
from zk_autograd.home import Home
from zk_autograd.policy import Policy, load_policy
from zk_autograd.tee.keys import SigningKey

ORIGIN = "zk-autograd/ledger"
"""The name of a log whose operator chose none."""


def add_common(p: argparse.ArgumentParser) -> None:
    """``--log``, ``--home``, ``--policy`` and ``--json`` of a service, and ``--idle-exit``."""
    add_reading(p, policy="HOME/policy.json", output="one JSON object per event")
    p.add_argument(
        "--idle-exit", type=_seconds, metavar="SECONDS", help="end after this long without work (default: never)"
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, 0 or more, got {text[:40]!r}")
    return value


def add_log(p: argparse.ArgumentParser) -> None:
    """``--log``."""
    p.add_argument("--log", metavar="URL", help="event log (default: sqlite:///HOME/log.db)")


def add_origin(p: argparse.ArgumentParser) -> None:
    """``--origin``."""
    p.add_argument("--origin", default=ORIGIN, help="the log's name in its checkpoints (default: %(default)s)")


def add_reading(p: argparse.ArgumentParser, *, policy: str, output: str) -> None:
    """``--log``, ``--home``, ``--policy`` and ``--json``, with the default policy and the output in words."""
    add_log(p)
    add_home(p)
    p.add_argument("--policy", type=Path, metavar="FILE", help=f"what to trust (default: {policy})")
    p.add_argument("--json", action="store_true", help=f"print {output}")


def log_url(args: argparse.Namespace) -> str:
    """The URL given, or the home's embedded log."""
    return args.log or f"sqlite:///{Path(args.home).absolute()}/log.db"


def policy_of(args: argparse.Namespace) -> Policy:
    """The policy file given, or the home's own."""
    return load_policy(args.policy) if args.policy else Home(args.home).policy()


def announce(log: EventLog, home: Home, role: Role, key: SigningKey, transactional_id: str) -> None:
    """Publishes the role's key with its evidence, so that others can check what it signs.

    A prover's goes to ``claims``, too, where only claims after it count.
    """
    evidence = home.simulated_evidence(role.value, key)
    now = time.time_ns() // 1_000_000
    with log.producer(transactional_id) as producer, producer.transaction() as transaction:
        for topic in ("steps", *["claims"] * (role is Role.PROVER)):
            value = introduction(role, key, EvidenceClass.SIMULATED, evidence, now, topic)
            transaction.send(topic, key.key_id, value)


class Reporter:
    """Says what happens: one line for people, or one JSON object."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json

    def __call__(self, line: str, **facts: Any) -> None:
        if self._json:
            print(json.dumps(facts | {"message": line}), flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def busy(self, line: str) -> Iterator[None]:
        """Shows on a terminal, for as long as the block runs, what is being done and since when."""
        if self._json or not sys.stderr.isatty():
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(line)
            yield


class Idle:
    """Counts how long there has been no work."""

    def __init__(self, limit: float | None) -> None:
        self._limit, self._since = limit, time.monotonic()

    def worked(self) -> None:
        """There was work just now."""
        self._since = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the limit is reached."""
        return self._limit is not None and time.monotonic() - self._since >= self._limit
