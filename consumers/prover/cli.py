"""``zk-prove``: attaches a zero-knowledge proof to every shard of every step."""

from __future__ import annotations

import argparse
import math
import os
import re
import secrets
import signal
import sys

from consumers.options import Idle, Reporter, add_common, announce, log_url, policy_of
from consumers.prover.answered import Answered
from consumers.prover.crew import run_crew
from consumers.prover.draws import Draws
from consumers.prover.memory import available, peak, workers
from consumers.prover.outbox import Outbox
from consumers.prover.publisher import Publisher
from consumers.prover.worker import DRAW_LIMIT, Worker
from consumers.steps_view import StepsView
from schemas.events import Role
from schemas.wire import open_event_log
from zk_autograd.cli import command_parser, run_command
from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.proofs.base import Limits
from zk_autograd.proofs.store import CircuitStore, largest_key
from zk_autograd.tied import end_with_parent

_EPILOG = """examples:
  zk-prove                                        proves what the home's log holds, and waits for more
  zk-prove --log kafka://localhost:9092 --name a  one of several provers that share the work
  zk-prove --workers auto                         as many provers as this machine's cores and memory allow
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-prove``."""
    p = command_parser(
        "zk-prove",
        "Take encrypted witnesses, prove each, publish the proofs. Several provers share one consumer group. Of one "
        "witness only one proof is published, whatever the group: the one that was claimed first.",
        _EPILOG,
    )
    add_common(p)
    p.add_argument(
        "--name",
        default="",
        help="name of this prover, one per process: a second one of that name takes over and the first ends",
    )
    p.add_argument("--group", default="zk-prove", help="consumer group (default: %(default)s)")
    p.add_argument("--time-limit", type=float, default=600.0, metavar="SECONDS", help="for one proof (default: 600)")
    p.add_argument(
        "--memory-limit", type=float, default=12.0, metavar="GIB", help="address space of one proof (default: 12)"
    )
    p.add_argument(
        "--workers",
        default="1",
        metavar="N",
        help="provers in this command, which share the group and the cores; auto: as many as there are cores and as "
        "fit into memory (default: 1)",
    )
    p.add_argument("--worker-of", type=int, help=argparse.SUPPRESS)
    p.add_argument(
        "--draw-limit",
        type=float,
        default=DRAW_LIMIT,
        metavar="SECONDS",
        help="give up what waits for a draw after so long without news of its run: others go on (default: 3600)",
    )
    p.add_argument(
        "--skip-foreign",
        action="store_true",
        help="pass over witnesses whose circuit or data key is not in this home, instead of ending: for a group of "
        "your own on a log that others train on, too",
    )
    p.add_argument(
        "--instead-of",
        action="append",
        default=[],
        type=_key_id,
        metavar="KEY",
        help="prove what the prover with this key id has claimed and never published. Only if its home is gone for "
        "good: should it publish after all, two proofs of one witness are known; may be repeated",
    )
    return p


def _key_id(text: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"expected a key id, 64 hexadecimal digits, got {text[:80]!r}")
    return bytes.fromhex(text)


def _run(args: argparse.Namespace) -> int:
    for option, value in (
        ("--time-limit", args.time_limit),
        ("--memory-limit", args.memory_limit),
        ("--draw-limit", args.draw_limit),
    ):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option}: expected a number above 0, got {value}")
    home, report = Home(args.home), Reporter(args.json)
    policy = policy_of(args)
    if args.worker_of is not None:
        end_with_parent(args.worker_of, signal.SIGTERM)
    elif args.workers != "1":
        cores = len(os.sched_getaffinity(0))
        count = workers(args.workers, cores, peak(largest_key(home.path, policy.circuits)), available())
        if count > 1:
            report(f"{count} provers", workers=count)
            return run_crew([_member(args, number) for number in range(1, count + 1)], max(1, cores // count))
    key = home.signing_key("PROVER", args.name)
    # A prover with a name ends at once what its predecessor left open when it was killed; what one without a name
    # leaves open, readers wait for until the log gives it up (about a minute on Kafka).
    instance = args.name or f"{os.getpid()}-{secrets.token_hex(4)}"
    with open_event_log(log_url(args)) as log:
        announce(log, home, Role.PROVER, key, f"zk-prove-announce-{instance}")
        view = StepsView(log, policy)
        view.refresh()
        with log.producer(f"zk-prove-{instance}") as producer, log.group(args.group, ["witness"]) as group:
            limits = Limits(args.time_limit, int(args.memory_limit * 2**30))
            circuits = CircuitStore(home.path, policy.circuits)
            answered, partitions = Answered(log, view), log.partitions("witness")
            draws = Draws(log, view, policy, report)
            outbox = Outbox(home.claimed_proofs)
            publisher = Publisher(log, policy, view, answered, outbox, producer, key, args.instead_of)
            worker = Worker(
                home, circuits, view, answered, publisher, group, producer, key, limits, partitions, report,
                args.skip_foreign, draws, args.draw_limit,
            )  # fmt: skip
            report(f"proving from {log.url} as {key.key_id.hex()[:12]}", key_id=key.key_id.hex())
            publisher.resume(home, report)
            idle = Idle(args.idle_exit)
            while not idle.over:
                if worker.run_once(timeout=0.5):
                    idle.worked()
            answered.close()
            publisher.close()
            draws.close()
        view.close()
    report(f"{worker.proven} proofs published", proven=worker.proven)
    return 0


def _member(args: argparse.Namespace, number: int) -> list[str]:
    """The command line of one of several provers: this one's, with a name of its own if there is one."""
    words = ["--home", str(args.home), "--group", args.group]
    for option in ("log", "policy", "idle_exit", "time_limit", "memory_limit", "draw_limit"):
        if getattr(args, option) is not None:
            words += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
    words += ["--json"] * args.json + ["--skip-foreign"] * args.skip_foreign
    words += [word for key_id in args.instead_of for word in ("--instead-of", key_id.hex())]
    return [*words, "--name", f"{args.name}-{number}"] if args.name else words


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-prove``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
