"""What every subcommand of ``zk-audit`` shares: what is read, which run, and what its auditor trusts."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from consumers.audit.bundle_log import BundleLog
from consumers.audit.collect import collect, started_runs
from consumers.audit.collected import Collected
from consumers.audit.signatures import MODES
from consumers.audit.workers import Workers
from consumers.options import add_reading, log_url
from schemas.wire import open_event_log
from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy, load_policy
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.store import CircuitStore


class NoRunError(UsageError):
    """The log holds no run of this id or name, or more than one."""


@dataclass(frozen=True)
class Source:
    """What an audit reads.

    Attributes:
        run_id: the only run that a bundle is of; None for a log.
        find_circuit: the auditor's own circuits, and where these lack one, the bundle's.
    """

    log: EventLog
    find_circuit: Callable[[bytes], Circuit]
    run_id: bytes | None = None


def add_trust(p: argparse.ArgumentParser) -> None:
    """Log, home, policy, and what can be said instead of a policy."""
    add_reading(p, policy="what the log shows first, printed with the verdict", output="the report as one JSON object")
    p.add_argument("--run", metavar="ID", help="run id, or its first digits, or its name (of a bundle: not needed)")
    p.add_argument(
        "--min-sampled",
        type=int,
        metavar="K",
        help="without --policy: accept a sampled run of which at least K shards a step are proven",
    )
    p.add_argument("--dev", action="store_true", help="without --policy: accept simulated evidence and a local SRS")
    p.add_argument(
        "--signatures", choices=MODES, default="all",
        help="chained: take records that a signed one names by hash without a look at their own signatures, which is "
        "several times faster (default: all)",
    )  # fmt: skip
    p.add_argument("--origin", help="the log's expected name in its checkpoints (default: the first checkpoint's)")


def policy_from(args: argparse.Namespace) -> Policy:
    """The auditor's policy: a file, or trust on first use."""
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


@contextmanager
def open_source(log_url: str | None, file: str | None, home: Path) -> Iterator[Source]:
    """A log by its URL, or a bundle by its file's name; read only."""
    own = CircuitStore(home, None)
    with ExitStack() as stack:
        if file is None:
            assert log_url is not None
            yield Source(stack.enter_context(open_event_log(_to_read(log_url), create=False)), own)
            return
        log = stack.enter_context(BundleLog(Path(file)))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="zk-audit-"))
        if log.index.circuit_id is not None:
            log.unpack_circuit(Path(folder))
        brought = CircuitStore(Path(folder), None)

        def find(circuit_id: bytes) -> Circuit:
            here = (home / "circuits" / circuit_id.hex()).exists() or circuit_id != log.index.circuit_id
            return own(circuit_id) if here else brought(circuit_id)

        yield Source(log, find, log.index.run_id)


def place_of(args: argparse.Namespace) -> tuple[str, str | None]:
    """The log's URL, and the bundle's file if one is named; UsageError for both."""
    if args.file is not None and args.log:
        raise UsageError("give a bundle's file or --log, not both")
    return log_url(args), args.file


def collect_run(
    source: Source, wanted: str | None, policy: Policy, mode: str = "all", workers: Workers | None = None
) -> tuple[Collected, bytes]:  # fmt: skip
    """One run's records and its id.

    Args:
        mode, workers: as for :func:`~consumers.audit.collect.collect`.
    Raises:
        NoRunError: no such run; the message names those there are.
        UsageError: none is named, or it is not the bundle's; no room for what is read.
    """
    if wanted is None and source.run_id is None:
        raise UsageError("give --run ID, or the file of a bundle (zk-audit bundle)")
    if wanted is None:
        assert source.run_id is not None
        run_id = source.run_id
    elif _is_id(wanted):
        run_id = bytes.fromhex(wanted)
    else:
        run_id = find_run(started_runs(source.log, policy), wanted)
    if source.run_id not in (None, run_id):
        assert source.run_id is not None
        raise UsageError(f"the bundle is of run {source.run_id.hex()}, not of {run_id.hex()}")
    found = collect(source.log, run_id, policy, mode, workers)
    if found.start is None and not (found.chain or found.proofs or found.named):
        find_run(found.runs, wanted or run_id.hex())
    return found, run_id


def find_run(runs: Mapping[bytes, str], wanted: str) -> bytes:
    """The id of the one run that is called so; NoRunError if there is none or more than one."""
    matches = sorted(i for i, name in runs.items() if name == wanted or i.hex().startswith(wanted.lower()))
    if len(matches) == 1:
        return matches[0]
    listed = "".join(f"\n  {i.hex()}  {name}" for i, name in sorted(runs.items())[:20]) or " none"
    what = "no run" if not matches else f"{len(matches)} runs"
    raise NoRunError(f"{what} {wanted[:64]!r} in this log; it holds:{listed}")


def _to_read(url: str) -> str:
    """The URL of an embedded log such that the audit cannot change its file, or make one that is not there."""
    scheme, _, query = url.partition("?")
    if not scheme.startswith("sqlite://") or "mode=" in query:
        return url
    return f"{url}{'&' if query else '?'}mode=ro"


def _is_id(text: str) -> bool:
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")
