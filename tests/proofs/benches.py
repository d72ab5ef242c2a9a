"""What the rounds of ``tests/fuzz_circuits.py`` share: circuits for the mock prover, and a count of what was seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs.mocking import MockProver, Places
from tests.support.circuits import without_keys
from zk_autograd.proofs.base import Circuit, Profile
from zk_autograd.proofs.ezkl.system import shard_size
from zk_autograd.statement import Statement

NOISE = 16


@dataclass
class Found:
    """What the rounds so far came to.

    Attributes:
        ends: bounds that an honest step met exactly at an end, by statement, bound and end.
        alone: bounds that refused what all others took, by statement and bound; only of shaped statements.
        mocked: witnesses that the mock prover was given.
    """

    honest: int = 0
    provable: int = 0
    lies: int = 0
    refused_look_ups: int = 0
    mocked: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    ends: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    alone: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def cases(self) -> int:
        return self.honest + self.lies


@dataclass(frozen=True)
class Bench:
    """A circuit and where its look-ups stand."""

    circuit: Circuit
    places: Places


class Benches:
    """Circuits as large as their tables hold, made at first use; of up to ``largest`` parameters if that is free."""

    def __init__(self, prover: MockProver, folder: Path, largest: int = 1200) -> None:
        self._prover, self._folder, self._largest = prover, folder, largest
        self._made: dict[tuple[str, int], Bench] = {}

    def get(self, st: Statement, logrows: int) -> Bench:
        key = st.name, logrows
        if key not in self._made:
            folder = self._folder / f"{st.name}-{logrows}"
            folder.mkdir()
            shard = shard_size(st, Profile("mock", logrows, 3, NOISE))
            circuit = without_keys(st.name, folder, logrows, shard if st.shaped else min(shard, self._largest), NOISE)
            self._made[key] = Bench(circuit, Places(self._prover, circuit))
        return self._made[key]
