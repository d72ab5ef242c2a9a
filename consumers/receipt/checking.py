"""Checks proof files and COSE receipts, offline: file, key and policy are all that is needed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consumers.options import ORIGIN
from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.cose import MAX_BYTES
from ledger.note import VerifierKey
from ledger.proof import MAX_PROOF_BYTES, parse_proof, verify_proof
from ledger.receipt import CONSISTENCY, parse_receipt, verify_consistency_receipt, verify_inclusion_receipt
from schemas.codec import decode
from schemas.events import EpochClosed, RunClosed, RunOpened, StepProven, StepRecorded
from schemas.topics import TOPICS
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.files import read_capped
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Policy, Witnesses, load_policy, require_outsiders

_ENTRIES = (RunOpened, StepRecorded, StepProven, EpochClosed, RunClosed)


def check(args: argparse.Namespace) -> int:
    """``zk-receipt check``: 0 it holds, 1 it does not."""
    keys, witnesses = _trust(args)
    try:
        data = _read(args.file, MAX_PROOF_BYTES)
        if data[:1] == b"\xd2":
            if witnesses:
                raise UsageError(f"{args.file}: a COSE receipt has no cosignatures; take a tlog-proof, or ask for none")
            found = _receipt(args, data, keys)
        else:
            found = _proof(args, data, keys, witnesses)
    except (DecodeError, VerificationError) as error:
        print(json.dumps({"holds": False, "reason": str(error)}) if args.json else f"DOES NOT HOLD: {error}")
        return 1
    if args.json:
        print(json.dumps({"holds": True} | found))
        return 0
    print(_words(args, found))
    return 0


def _trust(args: argparse.Namespace) -> tuple[list[VerifierKey], Witnesses | None]:
    """Whose signatures count, by the caller's word alone."""
    if bool(args.policy) == bool(args.key):
        raise UsageError("give either --policy FILE (with ledger_keys), or --key KEY, as zk-ledger prints it")
    policy = load_policy(args.policy) if args.policy else Policy()
    try:
        keys = [VerifierKey.parse(text) for text in args.key]
        given = {WitnessKey.parse(text): "" for text in args.witness}
    except DecodeError as error:
        raise UsageError(str(error)) from None
    args.origin = args.origin or (keys[0].name if keys else ORIGIN)
    if args.policy:
        if not policy.ledger_keys:
            raise UsageError(f"{args.policy}: names no ledger_keys: a proof has to be by a key that you chose")
        keys = [VerifierKey(args.origin, key) for key in sorted(policy.ledger_keys)]
    if (given or args.quorum is not None) and policy.witnesses:
        raise UsageError("--witness and --quorum go without a policy that names witnesses")
    if bool(given) != (args.quorum is not None):
        raise UsageError("--witness and --quorum go together")
    require_outsiders(given, (key.public_key for key in keys))
    return keys, Witnesses(args.quorum, given) if given else policy.witnesses


def _proof(
    args: argparse.Namespace, data: bytes, keys: list[VerifierKey], witnesses: Witnesses | None
) -> dict[str, Any]:
    proof = parse_proof(_text(data))
    entry = _read(args.entry, TOPICS["ledger"].cap) if args.entry else proof.extra
    if entry is None:
        raise UsageError(f"{args.file}: holds no entry: give it with --entry FILE")
    those, quorum = (witnesses.keys, witnesses.quorum) if witnesses else ((), 0)
    checkpoint = verify_proof(proof, entry, args.origin, keys, those, quorum)
    return _facts("inclusion", proof.index, checkpoint.size, checkpoint.root, entry) | {"quorum": quorum}


def _receipt(args: argparse.Namespace, data: bytes, keys: list[VerifierKey]) -> dict[str, Any]:
    receipt = parse_receipt(data[: MAX_BYTES + 2])
    public_keys = {key.public_key for key in keys}
    if len(public_keys) != 1:
        raise UsageError("a COSE receipt is by one key: give that one")
    (public_key,) = public_keys
    if receipt.kind == CONSISTENCY:
        if not args.since:
            raise UsageError("a receipt of consistency: give the proof file that you hold of the older tree (--since)")
        old = _checkpoint_of(args.since, args.origin, keys)
        if old.size != receipt.first:
            raise UsageError(
                f"{args.since}: its checkpoint is of {old.size} entries, and the receipt goes on from {receipt.first}: "
                f"give a file that was made at size {receipt.first}, or ask for a receipt that extends {old.size}"
            )
        receipt, root = verify_consistency_receipt(data, old.size, old.root, args.origin, public_key)
        return {"proves": "consistency", "old_size": old.size, "size": receipt.size, "root": root.hex(), "quorum": 0}
    if not args.entry:
        raise UsageError("a COSE receipt holds no entry: give it with --entry FILE")
    entry = _read(args.entry, TOPICS["ledger"].cap)
    receipt = verify_inclusion_receipt(data, entry, args.origin, public_key)
    return _facts("inclusion", receipt.first, receipt.size, None, entry) | {"quorum": 0}


def _checkpoint_of(path: Path, origin: str, keys: list[VerifierKey]) -> Checkpoint:
    """The checkpoint in a proof file, or in a file by itself."""
    text = _text(_read(path, MAX_PROOF_BYTES))
    note = parse_proof(text).note if text.startswith("c2sp.org/tlog-proof@") else text
    return verify_checkpoint(note, origin, keys)


def _facts(proves: str, index: int, size: int, root: bytes | None, entry: bytes) -> dict[str, Any]:
    try:
        event = decode(entry, _ENTRIES, TOPICS["ledger"].cap)
    except DecodeError:
        said: dict[str, Any] | None = None
    else:
        fields = {name: v.hex() if isinstance(v, bytes) else v for name, v in asdict(event).items()}
        said = {"kind": type(event).__name__} | fields
    return {"proves": proves, "index": index, "size": size, "root": root.hex() if root else None, "entry": said}


def _read(path: Path, cap: int) -> bytes:
    try:
        return read_capped(path, cap)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("neither a proof file nor a COSE receipt") from error


def _words(args: argparse.Namespace, found: dict[str, Any]) -> str:
    who = f", cosigned by at least {found['quorum']} of your witnesses" if found["quorum"] else ""
    if found["proves"] == "consistency":
        return (
            f"HOLDS: the log {args.origin} of {found['size']} entries begins with its first {found['old_size']} as you "
            "know them"
        )
    entry = found["entry"]
    what = "an entry that is none of zk-autograd's"
    if entry:
        fields = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "kind")
        what = f"{entry['kind']} ({fields})"
    return f"HOLDS: entry {found['index']} of {found['size']} of {args.origin}{who}: {what}"
