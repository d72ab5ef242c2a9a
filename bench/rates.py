"""Which learning rates every optimizer covers: ``python -m bench.rates`` writes the table into docs/accuracy.md."""

from __future__ import annotations

from pathlib import Path

from zk_autograd.errors import FormatError
from zk_autograd.optim.advice import choose_format
from zk_autograd.proofs.base import PROFILES
from zk_autograd.statement import STATEMENTS

RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
CLIP = 1.0
PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"


def covered(name: str, lr: float, P: int) -> str:
    """Fractional bits of a weight, and by how much steps may be off on average; or what to use instead."""
    st = STATEMENTS[name]
    try:
        fmt = choose_format(st, st.defaults, lr, CLIP, P)
    except FormatError as error:
        return "refused: " + str(error).partition("it fits with ")[2]
    off = st.rate_error(st.defaults, lr, fmt, P)
    return f"{fmt.scale_w}, {off:.1%}"


def table() -> str:
    """The table, in Markdown."""
    lines = ["| statement | profile | " + " | ".join(f"{lr:g}" for lr in RATES) + " |", "|---" * (2 + len(RATES)) + "|"]
    for name in STATEMENTS:
        for i, profile in enumerate(sorted(PROFILES.values(), key=lambda profile: -profile.P)):
            cells = [f"`{name}`" if i == 0 else "", profile.name, *(covered(name, lr, profile.P) for lr in RATES)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


BEGIN, END = "<!-- table: python -m bench.rates -->", "<!-- end of rates -->"


def page(text: str) -> str:
    """``text`` with the table in its place."""
    return f"{text.split(BEGIN)[0]}{BEGIN}\n{table()}\n{END}{text.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
