"""Hypothesis suites over every parser: any bytes, and honest values that were edited. What holds, the targets say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.circuit import NoCircuit
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

FAST = sorted(set(TARGETS) - {"zk-proofs"})
_ALPHABETS = st.sampled_from(
    [b"\n", b" ", b"\0", b"=", b"+", b"\xe2\x80\x94 ", b"0", b"9" * 20, b"\xff", b"\x9f", b'"']
)


@dataclass(frozen=True)
class Edit:
    """Replaces ``length`` bytes at a place (in 1/1000 of the whole) by others."""

    at: int
    length: int
    by: bytes

    def of(self, data: bytes) -> bytes:
        start = len(data) * self.at // 1000
        return data[:start] + self.by + data[start + self.length :]


EDITS = st.lists(
    st.builds(Edit, st.integers(0, 1000), st.integers(0, 40), st.binary(max_size=40) | _ALPHABETS),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", FAST)
def test_any_bytes_are_refused_or_are_what_they_say(name: str) -> None:
    @settings(max_examples=150, database=None, deadline=None)
    @given(st.binary(max_size=600))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_honest_values_that_were_edited_are_refused_or_are_what_they_say(name: str) -> None:
    try:
        seeds = list(SEEDS[name]())
    except NoCircuit as error:
        pytest.skip(str(error))

    count = 20 if name == "zk-proofs" else 150

    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), EDITS)
    def run(seed: bytes, edits: list[Edit]) -> None:
        for edit in edits:
            seed = edit.of(seed)
        TARGETS[name](seed)

    run()
