"""``zk-ledger fsck`` and ``zk-ledger rebuild``: the published log read whole, and made anew."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumers.ledger.history import Voice
from consumers.ledger.rebuild import rebuild
from consumers.options import Reporter, add_log, add_origin, log_url
from ledger.note import VerifierKey
from ledger.order import Order
from ledger.tiles import MAX_ENTRY_BYTES
from schemas.codec import decode
from schemas.topics import TOPICS
from schemas.wire import open_event_log
from tiles import Store, open_source, open_store
from tiles.fsck import DamageError, fsck
from zk_autograd.cli import HelpFormatter, add_home
from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.policy import load_policy
from zk_autograd.tee.keys import load_signing_key

if TYPE_CHECKING:
    from ledger.entries import Entry

EXIT_DAMAGED = 1

_FSCK = """examples:
  zk-ledger fsck /srv/log                             with the key of this home's ledger
  zk-ledger fsck https://log.example.org/main --key log.example.org/main+1a2b3c4d+AbC… --json
  zk-ledger fsck s3://bucket/prefix --policy policy.json

exit codes: 0 sound, 1 damaged, 2 could not be checked
"""
_REBUILD = """examples:
  zk-ledger rebuild --tiles /srv/log
  zk-ledger rebuild --tiles s3://bucket/prefix --log kafka://localhost:9092
"""


def add_tools(p: argparse.ArgumentParser) -> None:
    """The subcommands; without one, the ledger itself runs."""
    commands = p.add_subparsers(dest="command", metavar="{fsck,rebuild}", title="tools (without one, the ledger runs)")
    check = commands.add_parser(
        "fsck",
        help="re-read a published log whole and say the first bad place",
        description="Re-read every entry and every tile of a published log, from a folder, a bucket or a URL, and "
        "compare them with each other and with the signed checkpoint. Memory does not grow with the log.",
        epilog=_FSCK,
        formatter_class=HelpFormatter,
    )
    check.add_argument("place", metavar="DIR|URL", help="folder, s3://bucket/prefix, https://… or http://…")
    check.add_argument("--key", action="append", default=[], metavar="VKEY", help="a key of the log: name+id+base64")
    check.add_argument("--policy", type=Path, metavar="FILE", help="take the log's keys from a policy (ledger_keys)")
    check.add_argument("--no-key", action="store_true", help="do not check the checkpoint's signature")
    make = commands.add_parser(
        "rebuild",
        help="make the published tiles anew from the topics",
        description="Publish what the topics ledger and checkpoints hold: to an empty place, or one that is behind. "
        "The files are those that zk-ledger --tiles writes, to the byte.",
        epilog=_REBUILD,
        formatter_class=HelpFormatter,
    )
    make.add_argument("--tiles", required=True, metavar="DIR|URL", help="folder or s3://bucket/prefix to publish to")
    add_log(make)
    for command in (check, make):
        add_origin(command)
        add_home(command, "keys")
        command.add_argument("--json", action="store_true", help="print one JSON object")


def run_fsck(args: argparse.Namespace) -> int:
    """``zk-ledger fsck``."""
    keys = _keys(args)
    origin = None if keys is None else args.origin if not args.key else keys[0].name
    order, began = Order(), time.monotonic()
    with open_source(args.place) as source, _bar(args.json, "checking entries") as progress:
        try:
            found = fsck(source, origin, keys, _rule(order), progress)
        except DamageError as error:
            facts = {"file": error.file, "entry": error.entry, "expected": error.expected, "got": error.got}
            print(
                json.dumps({"verdict": "damaged", **facts, "message": str(error)}) if args.json else f"DAMAGED: {error}"
            )
            return EXIT_DAMAGED
    seconds = time.monotonic() - began
    if args.json:
        print(
            json.dumps(
                {
                    "verdict": "sound", "origin": found.head.origin, "size": found.head.size,
                    "root": found.head.root.hex(), "signature": "not checked" if keys is None else "checked",
                    "entries": found.entries, "runs": order.runs, "files": found.files, "bytes": found.bytes,
                    "spare": found.spare, "spares": found.spares, "seconds": round(seconds, 3),
                }
            )
        )  # fmt: skip
        return 0
    print(f"sound: {found.head.origin}, {found.entries:,} entries of {order.runs:,} runs, root {found.head.root.hex()}")
    print(f"  {found.files:,} files, {found.bytes:,} bytes read in {seconds:.1f} s")
    if keys is None:
        print("  SIGNATURE NOT CHECKED: anyone could have written this log; give --key")
    if found.spares:
        print(f"  {found.spares} files that the checkpoint does not need, such as {found.spare[0]}")
    return 0


def run_rebuild(args: argparse.Namespace) -> int:
    """``zk-ledger rebuild``."""
    path = args.home / "keys" / "ledger.pem"
    key = load_signing_key(path)
    with (
        open_event_log(log_url(args), create=False) as log,
        open_place(args) as store,
        _bar(args.json, "reading entries") as progress,
    ):
        voice = Voice(log, key.public_key, key.key_id, args.origin, Reporter(args.json))
        had, has = rebuild(voice, store, progress)
        name = store.name
    if args.json:
        print(json.dumps({"published": has, "before": had, "place": name}))
    else:
        print(f"{name}: published up to size {has:,} (before: {had:,})")
    return 0


def open_place(args: argparse.Namespace) -> Store:
    """Where to publish; UsageError if the home lies in it: whoever serves that folder would serve its secret keys."""
    if "://" not in args.tiles and Path(args.home).resolve().is_relative_to(Path(args.tiles).resolve()):
        raise UsageError(
            f"--tiles {args.tiles}: the home {args.home} with its secret keys is in there, and this folder is for "
            "everybody to read: give a folder of the log's own"
        )
    return open_store(args.tiles)


def _keys(args: argparse.Namespace) -> list[VerifierKey] | None:
    """The log's keys that the caller chose; None if the signature is not to be looked at."""
    if args.no_key:
        return None
    if args.key:
        keys = [VerifierKey.parse(text) for text in args.key]
        if len({key.name for key in keys}) > 1:
            raise UsageError("--key: expected keys of one name, the log's origin")
        return keys
    if args.policy:
        pinned = load_policy(args.policy).ledger_keys
        if not pinned:
            raise UsageError(f"{args.policy}: names no ledger_keys; give --key, or --no-key to leave the signature out")
        return [VerifierKey(args.origin, key) for key in sorted(pinned)]
    path = Home(args.home).path / "keys" / "ledger.pem"
    if not path.exists():
        raise UsageError("whose log is it? give --key or --policy, or --no-key to leave the signature out")
    return [VerifierKey(args.origin, load_signing_key(path).public_key)]


def _rule(order: Order) -> Callable[[int, bytes], None]:
    allowed = TOPICS["ledger"].events

    def check(index: int, data: bytes) -> None:
        entry: Entry = decode(data, allowed, MAX_ENTRY_BYTES, f"entry {index}")  # type: ignore[assignment]
        order.take(entry)

    return check


@contextmanager
def _bar(as_json: bool, line: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(
        TextColumn(line), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=as_json or not sys.stderr.isatty(),
    ) as progress:  # fmt: skip
        bar = progress.add_task("", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
