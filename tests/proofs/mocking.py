"""Many runs of the mock prover: the prover child's own function, in worker processes that live longer than one job."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Circuit, Columns
from zk_autograd.proofs.ezkl.graph import column_sizes
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.statement import Public, carry_bounds

Place: TypeAlias = tuple[int, int]
"""Where a look-up stands: number of the look-up argument, row in its region."""

_REFUSED = re.compile(r"Lookup \(index: (\d+)\) is not satisfied in Region \d+ \('model'\) at offset (\d+)")


def _start(cache: str) -> None:
    os.environ["EZKL_REPO_PATH"] = cache
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


@contextlib.contextmanager
def _leaving_nothing() -> Iterator[None]:
    """The child leaves its secret files to its own end, which here is far away."""
    try:
        yield
    finally:
        for handle in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{handle}").startswith("/memfd:"):
                    os.close(int(handle))


def _mock(job: dict[str, Any]) -> bool:
    import ezkl

    from zk_autograd.proofs.ezkl import child

    with _leaving_nothing():
        return bool(child._mock(job, ezkl))


def _refused(job: dict[str, Any]) -> list[Place]:
    """The look-ups that do not hold, each once; ValueError if anything else does not hold."""
    import ezkl

    from zk_autograd.proofs.ezkl import child

    with _leaving_nothing():
        witness = child._witness(job, ezkl)
        try:
            held = child._call(ezkl.mock, witness, job["compiled"])
        except RuntimeError as error:
            said = str(error).splitlines()[1:]
            found = [_REFUSED.fullmatch(line.strip()) for line in said]
            if not found or not all(found):
                raise ValueError(f"the mock prover said something else than which look-ups fail: {said[:3]}") from None
            return [(int(match[1]), int(match[2])) for match in found if match]
        if held is not True:
            raise ValueError("the mock prover neither held nor said why")
        return []


class MockProver:
    """Two workers that stay for the session."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zk-mock-")
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(2, spawn, _start, (self._folder.name,))

    def verdicts(self, circuit: Circuit, columns: Iterable[Columns]) -> list[bool]:
        """For each, whether the constraints hold; a crash of EZKL is raised, it is no verdict."""
        folder = Path(self._folder.name)
        return list(self._pool.map(_mock, [Ezkl._job(circuit, c, folder) for c in columns]))

    def refused(self, circuit: Circuit, columns: Iterable[Columns]) -> list[Counter[Place]]:
        """For each, which look-ups do not hold. Many lies can stand in one witness: each shows at its own place.

        Raises:
            ValueError: a constraint that is no look-up does not hold: these hold for every witness.
        """
        folder = Path(self._folder.name)
        return [Counter(p) for p in self._pool.map(_refused, [Ezkl._job(circuit, c, folder) for c in columns])]

    def __enter__(self) -> MockProver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()


def _once(circuit: Circuit) -> int:
    """How many look-ups a shard has once, beside those of its parameters and the noise."""
    st, P = circuit.statement, circuit.P
    if not st.carries:
        return 0
    sums = dict.fromkeys((*st.carries, *(f"total {n}" for n in st.carries)), 0)
    pub, none = Public(dict.fromkeys(st.inputs, 0)), np.zeros(circuit.shard, dtype=object)
    state = dict.fromkeys(st.state, none)
    hints = dict.fromkeys(st.scalars(P), 0) | {n: none[:size] for n, size in st.vectors(P).items()}
    bounds = carry_bounds(st.carries, sums, sums, sums, 0, 0)
    bounds |= st.block_bounds(state, state, none, hints, dict.fromkeys(st.carries, 0), pub, P)
    return sum(np.size(x) for x in bounds.values())


class Places:
    """Where each look-up of a circuit stands; held against a witness of random field elements, of which none holds.

    Look-ups are laid out without a gap, row by row over the inner columns, in the order in which the graph lists them:
    the first bound of every parameter, then the second, then those that a shard has once, at the end the noise.

    Raises:
        AssertionError: the layout is another, or there are more or fewer look-ups than the statement has.
    """

    def __init__(self, prover: MockProver, circuit: Circuit, inner: int = 3) -> None:
        st, rng = circuit.statement, random.Random(1)
        sizes = column_sizes(st, circuit.P, circuit.shard, circuit.noise)
        drawn = {name: [rng.randrange(MODULUS) for _ in range(size)] for name, size in sizes.items()}
        found = prover.refused(circuit, [Columns(**drawn)])[0]
        first = min(row for _, row in found)
        start = first * inner + inner - sum(n for (_, row), n in found.items() if row == first)
        at = range(start, start + st.lookups * circuit.shard + _once(circuit) + circuit.noise)
        # Where the table is short (few rows), EZKL's own tables make it merge the columns' arguments into one.
        merged = {argument for argument, _ in found} == {0}
        self._places = [(0 if merged else i % inner, i // inner) for i in at]
        assert Counter(self._places) == found, "the look-ups are laid out in another way"

    def of(self, look_ups: Iterable[int]) -> Counter[Place]:
        """Where the look-ups with these numbers stand."""
        return Counter(self._places[i] for i in look_ups)
