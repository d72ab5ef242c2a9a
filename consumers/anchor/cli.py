"""``zk-anchor``: writes the ledger's checkpoints to a counter that cannot go back."""

from __future__ import annotations

import argparse
import json
import sys

from anchor import open_anchor
from consumers.anchor.runner import AnchorRunner
from consumers.options import Idle, Reporter, add_common, add_origin, announce, log_url, policy_of
from schemas.events import Role
from schemas.wire import open_event_log
from zk_autograd.cli import command_parser, run_command
from zk_autograd.home import Home

_EPILOG = """examples:
  zk-anchor                                        anchors the home's log in a file (development only)
  zk-anchor --init --anchor file:/mnt/other/anchor prints its identity, before anything is anchored
  zk-anchor --anchor file:/mnt/other/anchor --log kafka://localhost:9092
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-anchor``."""
    p = command_parser(
        "zk-anchor",
        "Compare checkpoints, ledger and anchor; raise the anchor's counter for each new checkpoint; "
        "publish the receipt. Ends with an error if they disagree: someone rolled a log back.",
        _EPILOG,
    )
    add_common(p)
    p.add_argument("--anchor", metavar="URI", help="where to anchor (default: file:HOME/anchor, for development only)")
    p.add_argument(
        "--init",
        action="store_true",
        help="make the anchor if it is not there, print its identity (for policies and sampled runs), and end",
    )
    add_origin(p)
    return p


def _run(args: argparse.Namespace) -> int:
    home, report = Home(args.home), Reporter(args.json)
    anchor = open_anchor(args.anchor or f"file:{home.path.absolute()}/anchor")
    if args.init:
        identity = anchor.establish()
        print(json.dumps({"anchor": anchor.uri, "identity": identity}) if args.json else identity)
        return 0
    policy = policy_of(args)
    key = home.signing_key("ANCHOR")
    with open_event_log(log_url(args)) as log:
        announce(log, home, Role.ANCHOR, key, "zk-anchor-announce")
        runner = AnchorRunner(log, policy, key, args.origin, anchor, report)
        try:
            who = anchor.identity() or "it has no identity yet"
            report(f"anchoring {log.url} in {anchor.uri} ({who}), head {anchor.head() or 'empty'}", anchor=who)
            idle = Idle(args.idle_exit)
            while not idle.over:
                if runner.run_once():
                    idle.worked()
        finally:
            runner.close()
        report(f"{runner.behind} leaves behind", behind=runner.behind)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-anchor``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
