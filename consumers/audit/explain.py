"""``zk-audit explain STEP``: one step from its event to its anchor, each link checked.

The audit behind it verifies the proofs of this step only; all other checks are made over the whole run, as always.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from typing import Any

from consumers.audit.checks import audit
from consumers.audit.collected import Collected
from consumers.audit.opening import add_trust, collect_run, open_source, place_of, policy_from
from consumers.audit.outcome import Audit, Status
from consumers.audit.proofs import verify_all
from consumers.audit.sampled import check_terms, needed
from consumers.audit.spot import OneStep
from consumers.receipts import verified_receipt
from ledger.chain import RunChain
from ledger.checkpoint import parse_checkpoint
from ledger.tree import GrowingTree
from schemas.events import Block, StepProven, StepRecorded
from zk_autograd.cli import command_parser
from zk_autograd.errors import DecodeError, UsageError, ZkAutogradError
from zk_autograd.merkle import verify_inclusion
from zk_autograd.proofs.base import Commitments

MEANINGS = {
    "b1": "share of the first moment that is kept, in P (0 in step 1)",
    "c1": "share of the gradient in the first moment, in P",
    "b2": "share of the second moment that is kept, in P (0 in step 1)",
    "c2": "share of the squared gradient in the second moment, in P, with the guard bits",
    "A": "the learning rate of this step, with what the rule makes of it, in the format's units",
    "E": "eps of this step, in the units of the root",
    "r": "rounding offset of this step",
    "W": "weight decay of this step (the integer below or above, by turns)",
    "V": "weight decay of this step that goes through the momentum",
    "k": "how the largest second moment is carried over a change of scale",
    "u": "share of the momentum that is kept, in P (0 in step 1)",
    "c": "share of the gradient that enters the momentum",
    "B": "the second rate of the rule",
    "n": "elements of the tensor, by which means are taken",
    "e1": "eps1 of this step, in the units of squared gradients",
    "e2": "eps2 squared, in the units of squared weights",
    "D": "the square of d, in 1/256",
    "o": "rounding offset of the direction",
}
"""Of public integers, by name; the exact formulas: docs/optimizers.md and the statement's own ``public_integers``."""
_OTHER = "see docs/optimizers.md"
_SHOWN = 20


def explain(out: Audit, found: Collected, step: int) -> dict[str, Any]:
    """Everything that the log holds of one step.

    Raises:
        UsageError: the run, or the step, is not known well enough for that.
    """
    chain, circuit = out.chain, out.circuit
    if chain is None or circuit is None:
        raise UsageError(f"the run cannot be read: {out.checks[2].detail or '; '.join(out.checks[2].findings)}")
    if not 1 <= step <= len(chain.steps):
        raise UsageError(f"no step {step}: the run has steps 1 to {len(chain.steps)}")
    opened = chain.steps[step - 1]
    event = opened.event
    signer = found.ring.keys[opened.key_id]
    tree = found.ledger.tree
    leaves = {
        type(o.event): (leaf, o) for leaf, o in found.ledger.of_run()
        if isinstance(o.event, StepProven | StepRecorded) and o.event.step == step
    }  # fmt: skip
    entry = leaves.get(StepProven)
    receipts = [] if entry is None else _receipts(found, tree, entry[0])
    return {
        "run_id": out.run_id.hex(),
        "step": step,
        "event": {
            "id": opened.event_id.hex(),
            "previous": event.previous.hex(),
            "signed_by": opened.key_id.hex(),
            "evidence": signer.evidence_class.value,
            "rates": list(event.rates),
            "shifts": list(event.shifts),
            "state_before": chain.state_root(step - 1).hex(),
            "state_after": event.state_root.hex(),
            "gradient_and_hints": event.work_root.hex(),
        },
        "public_integers": _public(chain, step),
        "table_size_P": circuit.P,
        "proofs": _proofs(out, found, step),
        "recorded": leaves[StepRecorded][0] if StepRecorded in leaves else None,
        "entry": None if entry is None else _entry(tree, entry[0], entry[1].event_id),
        "checkpoint": None if entry is None else _checkpoint(found, tree, entry[0], entry[1].body),
        "receipts": receipts,
        "lacking": sorted(set(found.policy.anchors or ()) - {r["anchor"] for r in receipts}),
        "not_accepted": _not_accepted(out, found),
        "findings": [f"check {c.number}: {text}" for c in out.checks for text in c.findings],
    }


def _public(chain: RunChain, step: int) -> list[dict[str, Any]]:
    names, public = chain.statement.public, chain.steps[step - 1].event.public
    blocks: list[tuple[int, Block]] = list(enumerate(chain.start.blocks))
    return [
        {
            "block": number,
            "group": block.group,
            "shards": block.shards,
            "integers": [
                {"name": name, "value": value, "means": MEANINGS.get(name, _OTHER)}
                for name, value in zip(names, public[number * len(names) :], strict=False)
            ],
        }
        for number, block in blocks
    ]


def _proofs(out: Audit, found: Collected, step: int) -> list[dict[str, Any]]:
    assert out.circuit is not None
    accepted = {i for ids in out.accepted.choices(step) for i in ids}
    rows, there = [], found.proofs.of(step)
    for shard in needed(out, out.sampling, step):
        for opened in there.get(shard, []):
            proof = opened.event.proof
            row = {"shard": shard, "id": opened.event_id.hex(), "bytes": len(proof)}
            row |= {"sha256": hashlib.sha256(proof).hexdigest(), "verified": opened.event_id in accepted}
            if len(proof) == out.circuit.proof_bytes:
                names = Commitments.first_in(proof, out.circuit.statement)
                row["commitments"] = {n: getattr(names, n).hex() for n in ("pre", "post", "work", "hyper")}
            rows.append(row)
    return rows


def _entry(tree: GrowingTree, leaf: int, name: bytes) -> dict[str, Any]:
    return {"leaf": leaf, "of": tree.size, "id": name.hex(), "leaf_hash": tree.node(0, leaf).hex()}


def _checkpoint(found: Collected, tree: GrowingTree, leaf: int, data: bytes) -> dict[str, Any] | None:
    """The first checkpoint that covers the leaf, with the leaf's path to its root."""
    for number, opened in enumerate(found.checkpoints):
        try:
            checkpoint = parse_checkpoint(opened.event.note)
        except DecodeError:
            continue
        if leaf < checkpoint.size <= tree.size and tree.root_at(checkpoint.size) == checkpoint.root:
            path = tree.inclusion_proof(leaf, checkpoint.size)
            verify_inclusion(data, leaf, checkpoint.size, path, checkpoint.root)
            facts = {"number": number, "origin": checkpoint.origin, "size": checkpoint.size}
            signed_by = opened.key_id.hex()
            return facts | {
                "root": checkpoint.root.hex(), "signed_by": signed_by, "path": [node.hex() for node in path],
            }  # fmt: skip
    return None


def _receipts(found: Collected, tree: GrowingTree, leaf: int) -> list[dict[str, Any]]:
    """Of each anchor that counts the first receipt that covers the leaf."""
    named = found.policy.anchors
    first: dict[str, dict[str, Any]] = {}
    for number, opened in enumerate(found.anchored):
        event = opened.event
        if event.anchor in first or event.size <= leaf or (named is not None and event.anchor not in named):
            continue
        try:
            facts = verified_receipt(event, tree)
        except ZkAutogradError:
            continue  # check 9 has said so
        first[event.anchor] = {"number": number, "anchor": facts.anchor, "counter": facts.counter, "size": facts.size}
    return list(first.values())


def _not_accepted(out: Audit, found: Collected) -> list[str]:
    """What of a sampled run's terms the policy does not take."""
    terms = Audit(out.run_id)
    check_terms(terms, out.sampling, found.policy)
    return [check.detail for check in terms.checks if check.status is Status.UNCHECKED]


def exit_code(out: Audit, facts: dict[str, Any]) -> int:
    """0: the step is proven, entered, under a checkpoint and anchored, each as the policy wants it; 1: something is
    violated; 2: not that far."""
    if out.violations:
        return 1
    unsure = any(out.checks[i].status is Status.UNCHECKED for i in (0, 1, 2, 3, 4, 8, 11))
    unsure |= bool(facts["lacking"] or facts["not_accepted"])
    whole = facts["step"] in out.accepted and facts["entry"] and facts["checkpoint"] and facts["receipts"]
    return 2 if unsure or not whole else 0


def as_text(facts: dict[str, Any], code: int) -> str:
    """For people."""
    event, entry, checkpoint = facts["event"], facts["entry"], facts["checkpoint"]
    lines = [
        f"run {facts['run_id']}, step {facts['step']}",
        f"event       {event['id']}",
        f"            after {event['previous']}",
        f"            signed by {event['signed_by'][:16]}… ({event['evidence']})",
        f"            learning rate {', '.join(f'{r:g}' for r in event['rates'])}",
        f"state       {event['state_before']}",
        f"         -> {event['state_after']}",
        f"gradient    {event['gradient_and_hints']} (committed; whether it came from the data is not proven)",
    ]
    for block in facts["public_integers"][:_SHOWN]:
        lines.append(f"integers    block {block['block']}, {block['shards']} shard(s), P = {facts['table_size_P']}")
        lines += [f"            {i['name']:<3} {i['value']:>14}  {i['means']}" for i in block["integers"]]
    for row in facts["proofs"][:_SHOWN]:
        mark = "verified" if row["verified"] else "NOT ACCEPTED"
        lines.append(f"proof       shard {row['shard']}: {row['id']}, {row['bytes']} bytes, {mark}")
        for name, point in row.get("commitments", {}).items():
            lines.append(f"            {name:<5} {point[:32]}…")
    for what, rows in (("blocks", facts["public_integers"]), ("proofs", facts["proofs"])):
        if len(rows) > _SHOWN:
            lines.append(f"            … and {len(rows) - _SHOWN} more {what} (see --json)")
    if facts["recorded"] is not None:
        lines.append(f"recorded    leaf {facts['recorded']}, before its shards were drawn")
    lines.append(
        f"ledger      leaf {entry['leaf']} of {entry['of']}, hash {entry['leaf_hash']}" if entry
        else "ledger      no entry: the step is not logged as proven yet"
    )  # fmt: skip
    if checkpoint:
        lines.append(
            f"checkpoint  {checkpoint['number']}: size {checkpoint['size']}, root {checkpoint['root']}, included by "
            f"{len(checkpoint['path'])} hashes"
        )
    elif entry:
        lines.append("checkpoint  none covers it yet")
    lines += [f"anchored    {r['anchor']}, counter {r['counter']}, size {r['size']}" for r in facts["receipts"]]
    if entry and not facts["receipts"]:
        lines.append("anchored    no receipt covers it yet")
    lines += [f"anchored    not by {name}, which the policy names" for name in facts["lacking"][:_SHOWN]]
    lines += [f"sampled     {text}" for text in facts["not_accepted"]]
    lines += [f"finding     {text}" for text in facts["findings"][:_SHOWN]]
    words = {
        0: "this step is proven, logged and anchored; of other steps no proof was verified",
        1: "something in this run is violated (see the findings, and zk-audit)",
        2: "this step is not proven, logged and anchored as far as can be checked (zk-audit says why)",
    }
    return "\n".join([*lines, words[code]])


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit explain``."""
    p = command_parser(
        "zk-audit explain",
        "Show one step from its event to its anchor: identities, public integers and what they mean, "
        "proofs (verified), commitments, the ledger's leaf, its checkpoint, its receipts.",
        "examples:\n  zk-audit explain 17 --run 3f0c --policy policy.json\n"
        "  zk-audit explain 17 run.zkb --dev --json\n\n"
        "exit code: 0 proven, logged and anchored; 1 something in the run is violated; 2 not that far\n",
    )
    p.add_argument("step", type=int, metavar="STEP", help="the step's number, from 1")
    p.add_argument("file", nargs="?", metavar="FILE", help="a bundle, instead of --log")
    add_trust(p)
    p.set_defaults(run_command=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Explains a step."""
    policy = policy_from(args)
    with open_source(*place_of(args), args.home) as source:
        found, run_id = collect_run(source, args.run, policy, args.signatures)
        out = audit(
            found, run_id, policy, source.find_circuit,
            lambda circuit, jobs: verify_all(circuit, jobs, 1, lambda: None), [], args.origin, spot=OneStep(args.step),
        )  # fmt: skip
        facts = explain(out, found, args.step)
    code = exit_code(out, facts)
    print(json.dumps(facts | {"exit_code": code}) if args.json else as_text(facts, code))
    return code
