"""``zk-audit watch``: audits a growing log again and again, and alarms when it did not only grow.

Each round is a whole audit, but for proofs: one that was verified is not verified again. What a single audit cannot
see, that something is gone or another since the last look, is found by comparing with what the last round saw; of that
only sizes, roots and ids are kept. Alarms:

* ``violated``: a check of the audit does not hold (a gap or a fork in the chain is check 3);
* ``log rolled back``, ``log forked``: the ledger, or the run's chain, is shorter than it was, or another, or gone;
* ``checkpoint rolled back``: the largest checkpoint is gone;
* ``anchor rolled back``, ``anchor forked``: an anchor's newest receipt, or its live counter, is before what it was, or
  of another tree at the same count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from anchor import Anchor, open_anchor
from consumers.audit.anchor_checks import held_by
from consumers.audit.checks import audit
from consumers.audit.compare import view
from consumers.audit.opening import NoRunError, add_trust, collect_run, open_source, policy_from
from consumers.audit.outcome import Audit, Status
from consumers.audit.proofs import Job, Verdict, verify_all
from consumers.audit.remembered import Remembered
from consumers.audit.report import as_text
from consumers.audit.seen import Alarm, Seen, SeenFile
from consumers.audit.workers import Workers
from consumers.options import log_url
from zk_autograd.cli import command_parser
from zk_autograd.errors import UsageError
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit, Commitments


class Once:
    """Verifies each proof once; of those that hold, a digest is kept."""

    def __init__(self, verify: Callable[[Circuit, Sequence[Job]], list[Verdict]]) -> None:
        self._verify, self._held = verify, set[bytes]()

    def __call__(self, circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict]:
        names = [hashlib.sha256(repr((circuit.id, proof, public)).encode()).digest() for proof, public in jobs]
        fresh = [i for i, name in enumerate(names) if name not in self._held]
        made = dict(zip(fresh, self._verify(circuit, [jobs[i] for i in fresh]) if fresh else [], strict=True))
        self._held |= {names[i] for i, v in made.items() if v.checked and v.commitments is not None}
        return [
            made[i] if i in made else Verdict(Commitments.first_in(job[0], circuit.statement))
            for i, job in enumerate(jobs)
        ]


class Watch:
    """Rounds over one run; see the module's text."""

    def __init__(
        self, args: argparse.Namespace, policy: Policy, live: Sequence[Anchor],
        verify: Callable[[Circuit, Sequence[Job]], list[Verdict]],
    ) -> None:  # fmt: skip
        self._args, self._policy, self._live = args, policy, live
        self._verify, self._seen, self._run = Once(verify), Seen(), args.run
        place = (log_url(args), args.run or "", policy.to_json(), *(anchor.uri for anchor in live))
        self._file = SeenFile(args.home, *place) if args.resume else None
        self._load()

    @property
    def begins(self) -> str:
        """From where the next round goes on, in words."""
        if not self._seen.looked:
            return "nothing is kept of this log, run, policy and anchors: what is there now is what it begins with"
        return f"goes on from {self._seen.step} steps and {self._seen.entries} entries"

    def round(self) -> tuple[Audit | None, list[Alarm]]:
        """Audits what there is now; no audit if the run is gone. Errors of the log (not reachable) are the caller's."""
        self._load()
        args = self._args
        held = held_by(self._live)
        with open_source(log_url(args), None, args.home) as source:
            with Workers(args.workers) as workers:
                try:
                    found, run_id = collect_run(source, self._run, self._policy, args.signatures, workers)
                except NoRunError:
                    if alarms := self._seen.vanished():
                        return None, alarms
                    raise
                self._run = run_id.hex()
                out = audit(
                    found, run_id, self._policy, source.find_circuit, self._verify, self._live, args.origin, held,
                    workers=workers,
                )  # fmt: skip
            now = view(source.log.url, found, self._policy, args.origin)
        heads = [(anchor.uri, head) for anchor, head in zip(self._live, held, strict=True)]
        alarms = [
            Alarm("violated", f"check {check.number} ({check.title}): {text}")
            for check in out.checks
            if check.status is Status.VIOLATED
            for text in check.findings
        ]
        # After an alarm the file stays as it was, so that the next start finds what this one has found.
        alarms += self._seen.compare(now, found, out, heads)
        if self._file and not alarms:
            with self._file.locked():
                # Another watch of this home may have seen more meanwhile: that stays, and the next round is held to it.
                _, seen = self._file.load() or (self._run, self._seen)
                if not seen.compare(now, found, out, heads):
                    self._file.save(self._run, seen)
        return out, alarms

    def _load(self) -> None:
        if self._file and (kept := self._file.load()):
            self._run, self._seen = kept


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit watch``."""
    p = command_parser(
        "zk-audit watch",
        "Audit a growing log again and again, each proof once, until the run is finished and sound; end "
        "with an alarm when a check does not hold, or when log, checkpoints or anchors went back or became others.",
        "examples:\n  zk-audit watch --log kafka://broker:9092 --run 3f0c --policy policy.json --interval 30 --resume\n"
        "  zk-audit watch --run my-run --dev --json --seconds 3600\n\n"
        "exit code: 0 the run is finished and sound; 1 an alarm; 2 neither yet (--seconds), or the log is not there\n",
    )
    add_trust(p)
    p.add_argument("--anchor", action="append", default=[], metavar="URI", help="ask this anchor in each round")
    p.add_argument("--interval", type=float, default=10.0, metavar="SECONDS", help="pause between rounds (default: 10)")
    p.add_argument("--seconds", type=float, default=math.inf, help="end after so long (default: when it is finished)")
    p.add_argument("--workers", type=int, help="processes that verify proofs (default: one per core)")
    p.add_argument(
        "--resume", action="store_true",
        help="keep in --home what is seen and which proofs hold, and go on from there at the next start with the same "
        "log, run, policy and anchors",
    )  # fmt: skip
    p.set_defaults(run_command=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Watches a log."""
    if not (0 <= args.interval < math.inf and args.seconds >= 0) or (args.workers is not None and args.workers < 1):
        raise UsageError("--interval and --seconds: expected 0 or more; --workers: at least 1")
    policy = policy_from(args)
    uris = [*args.anchor, *(u for u in (policy.anchors or {}).values() if u)]

    def verify(circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict]:
        return verify_all(circuit, jobs, args.workers, lambda: None)

    remembering = Remembered(args.home, alone=False).over(verify) if args.resume else verify
    watch = Watch(args, policy, [open_anchor(u) for u in dict.fromkeys(uris)], remembering)
    if args.resume:
        print(f"zk-audit watch: {watch.begins}", file=sys.stderr, flush=True)
    deadline, last = time.monotonic() + args.seconds, ""
    while True:
        out, alarms = watch.round()
        facts = {
            "steps": len(out.chain.steps) if out and out.chain else 0, "proven": out.proven if out else 0,
            "entries": out.size if out else 0, "anchored": max((a.size for a in out.anchors), default=0) if out else 0,
            "exit_code": 1 if alarms or out is None else out.exit_code,
            "alarms": [{"kind": a.kind, "text": a.text} for a in alarms],
        }  # fmt: skip
        verdict = as_text(out, "").splitlines()[-1] if out else "VIOLATED: the run is gone"
        last = _say(args.json, facts, verdict, last)
        if alarms or out is None:
            return 1
        finished = out.chain is not None and out.chain.finished is not None
        if (finished and out.exit_code == 0) or time.monotonic() + args.interval >= deadline:
            return out.exit_code
        time.sleep(args.interval)


def _say(as_json: bool, facts: dict[str, Any], verdict: str, last: str) -> str:
    """One line a round, if it says something new; alarms always."""
    line = json.dumps(facts) if as_json else (
        f"{facts['steps']} steps, {facts['proven']} proven, {facts['entries']} entries, {facts['anchored']} anchored; "
        f"{verdict}"
    )  # fmt: skip
    if line != last:
        print(line, flush=True)
    if not as_json:
        for alarm in facts["alarms"]:
            print(f"ALARM {alarm['kind']}: {alarm['text']}", flush=True)
    return line
