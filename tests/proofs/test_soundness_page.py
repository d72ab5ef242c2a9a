"""What ``docs/soundness.md`` counts is what the tests have."""

from __future__ import annotations

import re
from pathlib import Path

from tests.proofs import test_uniqueness
from tests.proofs.corpus import LIES, NO_MEANING, WITNESSES
from tests.proofs.test_corpus import NAMES as FLAT
from tests.proofs.test_corpus_shards import LOGROWS
from tests.proofs.test_corpus_shards import NAMES as SHAPED
from tests.proofs.test_forgeries import BOUNDS
from zk_autograd.statement import STATEMENTS

PAGE = Path(__file__).parents[2] / "docs" / "soundness.md"


def said(pattern: str) -> tuple[str, ...]:
    """The numbers or names of the one place in the page that reads so."""
    text = " ".join(PAGE.read_text("utf-8").split())
    (found,) = [match.groups() for match in re.finditer(pattern, text)]
    return found


def test_attacks_and_circuits_are_as_many_as_the_page_says() -> None:
    assert said(r"(\d+) attacks on a parameter and (\d+) on whole columns") == (str(len(LIES)), str(len(WITNESSES)))
    assert said(r"They are put to all (\d+) circuits") == (str(len(STATEMENTS)),)
    assert sorted([*FLAT, *SHAPED]) == sorted(STATEMENTS)
    tables = ", ".join(f"2^{LOGROWS[name]}" for name in SHAPED)
    assert said(r"the smallest tables that hold such rows \(([^)]*)\)") == (tables,)


def test_attacks_without_a_meaning_are_those_that_the_page_names() -> None:
    names = said(r"Two have nothing to attack: `(\w+)`, as [^,]*, and `(\w+)`, as")
    assert set(names) == NO_MEANING.keys()


def test_bounds_are_as_many_as_the_page_says() -> None:
    assert said(r"for each of the (\d+) bounds of a parameter") == (str(len(BOUNDS)),)


def test_the_exhaustive_search_leaves_out_what_the_page_says() -> None:
    assert said(r"of all statements but (\w+)\.") == ("Adafactor",)
    assert set(STATEMENTS) - set(test_uniqueness.NAMES) == set(SHAPED)
    marks = test_uniqueness.test_a_table_takes_one_witness_for_a_step_that_fits_and_none_for_another.pytestmark  # type: ignore[attr-defined]
    (tables,) = [mark.args[1] for mark in marks if mark.name == "parametrize" and mark.args[0] == ("P", "count")]
    steps = said(r"\((\d+) a statement at `P = 8`, (\d+) at 24, (\d+) at 56; of LAMB twice as many\)")
    assert [(8, int(steps[0])), (24, int(steps[1])), (56, int(steps[2]))] == tables
