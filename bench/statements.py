"""The table of statements in docs/optimizers.md: ``python -m bench.statements`` writes it from the definitions."""

from __future__ import annotations

from pathlib import Path

from zk_autograd.proofs.base import PROFILES
from zk_autograd.proofs.ezkl.system import shard_size
from zk_autograd.statement import STATEMENTS

PAGE = Path(__file__).parent.parent / "docs" / "optimizers.md"
TORCH = {
    "adafactor-16": "`Adafactor`",
    "adafactor-64": "`Adafactor`",
    "adafactor-256": "`Adafactor`",
    "adam": "`Adam`",
    "adam-l2": "`Adam(weight_decay=…)`",
    "adamw": "`AdamW`",
    "adam-wide": "`Adam(wide=True)`",
    "adamw-wide": "`AdamW(wide=True)`",
    "amsgrad": "`Adam(amsgrad=True)`",
    "amsgrad-l2": "`Adam(amsgrad=True, weight_decay=…)`",
    "amsgradw": "`AdamW(amsgrad=True)`",
    "lamb": "– (`zk_autograd.optim.Lamb`)",
    "sgd": "`SGD`",
    "sgd-l2": "`SGD(weight_decay=…)`",
    "momentum": "`SGD(momentum=…)`",
    "momentum-l2": "`SGD(momentum=…, weight_decay=…)`",
    "nesterov": "`SGD(momentum=…, nesterov=True)`",
    "nesterov-l2": "`SGD(momentum=…, nesterov=True, weight_decay=…)`",
}


def table() -> str:
    """The table, in Markdown."""
    profile = PROFILES["default"]
    lines = [
        "| statement | in torch | state | hints | public integers | look-ups | cells a parameter | parameters a proof "
        "|",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, st in STATEMENTS.items():
        shard = shard_size(st, profile)
        cells = profile.columns * 2**profile.logrows / shard
        lists = (" ".join(names) or "–" for names in (st.state, st.hints, st.public))
        lines.append(f"| `{name}` | {TORCH[name]} | {' | '.join(lists)} | {st.lookups} | {cells:.1f} | {shard:,} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """``text`` with the table in its place."""
    start, end = text.index("-->\n") + len("-->\n"), text.index("<!-- end -->")
    return text[:start] + table() + "\n" + text[end:]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
