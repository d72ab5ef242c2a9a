"""``--prove``, ``--beacon`` and ``--window`` of ``zk-train``: which shards of each step a run undertakes to prove."""

from __future__ import annotations

import argparse
import re
from contextlib import suppress

from anchor import open_anchor, require_beacon
from producer.declaration import Terms
from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.home import Home

DEFAULT_WINDOW = 8
_SAMPLE = re.compile(r"sample:([1-9][0-9]{0,6})", re.ASCII)


def add_sampling(p: argparse.ArgumentParser) -> None:
    """Adds the options."""
    p.add_argument(
        "--prove",
        default="all",
        metavar="all|sample:K",
        help="every shard of every step, or K that are drawn after the step was anchored (default: %(default)s)",
    )
    p.add_argument(
        "--beacon",
        metavar="ANCHOR",
        help="with sample:K, the anchor that draws: its URI or identity (default: file:HOME/anchor, development only)",
    )
    p.add_argument(
        "--window",
        type=int,
        metavar="N",
        help=f"with sample:K, how many steps may be recorded beyond the last proven one (default: {DEFAULT_WINDOW})",
    )


def check_sampling(args: argparse.Namespace) -> tuple[int, int]:
    """How many shards of a step are drawn, and the window; both 0 if every shard is proven.

    Raises:
        UsageError: options that do not go together.
    """
    if args.prove == "all":
        for option, value in (("--beacon", args.beacon), ("--window", args.window)):
            if value is not None:
                raise UsageError(f"{option} goes with --prove sample:K")
        return 0, 0
    match = _SAMPLE.fullmatch(args.prove)
    if not match:
        raise UsageError(f"--prove: expected all, or sample:K with K from 1, got {args.prove[:40]!r}")
    window = DEFAULT_WINDOW if args.window is None else args.window
    if not 1 <= window < 1 << 31:
        raise UsageError(f"--window: expected at least 1, got {window}")
    return int(match.group(1)), window


def sampling_terms(args: argparse.Namespace, home: Home) -> Terms:
    """What the options undertake; the other terms are the default's. Makes the default beacon if it is not there.

    Raises:
        UsageError: options that do not go together, or a beacon that cannot draw.
        AnchorError: the beacon cannot be reached.
    """
    sampled, window = check_sampling(args)
    return Terms(sampled, _identity(args.beacon, home), window) if sampled else Terms()


def _identity(beacon: str | None, home: Home) -> str:
    """The identity of a beacon named by its URI, by its identity, or not at all."""
    if beacon is not None:
        with suppress(VerificationError):
            require_beacon(beacon)
            return beacon
    anchor = open_anchor(beacon or f"file:{home.path.absolute()}/anchor")
    if beacon is not None and anchor.identity() is None:  # a new one would draw nothing: nobody anchors there
        raise UsageError(f"--beacon {beacon[:200]}: no anchor there: make it with zk-anchor --init --anchor URI")
    identity = anchor.establish()
    try:
        require_beacon(identity)
    except VerificationError as error:
        raise UsageError(f"--beacon: {error}") from None
    return identity
