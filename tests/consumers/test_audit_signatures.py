"""``zk-audit --signatures``: what the report says of it, from the command line."""

from __future__ import annotations

import json

import pytest

from consumers.audit.cli import main
from consumers.audit.report import CHAINED
from tests.support.forge import Case, flipped
from tests.support.pipeline import ORIGIN


def words(case: Case, *more: str) -> list[str]:
    home = str(case.sound.home.path)
    place = ["--home", home, "--log", case.log.url, "--run", case.run_id.hex(), "--origin", ORIGIN, "--dev"]
    return [*place, "--workers", "1", *more]


@pytest.mark.parametrize("mode", ["all", "chained"])
def test_the_report_says_how_signatures_were_looked_at(
    case: Case, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(case, "--signatures", mode, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["signatures"] == mode
    assert main(words(case, "--signatures", mode)) == 0
    assert (CHAINED in capsys.readouterr().out) == (mode == "chained")


def test_every_signature_counts_unless_something_else_is_asked_for(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged signature of the first step: the next step names the event, so that only ``chained`` takes it."""
    record = next(r for r, o in case.log.opened("steps") if getattr(o.event, "step", 0) == 1)
    case.log.replace(record, flipped(record.value, len(record.value) - 1))
    assert main(words(case, "--json")) == 1
    assert main(words(case, "--json", "--signatures", "chained")) == 0
    capsys.readouterr()
