"""``zk-audit compare A B``: whether two views of one log agree, and where they split if not.

1. only what an accepted ledger key has signed counts, on either side;
2. the first leaf at which the ledgers differ: a split;
3. two notes by one key that cannot both be of one log: evidence against its holder, and printed whole;
4. receipts of one anchor that contradict each other;
5. a side whose own checkpoints or receipts are of more entries than it has, which the other has: it was rolled back.

A side that only ends earlier is older, which is no contradiction.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from anchor import ReceiptFacts, verify_receipt
from consumers.audit.collect import collect
from consumers.audit.collected import Collected
from consumers.audit.opening import add_trust, open_source, policy_from
from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.note import VerifierKey
from ledger.tree import GrowingTree
from zk_autograd.cli import command_parser
from zk_autograd.errors import UsageError, ZkAutogradError
from zk_autograd.policy import Policy


@dataclass(frozen=True)
class Signed:
    """A checkpoint whose signature holds, the key that made it, and its text."""

    checkpoint: Checkpoint
    key: bytes
    note: str


@dataclass(frozen=True)
class View:
    """One side."""

    name: str
    found: Collected
    tree: GrowingTree
    checkpoints: list[Signed]
    receipts: list[ReceiptFacts]


def view(name: str, found: Collected, policy: Policy, origin: str | None) -> View:
    """What of one side counts; the rest is left to its audit."""
    signed, receipts = [], []
    for opened in found.checkpoints:
        key, note = found.ring.keys[opened.key_id].public_key, opened.event.note
        if policy.ledger_keys is not None and key not in policy.ledger_keys:
            continue
        try:
            named = note.split("\n", 1)[0]
            checkpoint = verify_checkpoint(note, origin or named, [VerifierKey(named, key)])
        except ZkAutogradError:
            continue
        signed.append(Signed(checkpoint, key, note))
    for anchored in found.anchored:
        event = anchored.event
        if policy.anchors is None or event.anchor in policy.anchors:
            try:
                receipts.append(verify_receipt(event.receipt, event.anchor))
            except ZkAutogradError:
                continue
    return View(name, found, found.ledger.tree, signed, receipts)


def compare(a: View, b: View) -> dict[str, Any]:
    """The comparison for machines; ``verdict`` is ``agree``, ``older``, ``contradict`` or ``not comparable``."""
    split = _first_difference(a.tree, b.tree)
    notes = _contradicting_notes(a, b, split)
    receipts = _contradicting_receipts(a, b)
    rolled = [text for one, other in ((a, b), (b, a)) for text in _rolled_back(one, other, split)]
    verdict = "agree" if a.tree.size == b.tree.size else "older"
    if not a.tree.size or not b.tree.size or not _same_log(a, b):
        verdict = "not comparable"
    elif split is not None or notes or receipts or rolled:
        verdict = "contradict"
    return {
        "verdict": verdict,
        "exit_code": {"agree": 0, "older": 0, "contradict": 1, "not comparable": 2}[verdict],
        "a": _side(a, split),
        "b": _side(b, split),
        "first_difference": split,
        "notes": notes,
        "receipts": receipts,
        "rolled_back": rolled,
    }


def _same_log(a: View, b: View) -> bool:
    """Whether both are by one ledger under one name: else two logs are two logs, and contradict nothing."""
    names = [{(s.checkpoint.origin, s.key) for s in side.checkpoints} for side in (a, b)]
    return bool(names[0] & names[1])


def _first_difference(a: GrowingTree, b: GrowingTree) -> int | None:
    """The first leaf that both have and that differs, found by halving: equal roots are equal leaves."""
    low, high = 0, min(a.size, b.size)
    if a.root_at(high) == b.root_at(high):
        return None
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if a.root_at(middle) == b.root_at(middle) else (low, middle)
    return low


def _contradicting_notes(a: View, b: View, split: int | None) -> list[dict[str, Any]]:
    """Pairs by one key: of one size with two roots first, which need no more than themselves as evidence.

    Both may be of one side: who says two things may say the right one again.
    """
    pairs: list[dict[str, Any]] = []
    known: dict[tuple[bytes, str, int], dict[bytes, Signed]] = {}
    for other in (*a.checkpoints, *b.checkpoints):
        roots = known.setdefault((other.key, other.checkpoint.origin, other.checkpoint.size), {})
        if roots and other.checkpoint.root not in roots:
            one = next(iter(roots.values()))
            pairs.append(_pair(one, other, "one size, two roots: these two notes alone show it"))
        roots.setdefault(other.checkpoint.root, other)
    if pairs:
        return pairs
    if split is None:
        return _notes_of_neither(a, b)
    # Each is of its own side's ledger, and these differ before either ends.
    mine = [s for s in a.checkpoints if _of(s, a.tree) and s.checkpoint.size > split]
    for one in mine[:1]:
        for other in [s for s in b.checkpoints if s.key == one.key and _of(s, b.tree) and s.checkpoint.size > split][
            :1
        ]:
            pairs.append(_pair(one, other, f"both cover leaf {split}, which differs: keep both ledgers with the notes"))
    return pairs


def _notes_of_neither(a: View, b: View) -> list[dict[str, Any]]:
    """Where the ledgers agree: a note that is not of their beginning, with one of the same key that covers it."""
    tree, notes = max(a.tree, b.tree, key=lambda tree: tree.size), [*a.checkpoints, *b.checkpoints]
    whole = {s.key: s for s in sorted(notes, key=lambda s: s.checkpoint.size) if _of(s, tree)}
    return [
        _pair(s, whole[s.key], f"the second covers the first {s.checkpoint.size} entries, and the first is of others: "
              "keep the ledger with the notes")
        for s in notes
        if s.key in whole and s.checkpoint.size < whole[s.key].checkpoint.size and not _of(s, tree)
    ][:1]  # fmt: skip


def _of(signed: Signed, tree: GrowingTree) -> bool:
    size = signed.checkpoint.size
    return size <= tree.size and tree.root_at(size) == signed.checkpoint.root


def _pair(one: Signed, other: Signed, why: str) -> dict[str, Any]:
    return {"key": one.key.hex(), "why": why, "a": one.note, "b": other.note}


def _contradicting_receipts(a: View, b: View) -> list[str]:
    """One anchor, one count, two trees; as with notes, both may be of one side."""
    first: dict[tuple[str, int], ReceiptFacts] = {}
    found = []
    for r in (*a.receipts, *b.receipts):
        one = first.setdefault((r.anchor, r.counter), r)
        if (one.size, one.root) != (r.size, r.root):
            found.append(
                f"{r.anchor}: counter {r.counter} is of {one.size} entries in one receipt and of {r.size} in another, "
                "or of another root"
            )
    return found


def _rolled_back(one: View, other: View, split: int | None) -> list[str]:
    """What this side's ledger must have had, as its own checkpoints or receipts say, and only the other has."""
    sizes = [(s.checkpoint.size, s.checkpoint.root, "a checkpoint") for s in one.checkpoints]
    sizes += [(r.size, r.root, f"a receipt of {r.anchor}") for r in one.receipts]
    size, root, what = max(sizes, default=(0, b"", ""))
    if size <= one.tree.size or split is not None:
        return []
    has = size <= other.tree.size and other.tree.root_at(size) == root
    theirs = "the other has them" if has else "the other has not got them either"
    return [f"{one.name}: {what} is of {size} entries, {one.tree.size} are there: entries were taken back; {theirs}"]


def _side(side: View, split: int | None) -> dict[str, Any]:
    entry: dict[str, Any] | None = None
    if split is not None:
        opened = side.found.ledger[split]
        event = opened.event
        entry = {"kind": type(event).__name__, "run_id": event.run_id.hex(), "id": opened.event_id.hex()}
        entry |= {"step": event.step} if hasattr(event, "step") else {}
        entry |= {"signed_by": opened.key_id.hex()}
    last = max((s.checkpoint.size for s in side.checkpoints), default=0)
    return {
        "name": side.name, "entries": side.tree.size, "root": side.tree.root().hex(),
        "checkpoints": len(side.checkpoints), "last_checkpoint": last, "receipts": len(side.receipts),
        "differing_entry": entry,
    }  # fmt: skip


def as_text(facts: dict[str, Any]) -> str:
    """The comparison for people."""
    lines = []
    for letter in "ab":
        side = facts[letter]
        lines.append(
            f"{letter.upper()}  {side['name']}\n   {side['entries']} entries, root {side['root']}, "
            f"{side['checkpoints']} checkpoints up to {side['last_checkpoint']}, {side['receipts']} receipts"
        )
    if (split := facts["first_difference"]) is not None:
        lines.append(f"the ledgers agree up to leaf {split}, and differ there:")
        for letter in "ab":
            entry = facts[letter]["differing_entry"]
            step = f" of step {entry['step']}" if "step" in entry else ""
            lines.append(f"   {letter.upper()}  {entry['kind']}{step}, run {entry['run_id'][:12]}, id {entry['id']}")
    for pair in facts["notes"]:
        lines.append(f"two notes by key {pair['key']} that contradict each other ({pair['why']}):")
        lines += [pair["a"], pair["b"]]
    lines += [*facts["receipts"], *facts["rolled_back"]]
    shorter = "A" if facts["a"]["entries"] < facts["b"]["entries"] else "B"
    words = {
        "agree": "AGREE: one log, equally far",
        "older": f"AGREE: one log; {shorter} is an older view of it (was there more? ask the anchors: zk-audit)",
        "contradict": "CONTRADICT: these are not two views of one log that only grew",
        "not comparable": "NOT COMPARABLE: no accepted key signed checkpoints of one name in both, or one is empty",
    }
    return "\n".join([*lines, f"verdict: {words[facts['verdict']]}"])


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit compare``."""
    p = command_parser(
        "zk-audit compare",
        "Find where two auditors' views of one log split: the first differing leaf, the signed checkpoints "
        "that contradict each other, receipts that do, and a roll-back of one side.",
        "examples:\n  zk-audit compare mine.zkb theirs.zkb --policy policy.json\n"
        "  zk-audit compare sqlite:///log.db kafka://broker:9092 --dev --json\n\n"
        "exit code: 0 they agree, or one is older; 1 they contradict each other; 2 not comparable\n",
    )
    p.add_argument("a", metavar="A", help="a log's URL, or a bundle's file")
    p.add_argument("b", metavar="B", help="another")
    add_trust(p)
    p.set_defaults(run_command=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Compares two views."""
    if args.log or args.run:
        raise UsageError("compare takes two logs or bundles by place, and neither --log nor --run")
    policy, views = policy_from(args), []
    for name in (args.a, args.b):
        is_log = "://" in name
        with open_source(name if is_log else None, None if is_log else name, args.home) as source:
            views.append(
                view(source.log.url, collect(source.log, bytes(32), policy, args.signatures), policy, args.origin)
            )
    facts = compare(*views)
    print(json.dumps(facts) if args.json else as_text(facts))
    return int(facts["exit_code"])
