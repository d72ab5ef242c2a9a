"""``zk-ledger``: verifies proofs and folds proven steps into the Merkle log."""

from __future__ import annotations

import argparse
import sys

from consumers.ledger.runner import LedgerRunner
from consumers.ledger.witnesses import Cosigners
from consumers.options import Idle, Reporter, add_common, announce, log_url, policy_of
from consumers.verifying import Verifiers
from ledger.note import VerifierKey
from schemas.events import Role
from schemas.wire import open_event_log
from zk_autograd.cli import run_command
from zk_autograd.home import Home
from zk_autograd.proofs.store import CircuitStore

_EPILOG = """examples:
  zk-ledger                                     folds the home's log, and waits for more
  zk-ledger --log kafka://localhost:9092 --origin ledger.example.org/main
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-ledger``."""
    p = argparse.ArgumentParser(
        prog="zk-ledger",
        description="Verify every proof, append steps in order once all their shards are proven, sign a checkpoint per "
        "batch, and have it cosigned by the witnesses that the policy names. One instance writes; a second one takes "
        "over and the first ends.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common(p)
    p.add_argument(
        "--origin", default="zk-autograd/ledger", help="the log's name in its checkpoints (default: %(default)s)"
    )
    return p


def _run(args: argparse.Namespace) -> int:
    home, report = Home(args.home), Reporter(args.json)
    policy = policy_of(args)
    key = home.signing_key("LEDGER")
    with open_event_log(log_url(args)) as log, Verifiers() as verify:
        announce(log, home, Role.LEDGER, key, "zk-ledger-announce")
        circuits = CircuitStore(home.path, policy.circuits)
        cosigners = Cosigners(policy.witnesses, report) if policy.witnesses else None
        runner = LedgerRunner(log, policy, key, args.origin, circuits, verify, report, cosigners=cosigners)
        try:
            vkey = str(VerifierKey(args.origin, key.public_key))
            report(f"ledger {args.origin} at size {runner.tree.size}, log {log.url}", size=runner.tree.size)
            report(f"checkpoints verify under {vkey}", key=vkey)
            idle = Idle(args.idle_exit)
            while not idle.over:
                if runner.run_once(timeout=0.5):
                    idle.worked()
        finally:
            runner.close()
        report(
            f"size {runner.tree.size}, root {runner.tree.root().hex()}, {runner.waiting} steps unproven",
            waiting=runner.waiting,
        )
        if lacking := [witness.name for witness in runner.uncosigned]:
            report(f"the newest checkpoint is not cosigned by {', '.join(lacking)}", lacking=lacking)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-ledger``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
