"""The report as one HTML page: for people who are no programmers, to be kept, printed or sent.

It stands alone: no script, no image, no font, no link; its content security policy forbids all of them and allows one
style, by its hash. Every text that is not this module's own goes through :func:`_t`, the only place where a value
enters the page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import tempfile
from bisect import bisect_right
from datetime import UTC, datetime
from pathlib import Path

from consumers.audit.collected import Collected
from consumers.audit.outcome import Audit, Status
from consumers.audit.report import NOT_PROVEN, as_text
from zk_autograd.errors import UsageError

_STEPS = 1000
"""Rows of the table of steps; longer runs show the first and the last half of these."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--page:#fff;--card:#f6f8fa;--line:#d1d9e0;
--good:#116329;--goodbg:#dafbe1;--bad:#a40e26;--badbg:#ffebe9;--open:#7d4e00;--openbg:#fff8c5}
@media (prefers-color-scheme:dark){:root{--ink:#f0f3f6;--soft:#a4adb8;--page:#0d1117;--card:#161b22;--line:#3d444d;
--good:#7ee787;--goodbg:#12261e;--bad:#ffa198;--badbg:#2d1214;--open:#f2cc60;--openbg:#272115}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2.2rem}
.verdict{border:2px solid;border-radius:.6rem;padding:1rem 1.2rem;margin:1rem 0}.verdict b{font-size:1.5rem}
.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--open)}
.verdict.good{background:var(--goodbg)}.verdict.bad{background:var(--badbg)}.verdict.open{background:var(--openbg)}
.verdict p{color:var(--ink);margin:.4rem 0 0}code,pre{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid var(--line)}
th{font-weight:600}td.n,th.n{text-align:right}.soft{color:var(--soft)}
.note{background:var(--card);border-left:.3rem solid var(--line);padding:.7rem 1rem;margin:1rem 0}
.note p{margin:.3rem 0 0}.warn{background:var(--openbg);border-color:var(--open)}.warn b{color:var(--open)}
pre{background:var(--card);padding:1rem;white-space:pre-wrap}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem}dt{font-weight:600}dd{margin:0}
@media print{details{display:none}}
"""

_WORDS = {
    0: ("good", "Sound", "Every check that was asked for passed, under keys and a policy that the auditor chose."),
    1: (
        "bad", "Violated",
        "Something does not hold: somebody signed what is not true, or something that was there is gone.",
    ),
    2: ("open", "Could not be checked", "Nothing is shown to be wrong, and not everything could be checked."),
}  # fmt: skip
_DEVELOPMENT = {
    "SIMULATED": "A key made for tests vouches for the signing keys: no protected hardware was shown to hold them.",
    "DEV SRS": "The proof system's parameters are local, and not those of a public ceremony: who made them can forge "
    "proofs.",
}
_MARKS = {
    Status.PASSED: ("good", "passed"),
    Status.VIOLATED: ("bad", "does not hold"),
    Status.UNCHECKED: ("open", "not checked"),
}
_PLAIN = (
    "Every record can be read, in the one form it may have.",
    "Every record is signed by a key with evidence of where it is kept.",
    "The run says at its start what will be done, with a known set of rules (a circuit).",
    "Each step names the one before it: none is missing, doubled or replaced.",
    "The learning rates are those that were declared at the start.",
    "For each part of each step there is a mathematical proof that it was computed by the declared rule.",
    "The proofs are about this run's steps and not about others.",
    "The public ledger has an entry for every step, in order.",
    "The ledger's signed summaries fit its entries: it only grew.",
    "Counters outside the ledger have recorded its state.",
    "These counters, asked now, say the same: nothing was taken back.",
    "The kinds of evidence are ones that the auditor accepts.",
)


def _t(value: object) -> str:
    """A value as text of the page, wherever it came from."""
    return html.escape(str(value), quote=True)


def page(out: Audit, found: Collected, name: str, made: datetime | None = None) -> str:
    """The whole document; ``made`` is when (default: now)."""
    kind, word, sentence = _WORDS[out.exit_code]
    if out.exit_code == 0 and not (out.chain and out.chain.finished):
        word = "Sound so far"
    if out.exit_code == 0 and out.trusted:
        sentence += " Where the policy names none, the log's own word was taken: see below."
    summary = as_text(out, name).splitlines()[-1].removeprefix("verdict: ").partition(": ")[2]
    when = f"{made or datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_t(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Audit of {_t(name or "a run")}: {_t(word)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Audit of the training run “{_t(name or "(no name)")}”</h1>
<p class="soft">Made {_t(when)}, of the run with the id <code>{_t(out.run_id.hex())}</code></p>
<p>A model was trained in steps, and a record of each step was published. This page says whether that record holds, as
far as the auditor's program could check it.</p>
<section class="verdict {kind}"><b>{_t(word)}</b><p>{_t(sentence)}</p><p>{_t(summary)}</p></section>
{_insecure(out)}
<section class="note"><b>What no audit of this kind can say</b><p>{_t(NOT_PROVEN)}</p></section>
{_run(out)}
{_checks(out)}
{_steps(out, found)}
{_anchors(out)}
{_trusted(out)}
<h2>The full report</h2>
<details><summary>As the auditor's program printed it</summary><pre>{_t(as_text(out, name))}</pre></details>
</main>
</body>
</html>
"""


def _insecure(out: Audit) -> str:
    insecure = sorted(c for c in out.classes if c in {"SIMULATED", "DEV SRS"})
    if not insecure:
        return ""
    text = f"Development evidence ({', '.join(insecure)}): for trying things out, not to rely on."
    lines = "".join(f"<p>{_t(_DEVELOPMENT[c])}</p>" for c in insecure)
    return f'<section class="note warn"><b>{_t(text)}</b>{lines}</section>'


def _run(out: Audit) -> str:
    if (chain := out.chain) is None:
        return ""
    start = chain.start
    rows = [
        ("Rule", start.optimizer),
        ("Size", f"{_count(start.shards, 'part')} of {start.shard_size:,} numbers"),
        ("Steps", f"{len(chain.steps)}, {'finished' if chain.finished else 'still going on'}"),
        (
            "Steps proven" if out.spot is None else "Steps with proofs",
            f"{out.proven} ({_count(out.proofs_verified, 'proof')} verified in this audit)",
        ),
        ("Ledger", _count(out.size, "entry", "entries")),
    ]
    if out.spot is not None:
        part = ": never called sound" if out.spot.picked < out.spot.total else ""
        rows.append(("Spot check", f"{out.spot.picked} of {out.spot.total} proofs were verified{part}"))
    if out.sampling is not None:
        text = f"of each step {out.sampling.count} of {out.sampling.shards} parts were drawn and had to be proven"
        rows.append(("Sampled", text))
    return f"<h2>The run</h2><dl>{''.join(f'<dt>{_t(a)}</dt><dd>{_t(b)}</dd>' for a, b in rows)}</dl>"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _checks(out: Audit) -> str:
    rows = []
    for check in out.checks:
        kind, mark = _MARKS[check.status]
        said = "".join(f"<br>{_t(text)}" for text in check.findings[:20])
        left = len(check.findings) - 20 + check.more
        more = f"<br>… and {left} more" if left > 0 else ""
        rows.append(
            f'<tr><td class="n">{check.number}</td><td>{_t(_PLAIN[check.number])}<br><span class="soft">'
            f'{_t(check.detail)}</span>{said}{more}</td><td class="{kind}">{_t(mark)}</td></tr>'
        )
    return (
        '<h2>What was checked</h2><div class="scroll"><table><thead><tr><th class="n">No.</th><th>Check</th>'
        f"<th>Outcome</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _steps(out: Audit, found: Collected) -> str:
    if (chain := out.chain) is None or not chain.steps:
        return ""
    anchored = sorted(a.size for a in out.anchors)
    count = len(chain.steps)
    half = _STEPS // 2
    shown = range(1, count + 1) if count <= _STEPS else [*range(1, half + 1), *range(count - half + 1, count + 1)]
    listed = frozenset(shown)
    leaves = {
        step: leaf for leaf, step in zip(found.ledger.own, found.ledger.own_steps, strict=True) if step in listed
    }  # fmt: skip
    rows = []
    for step in shown:
        event, leaf = chain.steps[step - 1].event, leaves.get(step)
        of = len(anchored) - bisect_right(anchored, leaf) if leaf is not None else 0
        by = f"by {_count(of, 'counter')}" if of else "no"
        rows.append(
            f'<tr><td class="n">{step}</td><td class="n">{_t(", ".join(f"{r:g}" for r in event.rates))}</td>'
            f"<td>{'yes' if step in out.accepted else 'no'}</td><td>{'no' if leaf is None else f'entry {leaf}'}</td>"
            f"<td>{_t(by)}</td><td><code>{_t(event.state_root.hex()[:16])}…</code></td></tr>"
        )
    cut = f"<p>Steps {half + 1} to {count - half} are left out of this table.</p>" if count > _STEPS else ""
    proven = "Proofs hold" if out.spot is None else "Proofs in place"
    return (
        f'<h2>Its steps</h2>{cut}<div class="scroll"><table><thead><tr><th class="n">Step</th>'
        f'<th class="n">Learning rate</th><th>{proven}</th><th>In the ledger</th><th>Anchored</th>'
        f"<th>Fingerprint of the state after it</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _anchors(out: Audit) -> str:
    rows = "".join(
        f'<tr><td><code>{_t(a.anchor)}</code></td><td class="n">{a.counter}</td><td class="n">{a.size}</td></tr>'
        for a in out.anchors
    )
    if not rows:
        return "<h2>Anchors</h2><p>None of the ledger's states was recorded by a counter outside of it.</p>"
    return (
        "<h2>Anchors</h2><p>Counters outside the ledger that cannot go back, and how many of its entries each has "
        "recorded:</p>"
        '<div class="scroll"><table><thead><tr><th>Anchor</th><th class="n">Count</th><th class="n">Entries</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _trusted(out: Audit) -> str:
    if not out.trusted:
        return ""
    items = "".join(f"<li><code>{_t(text)}</code></li>" for text in out.trusted)
    return (
        "<h2>Taken on trust</h2><p>The auditor's policy does not name these, so the verdict rests on the log's own "
        f"word for them. Compare them with what you know from elsewhere.</p><ul>{items}</ul>"
    )


def write_page(path: Path, text: str) -> None:
    """Writes the page, all or nothing; UsageError if it cannot be."""
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
