"""``zk-receipt``: makes and checks proofs that an entry is in the ledger, for others to keep."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from consumers.options import ORIGIN, add_origin, add_reading
from consumers.receipt.checking import check
from consumers.receipt.making import extend, make
from zk_autograd.cli import HelpFormatter, command_parser, run_command

_EPILOG = """examples:
  zk-receipt make 3 --run my-run --out proofs          step 3 of the run, as a C2SP proof file
  zk-receipt make 17 18 --format cose --out proofs     entries 17 and 18, as COSE receipts (needs the ledger's key)
  zk-receipt extend 20 --out proofs                    the log still begins with its first 20 entries
  zk-receipt check proofs/entry-17.tlog-proof --policy policy.json
exit code of check: 0 it holds, 1 it does not, 2 could not be checked
"""
_CHECK = """examples:
  zk-receipt check entry-17.tlog-proof --policy policy.json
  zk-receipt check entry-17.tlog-proof --key KEY --witness KEY1 --witness KEY2 --quorum 2
  zk-receipt check entry-17.cose --entry entry-17.entry --key KEY
  zk-receipt check from-20-to-34.cose --since entry-17.tlog-proof --key KEY
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-receipt``."""
    p = command_parser(
        "zk-receipt",
        "Proofs that an entry is in the ledger, in one file that verifies offline: C2SP tlog-proof, or "
        "COSE receipts (RFC 9942).",
        _EPILOG,
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="make|extend|check")
    one = commands.add_parser(
        "make", help="a proof for each of some entries", description="One file per entry.",
        epilog="example:\n  zk-receipt make 1 2 --run my-run --out proofs/\n", formatter_class=HelpFormatter,
    )  # fmt: skip
    one.add_argument("places", nargs="+", type=_count, metavar="STEP|INDEX", help="a run's step, or an entry's index")
    one.add_argument("--run", metavar="ID", help="the places are steps of this run: its id, first digits, or name")
    one.add_argument(
        "--format",
        choices=("tlog-proof", "cose"),
        default="tlog-proof",
        help="tlog-proof needs no key; cose is signed by the ledger's, in its home (default: %(default)s)",
    )
    one.add_argument("--extra", type=Path, metavar="FILE", help="put this into the proof file instead of the entry")
    more = commands.add_parser(
        "extend", help="a COSE receipt of consistency from an older size",
        epilog="example:\n  zk-receipt extend 20 --out proofs/\n", formatter_class=HelpFormatter,
    )  # fmt: skip
    more.add_argument("old_size", type=_count, metavar="SIZE", help="the older size")
    for made in (one, more):
        add_reading(made, policy="HOME/policy.json", output="one JSON object per file")
        made.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
        add_origin(made)
    c = commands.add_parser("check", help="check a file, offline", epilog=_CHECK, formatter_class=HelpFormatter)
    c.add_argument("file", type=Path, metavar="FILE", help="proof file or COSE receipt")
    c.add_argument("--policy", type=Path, metavar="FILE", help="whose signatures count: ledger_keys, witnesses")
    c.add_argument("--key", action="append", default=[], help="without --policy: the log's key, as zk-ledger prints it")
    c.add_argument("--witness", action="append", default=[], metavar="KEY", help="a witness's key; may be repeated")
    c.add_argument("--quorum", type=int, metavar="N", help="so many of these witnesses have to have cosigned")
    c.add_argument("--entry", type=Path, metavar="FILE", help="the entry's bytes, where the file does not hold them")
    c.add_argument(
        "--since", type=Path, metavar="FILE", help="for consistency: a proof file or checkpoint that you hold"
    )
    c.add_argument("--json", action="store_true", help="print one JSON object")
    c.add_argument("--origin", help=f"the log's name in its checkpoints (default: the name in --key, or {ORIGIN})")
    return p


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text, re.ASCII) or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text[:40]!r}")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    return {"make": make, "extend": extend, "check": check}[args.command](args)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-receipt``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
