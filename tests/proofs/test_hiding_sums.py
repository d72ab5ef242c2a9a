"""Real proofs of circuits that carry sums, taken apart: two columns more than the others, and no other way to see them.

``docs/zero-knowledge.md`` counts what such a proof shows, in brackets; the count is held here, on 2^12 rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.support.circuits import without_keys
from tests.support.lookups import INNER, guess
from tests.support.transcript import Layout, Opened, column_at, key_digest, lagrange, layout, open_proof, root_of_unity
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Columns, Limits
from zk_autograd.proofs.ezkl.commit import TAIL, KzgCommitter
from zk_autograd.proofs.ezkl.constraints import Key, read_key
from zk_autograd.proofs.ezkl.hiding import shape
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import SALT, ShardWitness
from zk_autograd.statement import STATEMENTS, Public

LOGROWS, NOISE = 12, 18
PAGE = Path(__file__).parents[2] / "docs" / "zero-knowledge.md"
POINTS, EVALUATIONS, PRODUCTS = 32, 72, 6
"""Of a proof with six committed columns: the page has no such list of its own, these follow from its table."""

NAMES = ["lamb", "adafactor-16"]


@dataclass(frozen=True)
class Shown:
    """A proof, what it is about, and how it is taken apart."""

    circuit: Circuit
    witness: ShardWitness
    columns: Columns
    layout: Layout
    key: Key
    raw: bytes
    proof: Opened

    @property
    def committed(self) -> list[list[int]]:
        return [list(column) for column in self.columns.in_order()]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shown]:
    """An honest proof, by the statement's name."""
    srs = Ezkl().dev_srs(tmp_path_factory.mktemp("srs"), LOGROWS)

    def make(name: str) -> Shown:
        folder = tmp_path_factory.mktemp(name)
        shard = STATEMENTS[name].shard_of(2**LOGROWS - 8) or 56
        made = without_keys(name, folder, LOGROWS, shard, NOISE)
        Ezkl()._keys(folder, srs)
        circuit = replace(made, srs_path=srs)
        columns, witness = sample(circuit, 1)
        raw = Ezkl().prove_unverified(circuit, columns, Limits())
        found, key = layout(circuit), read_key((folder / "vk.key").read_bytes())
        with Ezkl().verifier(replace(circuit, proof_bytes=len(raw))) as verifier:
            verifier.verify(raw, columns.hyper)
        return Shown(circuit, witness, columns, found, key, raw, open_proof(raw, found, key_digest(circuit)))

    return cache(make)


@pytest.mark.parametrize("name", NAMES)
def test_a_proof_with_sums_shows_what_the_page_counts(shown: Callable[[str], Shown], name: str) -> None:
    s = shown(name)
    assert len(s.committed) == s.key.inputs == 6
    assert s.layout.products == s.key.sets == PRODUCTS
    assert s.layout.points == s.key.commitments == POINTS
    assert len(s.proof.evaluations) == s.key.evaluations == EVALUATIONS
    assert len(s.raw) == s.key.proof_bytes == (POINTS + 2) * POINT_BYTES + EVALUATIONS * 32
    # Look-ups are as many as elsewhere: salt and noise are counted as if nothing were added.
    assert (s.layout.lookups, s.layout.pieces) == (shape(LOGROWS, INNER).arguments, shape(LOGROWS, INNER).pieces)


@pytest.mark.parametrize("name", NAMES)
def test_each_of_six_columns_is_committed_to_and_opened_at_one_point(shown: Callable[[str], Shown], name: str) -> None:
    """The replayed ``x`` is right only if every kind of polynomial is as many as counted before it."""
    s = shown(name)
    committer = KzgCommitter(s.circuit.srs_path, LOGROWS, max(map(len, s.committed)))
    none = np.empty(0, dtype=np.int64)
    assert [committer.commit(none, column) for column in s.committed] == s.proof.columns[:6]
    weights = lagrange(LOGROWS, s.proof.x)
    assert [column_at(weights, column) for column in s.committed] == s.proof.evaluations[:6]
    omega = root_of_unity(LOGROWS)
    for turn in (1, -1, -TAIL):  # where other polynomials are opened, too
        turned = lagrange(LOGROWS, s.proof.x * pow(omega, turn, MODULUS) % MODULUS)
        assert not {column_at(turned, column) for column in s.committed} & set(s.proof.evaluations)


@pytest.mark.parametrize("name", NAMES)
def test_a_sum_is_hidden_by_each_of_three_salts_of_its_own_column(shown: Callable[[str], Shown], name: str) -> None:
    """Whoever knows all of a column but one salt element confirms nothing, neither by commitment nor by opening."""
    s = shown(name)
    committer = KzgCommitter(s.circuit.srs_path, LOGROWS, max(map(len, s.committed)))
    weights, none = lagrange(LOGROWS, s.proof.x), np.empty(0, dtype=np.int64)
    for at in (0, 1, 2, 4, 5):  # all but the public one
        for i in range(1, SALT + 1):
            guessed = list(s.committed[at])
            guessed[-i] = (guessed[-i] + 1) % MODULUS
            assert column_at(weights, guessed) != s.proof.evaluations[at]
            if i == 1:
                assert committer.commit(none, guessed) != s.proof.columns[at]


@pytest.mark.parametrize("name", NAMES)
def test_multiplicities_count_all_look_ups_and_every_argument_has_its_noise(
    shown: Callable[[str], Shown], name: str
) -> None:
    """Those of the parameters, of what a shard has once, and the noise behind them, in turn."""
    s = shown(name)
    weights = lagrange(LOGROWS, s.proof.x)
    pub = Public(zip(s.circuit.statement.inputs, s.columns.hyper, strict=True))

    def fits(shift: int) -> bool:
        looked_up = guess(s.circuit, s.witness, pub, shift)
        seen = [sum(n * w for n, w in zip(looked_up.counts((c,)), weights, strict=True)) for c in range(INNER)]
        return [x % MODULUS for x in seen] == s.proof.counts

    (shift,) = [shift for shift in range(INNER) if fits(shift)]
    flat = guess(s.circuit, s.witness, pub, shift).cells.T.reshape(-1)
    (used,) = np.nonzero(flat >= 0)
    assert flat[used[-NOISE:]].tolist() == s.witness.noise.tolist()
    assert np.bincount(used[-NOISE:] % INNER).tolist() == [NOISE // INNER] * INNER


def test_the_page_counts_so() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    (said,) = re.findall(r"six columns[^.]*?(\d+) commitments, (\d+) evaluations", text)
    assert said == (str(POINTS), str(EVALUATIONS))
    assert f"| permutation products `z` | 5 ({PRODUCTS}) |" in text
