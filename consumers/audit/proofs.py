"""Verifies many proofs in parallel processes, each a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeAlias

from consumers.verifying import Verifiers
from zk_autograd.errors import VerificationError, ZkAutogradError
from zk_autograd.proofs.base import Circuit, Commitments

BATCH = 128
"""Proofs a process takes at once, at most: a batch's shared cost is small by then."""

Job: TypeAlias = tuple[bytes, tuple[int, ...]]
"""A proof and the public integers it must have used."""

_state: tuple[Circuit, Verifiers] | None = None


@dataclass(frozen=True)
class Verdict:
    """What one proof is about, or why it does not hold; or, not ``checked``, why nobody knows."""

    commitments: Commitments | None
    reason: str = ""
    checked: bool = True


def _open(circuit: Circuit, together: bool) -> None:
    global _state
    _state = (circuit, Verifiers(together).__enter__())


def _verify(jobs: Sequence[Job]) -> list[Verdict]:
    assert _state is not None
    circuit, verify = _state
    try:
        found = verify.many(circuit, jobs)
    except ZkAutogradError as error:
        return [Verdict(None, str(error), checked=False)] * len(jobs)
    return [Verdict(None, str(f)) if isinstance(f, VerificationError) else Verdict(f) for f in found]


def verify_all(
    circuit: Circuit, jobs: Sequence[Job], workers: int | None, tick: Callable[[], None], together: bool = True
) -> list[Verdict]:
    """Verdicts in the order of ``jobs``. What a worker that dies leaves over is not checked.

    Args:
        workers: processes; None means one per core.
        tick: called once per proof.
        together: whether proofs may be verified in batches (``docs/adr/0012``).
    """
    count = min(workers or len(os.sched_getaffinity(0)), max(1, len(jobs)))
    size = min(BATCH, -(-len(jobs) // count) or 1)
    batches = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    out: list[Verdict] = []
    with ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=_open, initargs=(circuit, together)
    ) as pool:
        try:
            for verdicts in pool.map(_verify, batches):
                out += verdicts
                for _ in verdicts:
                    tick()
        except BrokenProcessPool:
            rest = len(jobs) - len(out)
            out += [Verdict(None, "a verifier process ended early: memory?", checked=False)] * rest
    return out
