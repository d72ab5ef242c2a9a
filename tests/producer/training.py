"""A training job without a model: the real recorder over the numpy optimizer and an embedded log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.chain import RunChain
from producer.recorder import Recorder
from schemas.events import RunFinished, RunStarted, StepCommitted
from schemas.keyring import KeyRing
from schemas.signing import Opened
from schemas.wire import open_event_log
from tests.producer.saving import SavingOptimizer
from tests.support.pipeline import LR
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit
from zk_autograd.schedule import Schedule


@dataclass(frozen=True)
class Job:
    """A recorder and the optimizer that it records."""

    recorder: Recorder
    optimizer: SavingOptimizer

    def step(self, count: int = 1) -> None:
        """Takes steps and records each."""
        for _ in range(count):
            self.optimizer.step()
            self.recorder.record(self.optimizer.save)


@dataclass
class Training:
    """One home, one circuit, one log file, runs of ``parameters`` (default: one shard and a half)."""

    home: Home
    circuit: Circuit
    log_path: Path
    parameters: int = 0

    @property
    def url(self) -> str:
        return f"sqlite:///{self.log_path}"

    def open(self) -> EventLog:
        return open_event_log(self.url)

    def optimizer(self) -> SavingOptimizer:
        return SavingOptimizer(self.circuit, self.parameters or self.circuit.shard * 3 // 2)

    @contextmanager
    def start(self, name: str = "run") -> Iterator[Job]:
        """A new run; at the block's end its process is gone, whether it had finished or not."""
        optimizer = self.optimizer()
        with self.open() as log:
            schedule = Schedule("constant", (LR,), LR)
            recorder = Recorder.start(optimizer, log, self.home, self.circuit, name, schedule, optimizer.save)
            yield Job(recorder, optimizer)
            recorder.close()

    @contextmanager
    def resume(self, name: str = "run") -> Iterator[Job]:
        """The run, continued by a new process."""
        optimizer = self.optimizer()
        with self.open() as log:
            recorder = Recorder.resume(optimizer, log, self.home, self.circuit, name, optimizer.restore)
            yield Job(recorder, optimizer)
            recorder.close()

    def records(self, *topics: str) -> list[Record]:
        """What the log holds, each topic in order of partition and offset."""
        found = []
        with self.open() as log:
            for topic in topics:
                with log.reader([topic]) as reader:
                    found += sorted(reader.read_to_end(), key=lambda r: (r.partition, r.offset))
        return found

    def checkpoint(self, name: str = "run") -> Path:
        return self.home.runs / name / "checkpoint.sealed"

    def copy_log(self, name: str) -> Path:
        """A copy of the log as it stands."""
        copy = self.log_path.with_name(name)
        with (
            contextlib.closing(sqlite3.connect(self.log_path)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy


def follow(training: Training) -> RunChain | None:
    """The one run in the log, every signature, link and public integer checked; None if it has not started."""
    ring, chain = KeyRing(training.home.policy()), None
    for record in training.records("steps"):
        opened: Opened[Any] = ring.open("steps", record.value)
        if isinstance(opened.event, RunStarted):
            assert chain is None, "two runs"
            chain = RunChain(opened, training.circuit)
        elif isinstance(opened.event, StepCommitted | RunFinished):
            assert chain is not None, "a step before the start"
            chain.check_link(opened)
            if isinstance(opened.event, StepCommitted):
                chain.check_public(opened.event)
            chain.append(opened)
    return chain
