"""Kills the pipeline's processes at random moments and restarts them at once; counts what came of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.pipeline.processes import Crew, Service
from tests.pipeline.watching import Seen, Watch

AIM_S = {"trainer": 0.4, "ledger": 0.3, "anchor": 0.2, "prover-a": 0.08, "prover-b": 0.08}
"""An aimed kill lands within this time after a role had reason to begin a transaction."""

REASONS = {"proofs": "ledger", "checkpoints": "anchor"}
"""Topic -> the role that begins a transaction when a record comes into it."""


@dataclass
class Killer:
    """Attributes:

    seed: of every choice made here; when a kill lands also depends on the machine.
    next_step: when the trainer's next step is due, in seconds since the epoch.
    pause_s: the longest time from one kill to the next.
    again: share of kills after which the restarted process is killed once more while it starts.
    kills: kills by role, of processes that were running.
    aimed: how many of them were aimed at a transaction.
    """

    crew: Crew
    watch: Watch
    seed: int
    next_step: Callable[[], float]
    pause_s: float = 3.0
    again: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    aimed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._turns: list[str] = []
        self._proved: dict[str, int] = {}
        self._due = 0.0

    def kill(self, count: int) -> None:
        """``count`` kills, over all roles: at any moment, or when a transaction is likely to be under way.

        Raises:
            AssertionError: a process ended by itself with an error.
        """
        while self.kills.total() < count:
            service, aimed = self._next()
            self._kill(service)
            self.aimed += aimed
            if self._random.random() < self.again and self.kills.total() < count:
                self._sleep(self._random.uniform(0, 1.5))
                self._kill(service)

    def _kill(self, service: Service) -> None:
        trouble = self.crew.ended_early()
        assert not trouble, "\n".join(trouble)
        if service.kill():
            self.kills[service.name] += 1
            service.start()

    def _next(self) -> tuple[Service, bool]:
        """Whom to kill now: who is about to commit something, by a coin's toss, or whose turn it is after a pause."""
        until = time.monotonic() + self._random.uniform(0, self.pause_s)
        while True:
            alive = [name for name, service in self.crew.services.items() if service.exit_code is None]
            if not set(self._turns) & set(alive):
                self._turns = self._round(alive)
            for name in self._about_to_commit(self.watch.look(0.02)):
                if name in self._turns and name in alive and self._random.random() < 0.7:
                    self._turns.remove(name)
                    self._sleep(self._random.uniform(0, AIM_S[name]))
                    return self.crew.services[name], True
            if time.monotonic() >= until:
                name = next(name for name in self._turns if name in alive)
                self._turns.remove(name)
                return self.crew.services[name], False

    def _round(self, alive: list[str]) -> list[str]:
        """A round of turns: at first each role once; later provers half as often, so that they get proofs done."""
        often = 2 if self.kills else 1
        turns = [name for name in sorted(alive) for _ in range(1 if name.startswith("prover") else often)]
        self._random.shuffle(turns)
        return turns

    def _about_to_commit(self, seen: list[Seen]) -> list[str]:
        names = [REASONS[s.record.topic] for s in seen if s.record.topic in REASONS]
        for name, service in self.crew.services.items():
            proved = service.printed.count("proved run")
            if proved > self._proved.get(name, 0):
                names.append(name)
            self._proved[name] = proved
        due = self.next_step()
        if due != self._due and time.time() >= due:
            self._due = due
            names.append("trainer")
        return names

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.watch.look(min(0.05, left))
