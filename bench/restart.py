"""A ledger's start: from a snapshot, against reading all of its log anew."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.circuits import bench_circuit
from bench.fold import _run as long_run
from consumers.ledger.runner import LedgerRunner
from consumers.options import Reporter, announce
from schemas.events import Role
from schemas.signing import decode_unverified, seal
from schemas.wire import open_event_log
from tiles import open_store
from zk_autograd.home import Home
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Commitments

STEPS = 5000
ORIGIN = "bench.example/log"


class Silent(Reporter):
    """Says nothing."""

    def __call__(self, line: str, **facts: Any) -> None:
        """Says nothing."""


def places(_circuit: Circuit, body: bytes, _public: object) -> Commitments:
    """Takes any proof: what is measured is the rest."""
    return Commitments(*(body[i : i + POINT_BYTES] for i in range(0, 4 * POINT_BYTES, POINT_BYTES)))


class Ledger:
    """A ledger over an embedded log with a run of many steps, all proven."""

    def __init__(self, folder: Path, circuit: Circuit, steps: int = STEPS) -> None:
        self.steps = steps
        self.home = Home(folder / "home")
        self.home.opt_in_to_simulation()
        self.home.allow_circuit(circuit.id)
        self.url, self.tiles, self.snapshot = f"sqlite:///{folder}/log.db", folder / "tiles", folder / "snapshot"
        self.circuit, self.policy = circuit, self.home.policy()
        trainer, prover = self.home.signing_key("TRAINER"), self.home.signing_key("PROVER")
        events, proofs = long_run(circuit, trainer, steps)
        with open_event_log(self.url) as log:
            for role, key in ((Role.TRAINER, trainer), (Role.PROVER, prover)):
                announce(log, self.home, role, key, role.value)
            with log.producer("bench") as producer:
                for topic, values in (("steps", events), ("proofs", [self._resigned(p, prover) for p in proofs])):
                    for first in range(0, len(values), 500):
                        with producer.transaction() as transaction:
                            for value in values[first : first + 500]:
                                transaction.send(topic, b"", value, partition=0)

    @staticmethod
    def _resigned(value: bytes, key: Any) -> bytes:
        return seal("proofs", decode_unverified("proofs", value).event, key)

    def start(self, rounds: int, snapshot: bool) -> float:
        """Seconds until a new instance is ready and has found nothing new, or ``rounds`` times something."""
        began = time.perf_counter()
        with open_event_log(self.url) as log, open_store(str(self.tiles)) as store:
            runner = LedgerRunner(
                log, self.policy, self.home.signing_key("LEDGER"), ORIGIN, lambda _: self.circuit, places,
                Silent(True), store, self.snapshot if snapshot else None, 1,
            )  # fmt: skip
            for _ in range(rounds):
                runner.run_once(timeout=0.0)
            size = runner.tree.size
            runner.close()
        if size != self.steps + 1:
            raise RuntimeError(f"{size} entries, expected {self.steps + 1}")
        return time.perf_counter() - began


def run() -> dict[str, Any]:
    """A log of 5,001 entries; the peer is the same ledger without its snapshot."""
    circuit = bench_circuit("adam", "default")
    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(Path(name), circuit)
        ledger.start(STEPS // 200 + 2, snapshot=True)
        rounds = STEPS // 200 + 2
        fast = statistics.median(ledger.start(1, snapshot=True) for _ in range(5))
        slow = statistics.median(ledger.start(rounds, snapshot=False) for _ in range(3))
    return {
        "name": "restart", "value": STEPS / fast, "unit": "entries/s passed by at a restart",
        "peer": "reading all of the log anew", "peer_value": STEPS / slow, "ratio": slow / fast,
        "details": {"entries": STEPS + 1, "seconds": fast, "peer_seconds": slow},
    }  # fmt: skip
