"""``python -m bench [NAME] [--json]``: one benchmark, or all as a table. Each compares with a peer in the same run."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

BENCHES = {
    "prove-adam": ("bench.proving", "run_adam"),
    "prove-sgd": ("bench.proving", "run_sgd"),
    "commit": ("bench.commit", "run"),
    "fold": ("bench.fold", "run"),
    "audit": ("bench.audit", "run"),
    "replay": ("bench.replay", "run"),
    "optim": ("bench.optim", "run"),
    "step-profile": ("bench.step_profile", "run"),
    "append": ("bench.append", "run"),
    "tlog-proofs": ("bench.tlog_proofs", "run"),
    "restart": ("bench.restart", "run"),
}


def measure(name: str) -> dict[str, Any]:
    """Runs one benchmark; its module is imported only now, since ``optim`` needs torch."""
    module, function = BENCHES[name]
    result: dict[str, Any] = getattr(importlib.import_module(module), function)()
    return result


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def main(argv: list[str] | None = None) -> int:
    """Prints one JSON object for a name with ``--json``, else a table."""
    p = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog="example: python -m bench fold --json"
    )
    p.add_argument("name", nargs="?", choices=sorted(BENCHES))
    p.add_argument("--json", action="store_true", help="print JSON, one object a line")
    args = p.parse_args(argv)
    if not args.json:
        print(f"{'name':<12} {'value':>9} {'unit':<36} {'peer':>9} {'ratio':>7}  peer", flush=True)
    for name in [args.name] if args.name else list(BENCHES):
        r = measure(name)
        if args.json:
            print(json.dumps(r), flush=True)
            continue
        cells = f"  ({r['cells']:.1f} cells a parameter)" if "cells" in r else ""
        print(
            f"{r['name']:<12} {_number(r['value']):>9} {r['unit']:<36} {_number(r['peer_value']):>9} "
            f"{r['ratio']:>6.2f}x  {r['peer']}{cells}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
