"""The machine code of every Triton kernel has one shape: no branch, no call, whatever the data. No GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton", reason="triton is not installed: pip install 'zk-autograd[gpu]'")

KERNELS = ["adam", "adam-l2", "adamw", "amsgrad", "amsgrad-l2", "amsgradw", "sgd", "momentum", "nesterov"]


def instructions(*words: str) -> dict[str, dict[str, int]]:
    """How often each instruction stands in each kernel's code; compiled in a process without the interpreter."""
    environment = {n: x for n, x in os.environ.items() if n != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.disassembling", *words], env=environment,
        cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def flow(code: dict[str, int]) -> Counter[str]:
    """The instructions that could make one run differ from another."""
    known = (
        "BRA",
        "BRX",
        "BRXU",
        "JMP",
        "JMX",
        "JMXU",
        "CALL",
        "RET",
        "BSSY",
        "BSYNC",
        "BREAK",
        "NANOSLEEP",
        "WARPSYNC",
    )
    return Counter({name: count for name, count in code.items() if name in known})


def check(found: dict[str, dict[str, int]]) -> None:
    for kernel, code in found.items():
        assert sum(code.values()) > 300, f"{kernel}: that is no whole kernel"
        # Every kernel ends in a branch to itself, which nothing reaches.
        assert flow(code) == {"BRA": 1}, kernel
        assert code["EXIT"] <= 2, kernel  # one of them for all threads but the one that writes the counts


@pytest.mark.parametrize("capability", [80, 90])
def test_no_kernel_has_a_branch_or_a_call(capability: int) -> None:
    found = instructions(str(capability), "65528", "fp32", *KERNELS)
    assert len(found) == len(KERNELS)
    check(found)


def test_nor_do_kernels_for_larger_tables_and_other_precisions() -> None:
    check(instructions("90", "131064", "fp32", "adam", "amsgradw", "momentum"))
    check(instructions("90", "32760", "fp64", "adamw", "nesterov"))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [75, 86, 89, 100])
def test_nor_on_other_gpus(capability: int) -> None:
    check(instructions(str(capability), "65528", "fp32", *KERNELS))


def test_the_reading_finds_branches_and_calls_where_there_are_some() -> None:
    """64-bit division by a variable is a subroutine with branches: what the kernels do without."""
    found: Any = instructions("90", "65528", "fp32", "dividing")
    assert flow(found["dividing"])["CALL"] >= 1
    assert flow(found["dividing"])["BRA"] > 1
