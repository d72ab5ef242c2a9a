"""``zk-ledger``: verifies proofs and folds proven steps into the Merkle log."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from consumers.ledger.runner import LedgerRunner
from consumers.ledger.snapshot import path_of
from consumers.ledger.tools import add_tools, open_place, run_fsck, run_rebuild
from consumers.ledger.witnesses import Cosigners
from consumers.options import Idle, Reporter, add_common, add_origin, announce, log_url, policy_of
from consumers.verifying import Verifiers
from ledger.note import VerifierKey
from schemas.events import Role
from schemas.wire import open_event_log
from zk_autograd.cli import command_parser, run_command
from zk_autograd.home import Home
from zk_autograd.proofs.store import CircuitStore

_EPILOG = """examples:
  zk-ledger                                     folds the home's log, and waits for more
  zk-ledger --log kafka://localhost:9092 --origin ledger.example.org/main
  zk-ledger --tiles /srv/log                    publishes the log as files, too: for any web server
  zk-ledger fsck /srv/log                       reads a published log whole; see zk-ledger fsck --help
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-ledger``."""
    p = command_parser(
        "zk-ledger",
        "Verify every proof, append steps in order once all their shards are proven, sign a checkpoint per "
        "batch, and have it cosigned by the witnesses that the policy names. One instance writes; a second one takes "
        "over and the first ends.",
        _EPILOG,
    )
    add_common(p)
    add_origin(p)
    p.add_argument(
        "--tiles", metavar="DIR|URL", help="publish the log as C2SP tiles to a folder or s3://bucket/prefix, too"
    )
    add_tools(p)
    return p


def _run(args: argparse.Namespace) -> int:
    if args.command:
        return run_fsck(args) if args.command == "fsck" else run_rebuild(args)
    home, report = Home(args.home), Reporter(args.json)
    policy = policy_of(args)
    key = home.signing_key("LEDGER")
    with ExitStack() as stack:
        log = stack.enter_context(open_event_log(log_url(args)))
        verify = stack.enter_context(Verifiers())
        tiles = stack.enter_context(open_place(args)) if args.tiles else None
        announce(log, home, Role.LEDGER, key, "zk-ledger-announce")
        circuits = CircuitStore(home.path, policy.circuits)
        snapshot = path_of(home.path / "snapshots", args.origin, log.url) if tiles else None
        cosigners = Cosigners(policy.witnesses, report) if policy.witnesses else None
        runner = LedgerRunner(
            log, policy, key, args.origin, circuits, verify, report, tiles, snapshot, cosigners=cosigners
        )
        try:
            vkey = str(VerifierKey(args.origin, key.public_key))
            report(f"ledger {args.origin} at size {runner.tree.size}, log {log.url}", size=runner.tree.size)
            report(f"checkpoints verify under {vkey}", key=vkey)
            idle, taken = Idle(args.idle_exit), 0
            while not idle.over:
                runner.run_once(timeout=0.5)
                if runner.taken != taken:  # also proofs of steps that are not whole yet
                    idle.worked()
                taken = runner.taken
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
