"""The statement whose whole file stands in docs/optimizers.md, "Adding one"."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import pytest

from zk_autograd.statement import STATEMENTS, Statement

Ints: TypeAlias = Mapping[str, int]

NAME = "optimistic"
PAGE = Path(__file__).parents[2] / "docs" / "optimizers.md"


def source() -> str:
    """The file."""
    recipe = PAGE.read_text("utf-8").partition("## Adding one")[2]
    (code,) = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    return str(code)


def added() -> Statement:
    """What the file's ``FAMILY`` holds."""
    module = ModuleType(f"zk_autograd.statement.{NAME}")
    exec(compile(source(), f"{NAME}.py", "exec"), module.__dict__)
    (st,) = module.__dict__["FAMILY"]
    assert isinstance(st, Statement)
    return st


def register() -> None:
    """Does for the rest of this process what the recipe's line does."""
    STATEMENTS[NAME] = added()


def tell() -> None:
    """Tells the attacks of it, for the rest of this process: the first of what cannot come from the definition."""
    from tests.proofs import enumerating, forging, model, test_forgeries, test_uniqueness

    exact = ["m' is g", "m' is g, from below"]
    forging.LINEAR[NAME] = {"post.m": exact[0], "post.w": "dw is the rounded step"}
    forging.STEEP[NAME] = lambda P: {"A": P // 2 + 1, "B": P // 4 + 3}
    enumerating.SOLVED_BY[NAME] = [("post.w", "|dw| < P/2"), ("post.m", exact[0])]
    bounds = ["dw is the rounded step", "|dw| < P/2", "|g| < P/2", *exact]
    test_forgeries.ALL_BOUNDS[NAME] = bounds
    test_forgeries.BOUNDS.extend((NAME, bound) for bound in bounds)
    test_forgeries.NEVER_FULL.update(exact)
    test_uniqueness.FORGETTING += ("B",)
    others = model.step

    def step(name: str, pre: Ints, g: int, p: Ints, P: int) -> tuple[model.State, model.State]:
        if name != NAME:
            return others(name, pre, g, p, P)
        moved = Fraction(p["A"] * g + p["B"] * (g - pre["m"]) + p["r"], P)
        return {"w": pre["w"] - math.floor(moved), "m": g}, {}

    model.step = step


if __name__ == "__main__":  # as ``python -m tests.statement.recipe``: a test run that has the statement
    register()
    tell()
    sys.exit(pytest.main(sys.argv[1:]))
