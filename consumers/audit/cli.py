"""``zk-audit``: replays the public topics and re-verifies everything; the first word may name another tool."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from anchor import open_anchor
from consumers.audit import bundle, compare, explain, watch
from consumers.audit.anchor_checks import held_by
from consumers.audit.checks import audit
from consumers.audit.collected import Collected
from consumers.audit.opening import add_trust, collect_run, open_source, place_of, policy_from
from consumers.audit.outcome import Audit
from consumers.audit.page import page, write_page
from consumers.audit.proofs import Job, Verdict, verify_all
from consumers.audit.remembered import Remembered
from consumers.audit.report import as_json, as_text
from consumers.audit.spot import random_spot
from consumers.audit.step_proofs import VerifyAll
from consumers.audit.workers import Workers
from zk_autograd.cli import HelpFormatter, run_command
from zk_autograd.errors import UsageError
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit

TOOLS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "compare": compare.parser,
    "bundle": bundle.parser,
    "unpack": bundle.unpack_parser,
    "explain": explain.parser,
    "watch": watch.parser,
}
"""By first word; each has a module of its own."""

_EPILOG = """examples:
  zk-audit --run 3f0c… --policy policy.json                 against what you chose to trust
  zk-audit --log kafka://broker:9092 --run 3f0c… --dev --json
  zk-audit run.zkb --policy policy.json                     a bundle: no log, no network
  zk-audit --run 3f0c… --policy policy.json --sample 5%     a quick look at some of the proofs

other tools (zk-audit TOOL --help):
  bundle    write one file with everything that an audit takes
  compare   find where two views of one log split
  explain   show one step from its event to its anchor
  unpack    write a bundle's circuit into a folder
  watch     audit a growing log again and again; alarm when it does not only grow

exit code: 0 sound, 1 violated, 2 could not be checked
"""


class _Parser(argparse.ArgumentParser):
    """Takes an audit's options, or a tool's name and its options."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = list(sys.argv[1:] if args is None else args)
        if words and words[0] in TOOLS:
            return TOOLS[words[0]]().parse_args(words[1:], namespace)
        return super().parse_args(words, namespace)


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit``."""
    p = _Parser(
        prog="zk-audit",
        description="Replay a log and re-verify one run: chain, schedule, every proof, commitments, Merkle "
        "log, anchors.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    p.add_argument("file", nargs="?", metavar="FILE", help="a bundle (zk-audit bundle), instead of --log")
    add_trust(p)
    p.add_argument(
        "--anchor", action="append", default=[], metavar="URI", help="ask this anchor now (check 10); may be repeated"
    )
    p.add_argument(
        "--epoch", type=int, metavar="N", help="verify the proofs of this epoch only (of a run with --epoch-steps)"
    )
    p.add_argument(
        "--sample", metavar="K|P%", help="verify so many of the proofs, drawn at random: exit code 2 if all is well"
    )
    p.add_argument("--seed", metavar="HEX", help="with --sample: draw the same proofs again (default: a fresh seed)")
    p.add_argument(
        "--one-by-one", action="store_true",
        help="let EZKL verify every proof by itself: about ten times slower, and trusts no other verifier",
    )  # fmt: skip
    p.add_argument("--workers", type=int, help="processes that open records and verify proofs (default: one per core)")
    p.add_argument(
        "--resume", action="store_true",
        help="remember in --home which proofs hold, and do not verify again those that an earlier audit has remembered",
    )  # fmt: skip
    p.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page for people, too")
    p.set_defaults(run_command=_run)
    return p


def _trusted(found: Collected, out: Audit, policy: Policy) -> list[str]:
    """What the verdict takes from the log's own word, since the auditor's policy does not name it."""
    lines = []
    if policy.first_use:
        roots = found.policy.roots.items()
        lines += [f"{cls} root {root.hex()}" for cls, those in sorted(roots) for root in sorted(those)]
    if policy.circuits is None and out.circuit is not None:
        lines.append(f"circuit {out.circuit.id.hex()} (rebuild it with zk-setup --check)")
    if policy.ledger_keys is None:
        keys = sorted({o.key_id for o in found.checkpoints})
        lines += [f"ledger key {found.ring.keys[k].public_key.hex()} (pin it: ledger_keys)" for k in keys]
    if policy.anchors is None:
        beacon = out.sampling.beacon if out.sampling else ""
        lines += [
            f"anchor {a.anchor}{', which draws' if a.anchor == beacon else ''} (pin it: anchors)" for a in out.anchors
        ]
    return lines


def _run(args: argparse.Namespace) -> int:
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {args.workers}")
    policy, place = policy_from(args), place_of(args)
    if args.seed and not args.sample:
        raise UsageError("--seed goes with --sample")
    spot = random_spot(args.sample, args.seed) if args.sample else None
    uris = [*args.anchor, *(u for u in (policy.anchors or {}).values() if u)]
    live = [open_anchor(u) for u in dict.fromkeys(uris)]
    held = held_by(live)
    with open_source(*place, args.home) as source, Workers(args.workers) as workers:
        found, run_id = collect_run(source, args.run, policy, args.signatures, workers)
        remembered = Remembered(args.home, args.one_by_one) if args.resume else None
        with _verifier(args, remembered, len(found.proofs)) as verify:
            out = audit(
                found, run_id, policy, source.find_circuit, verify, live, args.origin, held, args.epoch, spot,
                workers,
            )  # fmt: skip
    out.remembered = remembered.count if remembered else 0
    out.trusted = _trusted(found, out, policy)
    name = found.runs.get(run_id, "")
    if args.html is not None:
        write_page(args.html, page(out, found, name))
    print(json.dumps(as_json(out, name)) if args.json else as_text(out, name))
    return out.exit_code


@contextmanager
def _verifier(args: argparse.Namespace, remembered: Remembered | None, total: int) -> Iterator[VerifyAll]:
    """Verifies proofs in parallel, and shows how far it is."""
    with Progress(
        TextColumn("verifying proofs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
        disable=args.json or not sys.stderr.isatty(),
    ) as progress:  # fmt: skip
        bar = progress.add_task("", total=total)

        def verify(circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict]:
            return verify_all(circuit, jobs, args.workers, lambda: progress.advance(bar), not args.one_by_one)

        def shown(circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict]:
            assert remembered is not None
            before = remembered.count
            found = remembering(circuit, jobs)
            progress.advance(bar, remembered.count - before)
            return found

        remembering = remembered.over(verify) if remembered else verify
        yield shown if remembered else verify


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-audit``."""
    return run_command(parser(), lambda args: int(args.run_command(args)), argv)


if __name__ == "__main__":
    sys.exit(main())
