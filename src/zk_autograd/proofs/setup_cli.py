"""``zk-setup``: makes circuits and their keys, and checks those that others made."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from zk_autograd.cli import add_home, command_parser, run_command
from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.proofs import DEFAULT_SYSTEM, proof_system
from zk_autograd.proofs.base import PROFILES
from zk_autograd.proofs.store import export_circuit, make_circuit
from zk_autograd.statement import STATEMENTS

_EPILOG = """examples:
  zk-setup --optimizer adam --srs kzg16.srs      keys under the public ceremony's SRS
  zk-setup --optimizer adam --profile small --dev   everything local and insecure, for development
  zk-setup --check ID                            rebuild a circuit's verifying key from source and compare
  zk-setup --export ID auditor-home              what an auditor needs of a circuit: megabytes, not hundreds
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-setup``."""
    p = command_parser(
        "zk-setup",
        "Make a circuit: settings, compiled circuit and keys in a folder named by their hash, the circuit "
        "id. Tests both ends of its look-up table and one proof before keeping it.",
        _EPILOG,
    )
    p.add_argument("--optimizer", choices=sorted(STATEMENTS), default="adam", help="the rule to prove (default: adam)")
    p.add_argument(
        "--profile", choices=sorted(PROFILES), default="default",
        help="default: 2^16 rows; small: 2^15 rows, half the memory and time of a proof",
    )  # fmt: skip
    p.add_argument("--srs", type=Path, metavar="FILE", help="SRS of a public ceremony, in EZKL's format")
    p.add_argument(
        "--dev", action="store_true",
        help="for development: opt this home's policy in to simulated evidence and local SRSs, and make such an SRS "
        "if --srs gives none",
    )  # fmt: skip
    p.add_argument("--check", metavar="ID", help="rebuild the verifying key of this circuit from source and compare")
    p.add_argument(
        "--export", nargs=2, metavar=("ID", "FOLDER"),
        help="copy what an auditor needs of this circuit, without the proving key, into FOLDER, to be used as --home",
    )  # fmt: skip
    add_home(p)
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def _id(option: str, text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise UsageError(f"{option}: expected a circuit id of 64 hex digits")
    return found


def _run(args: argparse.Namespace) -> int:
    home = Home(args.home)

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    if args.export is not None:
        circuit = proof_system(DEFAULT_SYSTEM).load(_id("--export", args.export[0]), home.path)
        export_circuit(circuit, Path(args.export[1]))
        say(f"copied to {args.export[1]}")
    elif args.check is not None:
        system = proof_system(DEFAULT_SYSTEM)
        circuit = system.load(_id("--check", args.check), home.path)
        say("rebuilding the verifying key from the statement")
        system.rebuild_verifying_key(circuit)
    else:
        circuit = make_circuit(home, args.optimizer, args.profile, args.srs, args.dev, say)
    facts = {
        "circuit_id": circuit.id.hex(), "optimizer": circuit.statement.name, "shard": circuit.shard,
        "table": circuit.P, "proof_bytes": circuit.proof_bytes, "proof_system": circuit.system,
        "srs_id": circuit.srs_id.hex(), "srs_class": circuit.srs_class, "folder": str(circuit.directory),
    }  # fmt: skip
    if args.json:
        print(json.dumps(facts | {"rebuilt": args.check is not None}))
        return 0
    print(f"circuit  {facts['circuit_id']}{'  rebuilt from source: equal' if args.check else ''}")
    print(
        f"proves   {circuit.statement.name}, {circuit.shard} parameters a proof of {circuit.proof_bytes} bytes "
        f"({circuit.system})"
    )
    warning = "  INSECURE: whoever made it can forge proofs" if circuit.srs_class == "DEV" else ""
    print(f"SRS      {circuit.srs_id.hex()[:16]}…  class {circuit.srs_class}{warning}")
    print(f"files    {circuit.directory}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-setup``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
