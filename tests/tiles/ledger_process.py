"""A ledger that publishes, as a process to be killed: ``python -m tests.tiles.ledger_process FOLDER HOME SIZE``.

It goes on until the log has SIZE entries. Proofs are not verified: what is looked at is what becomes of the entries.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.restart import ORIGIN, Silent, places
from consumers.ledger import runner as runners
from schemas.wire import open_event_log
from tiles import open_store
from zk_autograd.home import Home
from zk_autograd.proofs.store import find_circuit


def main(folder: str, circuits: str, size: str) -> int:
    home, base = Home(Path(folder) / "home"), Path(folder)
    circuit = find_circuit(Home(Path(circuits)), "adam", "small")
    assert circuit is not None
    runners.BATCH = 20  # many transactions
    with open_event_log(f"sqlite:///{base}/log.db") as log, open_store(str(base / "tiles")) as store:
        runner = runners.LedgerRunner(
            log, home.policy(), home.signing_key("LEDGER"), ORIGIN, lambda _: circuit, places, Silent(True), store,
            base / "snapshot", 1,
        )  # fmt: skip
        print("ready", flush=True)
        while runner.tree.size < int(size):
            runner.run_once(timeout=0.0)
        runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
