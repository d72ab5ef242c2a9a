"""Work on records that needs to know nothing but its input, done in other processes where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeAlias, TypeVar

from ledger.chain import RunChain
from schemas.events import RunStarted, StepCommitted
from schemas.signing import Opened, decode_unverified, verify_body
from zk_autograd.errors import EventLogError, VerificationError
from zk_autograd.proofs.base import Circuit

T = TypeVar("T")
Later: TypeAlias = Callable[[], T]
"""Gives the result, once it is there."""

Signature: TypeAlias = tuple[bytes, bytes, bytes]
"""Public key, body, signature."""

_WORTH = 4096
"""Signatures or steps that are looked at before other processes are started: that takes a second."""


class Workers:
    """A pool that starts when there is enough to do.

    Args:
        processes: so many work beside this one; with 0 or 1 everything is done here; None means one for each core.
    """

    def __init__(self, processes: int | None = None) -> None:
        wanted = len(os.sched_getaffinity(0)) if processes is None else processes
        self.processes = wanted if wanted > 1 else 0
        self._pool: ProcessPoolExecutor | None = None
        self._done = 0

    @property
    def window(self) -> int:
        """Chunks that may be under way at once."""
        return 2 * self.processes + 1 if self.processes else 0

    def signatures(self, topic: str, jobs: Sequence[Signature]) -> Later[list[bool]]:
        """For each whether it holds for this topic."""
        if not self._elsewhere(len(jobs)):
            found = _signatures(topic, jobs)
            return lambda: found
        return self._submit(_signatures, topic, jobs)

    def schedules(self, start: Opened[RunStarted], circuit: Circuit, values: Sequence[bytes]) -> Later[list[bool]]:
        """For each sealed StepCommitted whether rates and integers are the start's, no scale having changed.

        Nothing (an empty list) if this is not worth another process: then it is for the caller's own chain to say.
        """
        if not self._elsewhere(len(values)):
            return list
        return self._submit(_schedules, start, circuit, values)

    def _elsewhere(self, count: int) -> bool:
        self._done += count
        return bool(count and self.processes and self._done > _WORTH)

    def _submit(self, work: Callable[..., T], *arguments: object) -> Later[T]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.processes, mp_context=get_context("spawn"))
        try:
            future: Future[T] = self._pool.submit(work, *arguments)
        except BrokenProcessPool:
            raise _ended() from None

        def wait() -> T:
            try:
                return future.result()
            except BrokenProcessPool:
                raise _ended() from None

        return wait

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _ended() -> EventLogError:
    return EventLogError("a process that opens records ended early: memory? Try --workers 1")


def _signatures(topic: str, jobs: Sequence[Signature]) -> list[bool]:
    found = []
    for public_key, body, signature in jobs:
        try:
            verify_body(topic, body, signature, public_key)
            found.append(True)
        except VerificationError:
            found.append(False)
    return found


_chain: tuple[bytes, RunChain] | None = None


def _schedules(start: Opened[RunStarted], circuit: Circuit, values: Sequence[bytes]) -> list[bool]:
    global _chain
    if _chain is None or _chain[0] != start.event_id + circuit.id:
        _chain = start.event_id + circuit.id, RunChain(start, circuit)
    chain, found = _chain[1], []
    for value in values:
        event = decode_unverified("steps", value).event
        try:
            if isinstance(event, StepCommitted) and not event.shifts:
                chain.check_public(event)
                found.append(True)
            else:
                found.append(False)
        except VerificationError:
            found.append(False)
    return found
