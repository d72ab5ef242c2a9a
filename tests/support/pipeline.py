"""A whole pipeline in one process, for tests: the real recorder, prover, ledger and anchor over a real log.

Only the training loop is small: a numpy optimizer over the same integer statement, with random gradients, so that no
torch is needed. Proofs are real.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anchor import open_anchor
from consumers.anchor.runner import AnchorRunner
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit
from consumers.audit.proofs import Verdict
from consumers.ledger.runner import LedgerRunner
from consumers.options import Reporter, announce
from consumers.prover.answered import Answered
from consumers.prover.draws import Draws
from consumers.prover.outbox import Outbox
from consumers.prover.publisher import Publisher
from consumers.prover.worker import Worker
from consumers.steps_view import StepsView
from consumers.verifying import Verifiers
from producer.declaration import Terms
from producer.recorder import Recorder
from schemas.events import Role
from schemas.wire import open_event_log
from zk_autograd.errors import ZkAutogradError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.fixed_point import Format, ParameterBlock
from zk_autograd.home import Home
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import OPS, Circuit, Ints, Limits, check_bounds
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.schedule import Schedule
from zk_autograd.statement import Public, Statement

ORIGIN = "zk-autograd/ledger"
LR = 1e-3


@dataclass(frozen=True)
class Step:
    """What the recorder reads of a step."""

    step: int
    rates: tuple[float, ...]
    public: tuple[Public, ...]
    pre: dict[str, Ints]
    post: dict[str, Ints]
    g: Ints
    hints: dict[str, Ints]
    saturated: int = 0
    underflow: int = 0
    limited: int = 0
    rounding: float = 0.0
    shifts: tuple[int, ...] = ()


class NumpyOptimizer:
    """An optimizer over ``count`` parameters with random gradients, or over blocks of so many each."""

    def __init__(self, circuit: Circuit, *counts: int, seed: int = 0) -> None:
        count = sum(counts)
        self.statement: Statement = circuit.statement
        self.P = circuit.P
        self.hyper = dict(self.statement.defaults)
        self.format: Format = self.statement.choose_format(self.hyper, LR, 1.0, self.P)
        self.parameter_count = count
        self.groups = [self.hyper]
        self.blocks = [ParameterBlock(0, n, self.format) for n in counts]
        self._rng = np.random.default_rng(seed)
        self._state = {n: np.zeros(count, dtype=np.int64) for n in self.statement.state}
        self._state["w"] = self._rng.integers(-(2**self.format.scale_w), 2**self.format.scale_w, count)
        self.last_step: Step | None = None

    def state_arrays(self) -> dict[str, Ints]:
        return dict(self._state)

    def load(self, state: dict[str, Ints], step: Step | None) -> None:
        self._state, self.last_step = state, step

    def step(self, lr: float = LR) -> None:
        number = 1 if self.last_step is None else self.last_step.step + 1
        g = self._rng.integers(-self.format.clip // 2, self.format.clip // 2, self.parameter_count)
        pub = self.statement.public_integers(self.hyper, lr, number, self.format, self.P)
        parts, start = [], 0
        for block in self.blocks:
            part = slice(start, start + block.count)
            pre = {n: x[part] for n, x in self._state.items()}
            post, hints = self.statement.advance(pre, g[part], pub, self.P, OPS)
            assert not check_bounds(self.statement, pre, post, g[part], hints, pub, self.P)
            parts.append((post, hints))
            start += block.count
        post = {n: np.concatenate([p[n] for p, _ in parts]) for n in self.statement.state}
        hints = {n: np.concatenate([h[n] for _, h in parts]) for n in self.statement.hints}
        self.last_step = Step(number, (lr,), (pub,) * len(parts), self._state, post, g, hints)
        self._state = post


@dataclass
class Pipeline:
    """One home, one log, one circuit."""

    home: Home
    url: str
    circuit: Circuit

    @property
    def anchor_uri(self) -> str:
        return f"file:{self.home.path}/anchor"

    def open(self) -> EventLog:
        return open_event_log(self.url)

    def train(
        self,
        steps: int,
        shards: int = 2,
        name: str = "run",
        finish: bool = True,
        terms: Terms = Terms(),  # noqa: B008
        layers: tuple[int, ...] = (),
    ) -> bytes:
        """Publishes a run of one block, or of ``layers`` of so many shards each; returns its id.

        A block's last shard is half full.
        """
        size = self.circuit.shard
        optimizer = NumpyOptimizer(self.circuit, *(size * (n - 1) + size // 2 for n in layers or (shards,)))
        with self.open() as log:
            schedule = Schedule("constant", (LR,), LR)
            recorder = Recorder.start(optimizer, log, self.home, self.circuit, name, schedule, terms=terms)
            for _ in range(steps):
                optimizer.step()
                recorder.record()
            if finish:
                recorder.finish()
            recorder.close()
        return recorder.run_id

    def sampled(self, count: int, window: int) -> Terms:
        """The terms of a run of which so many shards a step are drawn by this pipeline's anchor."""
        return Terms(count, open_anchor(self.anchor_uri).establish(), window)

    def prove(self, name: str = "a", limit: int = 10_000) -> int:
        """Proves what waits and may be proven, at most ``limit`` records; returns how many proofs were published."""
        key = self.home.signing_key("PROVER", name)
        with self.open() as log:
            announce(log, self.home, Role.PROVER, key, f"zk-prove-{name}-announce")
            view = StepsView(log, self.home.policy())
            view.refresh()
            circuits = CircuitStore(self.home.path, self.home.policy().circuits)
            with log.producer(f"zk-prove-{name}") as producer, log.group("zk-prove", ["witness"]) as group:
                answered, partitions = Answered(log, view), log.partitions("witness")
                draws = Draws(log, view, self.home.policy(), Reporter(True))
                publisher = Publisher(
                    log, self.home.policy(), view, answered, Outbox(self.home.claimed_proofs), producer, key
                )
                worker = Worker(
                    self.home, circuits, view, answered, publisher, group, producer, key, Limits(), partitions,
                    Reporter(True), draws=draws,
                )  # fmt: skip
                taken, held = 0, -1
                # Until nothing was taken and nothing more is held back than before.
                while taken < limit and ((took := worker.run_once(timeout=0.5)) or held != len(worker.held)):
                    taken, held = taken + took, len(worker.held)
                answered.close()
                publisher.close()
                draws.close()
            view.close()
        return worker.proven

    def fold(self, rounds: int = 50) -> LedgerRunner:
        """Folds until nothing new comes."""
        key = self.home.signing_key("LEDGER")
        with self.open() as log, Verifiers() as verify:
            announce(log, self.home, Role.LEDGER, key, "zk-ledger-announce")
            circuits = CircuitStore(self.home.path, self.home.policy().circuits)
            runner = LedgerRunner(log, self.home.policy(), key, ORIGIN, circuits, verify, Reporter(True))
            quiet = 0
            while quiet < 2 and rounds:
                quiet = 0 if runner.run_once(timeout=0.1) else quiet + 1
                rounds -= 1
            runner.close()
        return runner

    def anchor(self) -> None:
        """Anchors the newest checkpoint."""
        key = self.home.signing_key("ANCHOR")
        with self.open() as log:
            announce(log, self.home, Role.ANCHOR, key, "zk-anchor-announce")
            anchor = open_anchor(self.anchor_uri)
            runner = AnchorRunner(log, self.home.policy(), key, ORIGIN, anchor, Reporter(True))
            runner.run_once()
            runner.close()

    def audit(self, run_id: bytes, policy: Policy | None = None, url: str | None = None, **options: Any) -> Audit:
        """Audits in this process."""
        chosen = policy or self.home.policy()
        with open_event_log(url or self.url, create=False) as log:
            found = collect(log, run_id, chosen)
        with Verifiers() as verifiers:

            def verify(circuit: Circuit, jobs: Any) -> list[Verdict]:
                out = []
                for proof, public in jobs:
                    try:
                        out.append(Verdict(verifiers(circuit, proof, public)))
                    except ZkAutogradError as error:
                        out.append(Verdict(None, str(error)))
                return out

            live = [open_anchor(self.anchor_uri)] if options.pop("live", True) else []
            return audit(found, run_id, chosen, CircuitStore(self.home.path, None), verify, live, **options)


def pipeline(home: Home, folder: Path, circuit: Circuit) -> Pipeline:
    """A pipeline over a fresh embedded log in ``folder``."""
    return Pipeline(home, f"sqlite:///{folder}/log.db", circuit)
