"""The table of statements in docs/optimizers.md: ``python -m bench.statements`` writes it from the definitions."""

from __future__ import annotations

from pathlib import Path

from zk_autograd.proofs.base import PROFILES
from zk_autograd.proofs.ezkl.system import shard_size
from zk_autograd.statement import STATEMENTS

GENERAL = "StatementOptimizer(statement=…)"
PAGE = Path(__file__).parent.parent / "docs" / "optimizers.md"


def table() -> str:
    """The table, in Markdown."""
    profile = PROFILES["default"]
    lines = [
        "| statement | in `zk_autograd.optim` | state | hints | public integers | look-ups | cells a parameter "
        "| parameters a proof |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, st in STATEMENTS.items():
        shard = shard_size(st, profile)
        cells = profile.columns * 2**profile.logrows / shard
        lists = (" ".join(names) or "–" for names in (st.state, st.hints, st.public))
        lines.append(
            f"| `{name}` | `{st.optimizer or GENERAL}` | {' | '.join(lists)} | {st.lookups} | {cells:.1f} | {shard:,} |"
        )
    return "\n".join(lines)


def page(text: str) -> str:
    """``text`` with the table in its place."""
    start, end = text.index("-->\n") + len("-->\n"), text.index("<!-- end -->")
    return text[:start] + table() + "\n" + text[end:]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
