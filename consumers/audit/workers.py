"""Work on records that needs to know nothing but its input, done in other processes where there are any."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeAlias, TypeVar

from consumers.audit.glance import Glance, glance
from consumers.audit.stretch import Stretch, stretch_of
from ledger.chain import RunChain
from schemas.events import RunStarted
from schemas.signing import Opened, verify_body
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

    def ahead(self, begun: Iterable[T]) -> Iterator[T]:
        """The same, of which so many are begun before the first is asked for."""
        waiting = deque[T]()
        for one in begun:
            waiting.append(one)
            while len(waiting) > self.window:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()

    def signatures(self, topic: str, jobs: Sequence[Signature]) -> Later[list[bool]]:
        """For each whether it holds for this topic."""
        if not self._elsewhere(len(jobs)):
            found = _signatures(topic, jobs)
            return lambda: found
        return self._submit(_signatures, topic, jobs)

    def glance(
        self, topic: str, values: Sequence[bytes], keys: Mapping[bytes, bytes], run_id: bytes, chained: bool
    ) -> Later[list[Glance]]:  # fmt: skip
        """What each of these records is: see :func:`consumers.audit.glance.glance`."""
        if not self._elsewhere(len(values)):
            found = glance(topic, values, keys, run_id, chained)
            return lambda: found
        return self._submit(glance, topic, values, keys, run_id, chained)

    def stretch(self, start: Opened[RunStarted], circuit: Circuit, values: Sequence[bytes]) -> Later[Stretch | None]:
        """What these records of a run's steps begin with, no scale having changed: see :func:`stretch_of`."""
        if not self._elsewhere(len(values)):
            found = _stretch(start, circuit, values)
            return lambda: found
        return self._submit(_stretch, start, circuit, values)

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


_chain: tuple[tuple[Opened[RunStarted], Circuit], RunChain] | None = None


def _stretch(start: Opened[RunStarted], circuit: Circuit, values: Sequence[bytes]) -> Stretch | None:
    global _chain
    if _chain is None or _chain[0] != (start, circuit):
        _chain = (start, circuit), RunChain(start, circuit)
    return stretch_of(_chain[1], values)
