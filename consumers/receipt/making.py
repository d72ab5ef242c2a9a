"""Makes proof files and COSE receipts from a log."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from consumers.options import Reporter, log_url, policy_of
from consumers.receipt.shelf import Shelf, read_shelf
from ledger.proof import LogProof
from ledger.receipt import consistency_receipt, inclusion_receipt
from schemas.wire import open_event_log
from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.tee.keys import SigningKey, load_signing_key


def make(args: argparse.Namespace) -> int:
    """``zk-receipt make``: one file per place."""
    report, shelf = Reporter(args.json), _shelf(args)
    places = [shelf.index_of_step(args.run, place) if args.run else place for place in args.places]
    for index in places:
        shelf.require(index)
    extra = args.extra.read_bytes() if args.extra else None
    key = _ledger_key(args, shelf) if args.format == "cose" else None
    for index in places:
        entry = shelf.entries[index].body
        if key is None:
            path = tuple(shelf.tree.inclusion_proof(index, shelf.checkpoint.size))
            proof = LogProof(index, path, shelf.note, extra if args.extra else entry).encode()
            _write(args, report, f"entry-{index}.tlog-proof", proof.encode(), shelf, index)
            if args.extra:
                _write(args, report, f"entry-{index}.entry", entry, shelf, index)
        else:
            data = inclusion_receipt(
                shelf.tree, index, shelf.checkpoint.size, args.origin, key.sign, key.public_key
            )  # fmt: skip
            _write(args, report, f"entry-{index}.cose", data, shelf, index)
            _write(args, report, f"entry-{index}.entry", entry, shelf, index)
    return 0


def extend(args: argparse.Namespace) -> int:
    """``zk-receipt extend``: a COSE receipt that the log still begins with its first entries."""
    report, shelf = Reporter(args.json), _shelf(args)
    key, size = _ledger_key(args, shelf), shelf.checkpoint.size
    if not 1 <= args.old_size < size:
        raise UsageError(
            f"extend: the newest checkpoint is of {size} entries, so expected an older size from 1 to {size - 1}, "
            f"got {args.old_size}"
        )
    data = consistency_receipt(shelf.tree, args.old_size, size, args.origin, key.sign, key.public_key)
    _write(args, report, f"from-{args.old_size}-to-{size}.cose", data, shelf, None)
    return 0


def _shelf(args: argparse.Namespace) -> Shelf:
    with open_event_log(log_url(args), create=False) as log:
        return read_shelf(log, policy_of(args), args.origin)


def _ledger_key(args: argparse.Namespace, shelf: Shelf) -> SigningKey:
    """The ledger's own key: only roots that it has already signed as checkpoints are signed again."""
    path = Home(args.home).path / "keys" / "ledger.pem"
    if not path.exists():
        raise UsageError(
            f"{path}: not there. A COSE receipt is signed by the ledger's key: make it in the ledger's home, or take "
            "--format tlog-proof, which needs no key"
        )
    key = load_signing_key(path)
    if key.public_key != shelf.key.public_key:
        raise UsageError(f"{path}: is not the key of this log's ledger ({shelf.key})")
    return key


def _write(args: argparse.Namespace, report: Reporter, name: str, data: bytes, shelf: Shelf, index: int | None) -> None:
    path: Path = args.out / name
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    facts = {"file": str(path), "size": shelf.checkpoint.size, "key": str(shelf.key), "cosigned": shelf.cosigned}
    if args.json:
        print(json.dumps(facts if index is None else facts | {"index": index}))
    else:
        report(f"{path}: {len(data)} bytes, for size {shelf.checkpoint.size}; verifies under {shelf.key}")
