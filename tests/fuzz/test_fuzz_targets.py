"""The fuzz targets hold for every seed and every input that once broke one, and, under atheris, for a few seconds."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

from tests.fuzz.circuit import NoCircuit
from tests.fuzz.run import fuzz
from tests.fuzz.seeds import KEPT, SEEDS, kept
from tests.fuzz.targets import TARGETS


def inputs(name: str) -> list[bytes]:
    """The target's seeds, and what once broke it."""
    try:
        return [*SEEDS[name](), *(path.read_bytes() for path in kept(name))]
    except NoCircuit as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_for_its_seeds_and_their_like(name: str) -> None:
    """Each whole, cut short, and with bytes changed, dropped and doubled; and so what once broke it."""
    rng, found = random.Random(name), inputs(name)
    assert found
    for data in found:
        TARGETS[name](data)
        for _ in range(40):
            changed = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(changed) + 1)
                change = rng.choice(("flip", "drop", "double", "cut"))
                if change == "flip" and at < len(changed):
                    changed[at] ^= 1 << rng.randrange(8)
                elif change == "drop":
                    del changed[at : at + rng.randint(1, 9)]
                elif change == "double":
                    changed[at:at] = changed[at : at + rng.randint(1, 40)]
                elif change == "cut":
                    del changed[at:]
            TARGETS[name](bytes(changed))


def test_every_kept_input_is_some_targets() -> None:
    assert {path.name for path in KEPT.glob("*")} <= set(TARGETS)


@pytest.mark.parametrize("name", ["proof-files", "receipts", "policies", "events"])
def test_a_short_fuzz_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (extra fuzz; wheels for Linux on x86-64)")
    code, counted = fuzz(name, 5, tmp_path / name)
    assert code == 0, (tmp_path / name / "output").read_text()[-4000:]
    assert int(counted.split()[0]) > 100, counted
