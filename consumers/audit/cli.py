"""``zk-audit``: replays the public topics and re-verifies everything."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from anchor import open_anchor
from consumers.audit.checks import audit
from consumers.audit.collect import Collected, collect
from consumers.audit.log_checks import held_by
from consumers.audit.outcome import Audit
from consumers.audit.proofs import Verdict, verify_all
from consumers.audit.report import as_json, as_text
from consumers.options import add_reading, log_url
from schemas.wire import open_event_log
from zk_autograd.cli import run_command
from zk_autograd.errors import UsageError
from zk_autograd.policy import Policy, load_policy
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.store import CircuitStore

_EPILOG = """examples:
  zk-audit --run 3f0c… --policy policy.json                 against what you chose to trust
  zk-audit --log kafka://broker:9092 --run 3f0c… --dev --json
exit code: 0 sound, 1 violated, 2 could not be checked
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit``."""
    p = argparse.ArgumentParser(
        prog="zk-audit",
        description="Replay a log and re-verify one run: chain, schedule, every proof, commitments, Merkle "
        "log, anchors.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_reading(p, policy="what the log shows first, printed with the verdict", output="the report as one JSON object")
    p.add_argument("--run", required=True, metavar="ID", help="run id, or its first digits, or its name")
    p.add_argument(
        "--min-sampled",
        type=int,
        metavar="K",
        help="without --policy: accept a sampled run of which at least K shards a step are proven",
    )
    p.add_argument("--dev", action="store_true", help="without --policy: accept simulated evidence and a local SRS")
    p.add_argument(
        "--anchor", action="append", default=[], metavar="URI", help="ask this anchor now (check 10); may be repeated"
    )
    p.add_argument("--origin", help="the log's expected name in its checkpoints (default: the first checkpoint's)")
    p.add_argument(
        "--epoch", type=int, metavar="N", help="verify the proofs of this epoch only (of a run with --epoch-steps)"
    )
    p.add_argument(
        "--one-by-one", action="store_true",
        help="let EZKL verify every proof by itself: about ten times slower, and trusts no other verifier",
    )  # fmt: skip
    p.add_argument("--workers", type=int, help="processes that verify proofs (default: one per core)")
    return p


def _policy(args: argparse.Namespace) -> Policy:
    if args.policy:
        if args.dev:
            raise UsageError("--dev goes without --policy: say in the policy file which classes count")
        if args.min_sampled is not None:
            raise UsageError("--min-sampled goes without --policy: say it in the policy file (min_sampled)")
        return load_policy(args.policy)
    if args.min_sampled is not None and args.min_sampled < 1:
        raise UsageError(f"--min-sampled: expected at least 1, got {args.min_sampled}")
    classes = frozenset({"NITRO", "SEV_SNP"}) | ({"SIMULATED"} if args.dev else frozenset())
    srs = frozenset({"CEREMONY"}) | ({"DEV"} if args.dev else frozenset())
    return Policy(evidence_classes=classes, srs_classes=srs, min_sampled=args.min_sampled, first_use=True)


def _find_run(found: Collected, wanted: str) -> bytes:
    matches = sorted(i for i, name in found.runs.items() if name == wanted or i.hex().startswith(wanted.lower()))
    if len(matches) == 1:
        return matches[0]
    listed = "".join(f"\n  {i.hex()}  {name}" for i, name in sorted(found.runs.items())[:20]) or " none"
    what = "no run" if not matches else f"{len(matches)} runs"
    raise UsageError(f"{what} {wanted[:64]!r} in this log; it holds:{listed}")


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
            f"anchor {a.anchor}{', which draws,' if a.anchor == beacon else ''} (pin it: anchors)" for a in out.anchors
        ]
    return lines


def _run(args: argparse.Namespace) -> int:
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {args.workers}")
    policy = _policy(args)
    uris = [*args.anchor, *(u for u in (policy.anchors or {}).values() if u)]
    live = [open_anchor(u) for u in dict.fromkeys(uris)]
    held = held_by(live)
    with open_event_log(_to_read(log_url(args)), create=False) as log:
        wanted = args.run
        first = collect(log, bytes(32), policy) if not _is_id(wanted) else None
        run_id = _find_run(first, wanted) if first is not None else bytes.fromhex(wanted)
        found = collect(log, run_id, policy)
    if found.start is None and not (found.chain or found.proofs or found.named):
        _find_run(found, wanted)
    circuits = CircuitStore(args.home, None)
    with Progress(
        TextColumn("verifying proofs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
        disable=args.json or not sys.stderr.isatty(),
    ) as progress:  # fmt: skip
        bar = progress.add_task("", total=None)

        def verify(circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]]) -> list[Verdict]:
            progress.update(bar, total=len(jobs))
            return verify_all(circuit, jobs, args.workers, lambda: progress.advance(bar), not args.one_by_one)

        out = audit(found, run_id, policy, circuits, verify, live, args.origin, held, args.epoch)
    out.trusted = _trusted(found, out, policy)
    name = found.runs.get(run_id, "")
    print(json.dumps(as_json(out, name)) if args.json else as_text(out, name))
    return out.exit_code


def _to_read(url: str) -> str:
    """The URL of an embedded log such that the audit cannot change its file, or make one that is not there."""
    scheme, _, query = url.partition("?")
    if not scheme.startswith("sqlite://") or "mode=" in query:
        return url
    return f"{url}{'&' if query else '?'}mode=ro"


def _is_id(text: str) -> bool:
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-audit``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
