"""Verifies many proofs in parallel processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from consumers.verifying import Verifiers
from zk_autograd.errors import ZkAutogradError
from zk_autograd.proofs.base import Circuit, Commitments

_state: tuple[Circuit, Verifiers] | None = None


@dataclass(frozen=True)
class Verdict:
    """What one proof is about, or why it does not hold; or, not ``checked``, why nobody knows."""

    commitments: Commitments | None
    reason: str = ""
    checked: bool = True


def _open(circuit: Circuit) -> None:
    global _state
    _state = (circuit, Verifiers().__enter__())


def _verify(job: tuple[bytes, tuple[int, ...]]) -> Verdict:
    assert _state is not None
    circuit, verify = _state
    try:
        return Verdict(verify(circuit, *job))
    except ZkAutogradError as error:
        return Verdict(None, str(error))


def verify_all(
    circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]], workers: int | None, tick: Callable[[], None]
) -> list[Verdict]:
    """Verdicts in the order of ``jobs`` (proof, public integers). What a worker that dies leaves over is not checked.

    Args:
        workers: processes; None means one per core.
        tick: called once per proof.
    """
    count = min(workers or len(os.sched_getaffinity(0)), max(1, len(jobs)))
    out: list[Verdict] = []
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_open, initargs=(circuit,)) as pool:
        try:
            for verdict in _in_order(pool, jobs):
                out.append(verdict)
                tick()
        except BrokenProcessPool:
            rest = len(jobs) - len(out)
            out += [Verdict(None, "a verifier process ended early: memory?", checked=False)] * rest
    return out


def _in_order(pool: ProcessPoolExecutor, jobs: Sequence[tuple[bytes, tuple[int, ...]]]) -> Iterator[Verdict]:
    yield from pool.map(_verify, jobs, chunksize=4)
