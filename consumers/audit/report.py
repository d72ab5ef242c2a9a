"""The audit's outcome: one glance for people, one object for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from consumers.audit.outcome import Audit, Status
from consumers.audit.sampled import NOT_SAMPLED
from consumers.audit.spot import Random
from consumers.audit.statistics import in_words
from ledger.sampling import percent, rounded_down

_MARKS = {Status.PASSED: "ok  ", Status.VIOLATED: "FAIL", Status.UNCHECKED: "–   "}
_WORDS = {0: "SOUND", 1: "VIOLATED", 2: "COULD NOT BE CHECKED"}
_SHOWN = 5

NOT_PROVEN = (
    "Not proven: that the gradients came from the declared data and model code. "
    "The training enclave's attestation alone vouches for that."
)


CHAINED = (
    "Signatures: chained. Records that a signed one names by hash were taken for that, without a look at their own "
    "signatures."
)


NOT_VERIFIED = (
    "Not verified: the other proofs. They have the right length and name the commitments of their steps, and may be no "
    "proofs at all: a spot check is never called sound."
)


FILE_BEACON = (
    "the beacon is a file: whoever owns it can put back an older copy and draw again until the draw suits. For "
    "development only."
)


def as_text(out: Audit, name: str) -> str:
    """The report for people."""
    lines = [f"run {out.run_id.hex()}" + (f"  ({name})" if name else "")]
    for check in out.checks:
        lines.append(f"  {_MARKS[check.status]} {check.number:>2}  {check.title:<38} {check.detail}")
        lines += [f"             {text}" for text in check.findings[:_SHOWN]]
        if len(check.findings) > _SHOWN:
            lines.append(f"             … and {len(check.findings) - _SHOWN + check.more} more (see --json)")
    if out.gradients is not None and out.chain is not None and out.chain.steps:
        lines.append(f"  {in_words(out.gradients)}")
    if out.signatures == "chained":
        lines.append(f"  {CHAINED}")
    insecure = sorted(c for c in out.classes if c in {"SIMULATED", "DEV SRS"})
    if insecure:
        lines.append(
            f"  INSECURE development evidence: {', '.join(insecure)}. It shows who vouches, not what hardware did."
        )
    if out.epoch is not None and out.chain is not None:
        before, after = (out.chain.state_root(step).hex() for step in (out.steps[0] - 1, out.steps[-1]))
        lines.append(f"  epoch {out.epoch} begins with state {before}")
        lines.append(f"  and ends with state {after}. Proofs of other epochs were not verified.")
    lines += [f"  trusted on first use: {text}" for text in out.trusted]
    if out.remembered:
        lines.append(f"  {out.remembered} of {out.proofs_verified} proofs were verified by earlier audits of this home")
    lines += _sampled_lines(out) + _spot_lines(out)
    lines.append(f"  {NOT_PROVEN}")
    lines.append(f"verdict: {_WORDS[out.exit_code]}{_because(out)}")
    return "\n".join(lines)


def _sampled_lines(out: Audit) -> list[str]:
    if (sampling := out.sampling) is None:
        return []
    lines = [
        f"  sampled: {sampling.count} of {sampling.shards} shards of each step, drawn by {sampling.beacon} "
        f"(window {sampling.window}). A cheat is drawn with a probability of at least:"
    ]
    lines += [f"    {percent(chance.probability):>8} %  {chance.cheat}" for chance in sampling.chances(out.proven)]
    if sampling.others:
        lines.append(
            f"  {sampling.others} other sampled run(s) in this log: each is one more try for who may choose which run "
            "to show, unless it is audited too. "
            f"{sampling.abandoned} of them have recorded steps that are not proven, or no start that could be audited."
        )
    if sampling.beacon.startswith("file:"):
        lines.append(f"  INSECURE draw: {FILE_BEACON}")
    return [*lines, f"  {NOT_SAMPLED}"]


def _spot_lines(out: Audit) -> list[str]:
    if (spot := out.spot) is None:
        return []
    lines = [f"  spot check: {spot.picked} of {spot.total} proofs verified, {spot.how}."]
    if isinstance(spot, Random) and spot.picked < spot.total:
        lines.append("  A cheat that was there before the seed was drawn is among them with a probability of:")
        lines += [f"    {percent(p):>8} %  {words}" for words, _, p in spot.chances()]
    if spot.picked < spot.total:
        lines.append(f"  {NOT_VERIFIED}")
    return lines


def _spot(out: Audit) -> dict[str, Any] | None:
    if (spot := out.spot) is None:
        return None
    found: dict[str, Any] = {"verified": spot.picked, "proofs": spot.total, "chosen": spot.how}
    if isinstance(spot, Random):
        found["seed"] = spot.seed.hex()
        found["detection"] = [
            {"cheat": words, "proofs": bad, "probability": rounded_down(p)} for words, bad, p in spot.chances()
        ]
    return found | {"not_verified": NOT_VERIFIED if spot.picked < spot.total else ""}


def _sampled(out: Audit) -> dict[str, Any] | None:
    if (sampling := out.sampling) is None:
        return None
    return {
        "drawn": sampling.count,
        "shards": sampling.shards,
        "beacon": sampling.beacon,
        "window": sampling.window,
        "detection": [
            asdict(chance) | {"probability": rounded_down(chance.probability)}
            for chance in sampling.chances(out.proven)
        ],
        "other_runs": sampling.others,
        "runs_not_proven": sampling.abandoned,
        "insecure": FILE_BEACON if sampling.beacon.startswith("file:") else "",
        "not_proven": NOT_SAMPLED,
    }


def _because(out: Audit) -> str:
    if out.exit_code == 0:
        of = f"{out.sampling.count} of {out.sampling.shards} shards of " if out.sampling else ""
        every = f"{of}every one proven, logged and anchored"
        steps, finished = (len(out.chain.steps), out.chain.finished) if out.chain else (0, None)
        if out.epoch is not None:
            return f": epoch {out.epoch}, steps {out.steps[0]} to {out.steps[-1]}, {every}"
        return f"{'' if finished else ' SO FAR'}: {steps} steps, {every}" + (
            "" if finished else "; the run is not finished"
        )
    wanted = Status.VIOLATED if out.exit_code == 1 else Status.UNCHECKED
    # What is missed says more than the noise (0 and 1) that is left of it.
    for check in (*out.checks[2:], *out.checks[:2]):
        if check.status is wanted and not (wanted is Status.UNCHECKED and check.number == 10 and not check.findings):
            return f": check {check.number} ({check.title}): {(check.findings or [check.detail])[0]}"
    return ""


def _epoch(out: Audit) -> dict[str, Any] | None:
    if out.epoch is None or out.chain is None:
        return None
    first, last = out.steps[0], out.steps[-1]
    states = {"before": out.chain.state_root(first - 1).hex(), "after": out.chain.state_root(last).hex()}
    return {"epoch": out.epoch, "first_step": first, "last_step": last} | states


def as_json(out: Audit, name: str) -> dict[str, Any]:
    """The report for machines."""
    return {
        "run_id": out.run_id.hex(),
        "name": name,
        "verdict": {0: "sound", 1: "violated", 2: "unchecked"}[out.exit_code],
        "exit_code": out.exit_code,
        "steps": len(out.chain.steps) if out.chain else 0,
        "finished": bool(out.chain and out.chain.finished),
        "signatures": out.signatures,
        "steps_proven": out.proven,
        "epoch": _epoch(out),
        "sampled": _sampled(out),
        "spot_check": _spot(out),
        "proofs_verified": out.proofs_verified,
        "proofs_remembered": out.remembered,
        "rates": out.rates,
        "gradients": out.gradients,
        "ledger_size": out.size,
        "cosigned_size": out.cosigned,
        "classes": sorted(out.classes),
        "trusted_on_first_use": out.trusted,
        "records_refused": out.refused,
        "noise": out.noise,
        "anchors": [
            {"anchor": a.anchor, "counter": a.counter, "size": a.size, "root": a.root.hex()} for a in out.anchors
        ],
        "checks": [
            {
                "number": c.number,
                "title": c.title,
                "status": c.status.value,
                "detail": c.detail,
                "findings": c.findings,
                "more": c.more,
            }
            for c in out.checks
        ],
        "not_proven": NOT_PROVEN,
    }
