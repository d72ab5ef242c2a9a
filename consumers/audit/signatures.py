"""Whose word each record is (check 1): by its own signature, or, if the auditor asks for it, by a signed record's hash.

``all`` verifies the signature of every record that counts. ``chained`` takes a record without looking at its signature
where a record that was accepted names it by a hash and is by who may say so (decision 39):

* a step, or a run's end, by the next event of its run under the same key, which names it by its id;
* the ledger's entries by the checkpoint that covers them, which the same key signed with their Merkle root;
* proofs by the ledger's entry for their step, which names their ids by a digest.

Whatever is not named that way is held to its own signature, as in ``all``. So records that somebody writes under
another's key id change nothing but the time that the audit takes, and it takes no longer than with ``all``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import TypeAlias

from consumers.audit.kept import Entries
from consumers.audit.reading import Item, chunks, of_another
from consumers.audit.workers import Later, Signature, Workers
from ledger.entries import Entry
from schemas.events import EnclaveAttested, Event, ProofAttached, RunFinished, StepCommitted
from schemas.keyring import KeyRing, Known
from schemas.signing import Opened, open_introduction
from zk_autograd.errors import DecodeError, VerificationError

MODES = ("all", "chained")

Refusal: TypeAlias = DecodeError | VerificationError
Judged: TypeAlias = tuple[Item, Opened[Event] | Refusal]
Root: TypeAlias = tuple[bytes, bytes]
"""A tree's root, and the key that signed a checkpoint with it."""

_Linked: TypeAlias = StepCommitted | RunFinished
"""What names the event before it."""

_SPAN = 32_768
"""Most entries that wait for their checkpoint; longer ones are held to their own signatures."""


class _Mark(Enum):
    """What is known of an item before signatures are."""

    PASSED_OVER = 0
    NAMED = 1
    """By another of the chunk, if that one is accepted."""


_Before: TypeAlias = "_Mark | Refusal | int"
"""A number is the place of the item's signature among the chunk's jobs."""


class Judge:
    """Opens records under the keys of ``ring``, for the audit of one run."""

    def __init__(self, ring: KeyRing, run_id: bytes, workers: Workers, mode: str) -> None:
        self.ring, self.workers, self.chained = ring, workers, mode == "chained"
        self._run_id = run_id
        self.records = 0
        """Records so far, but for those of other runs."""

    def judged(self, topic: str, records: Iterable[object]) -> Iterator[Judged]:
        """Each record that is not another run's, in their order, as what it was accepted or why it is not.

        Introductions that hold are left out.
        """
        waiting: deque[tuple[list[Item], list[_Before], Later[list[bool]]]] = deque()
        for chunk in chunks(records):  # type: ignore[arg-type]
            known, jobs = self._begin(topic, chunk)
            waiting.append((chunk, known, self.workers.signatures(topic, jobs)))
            while len(waiting) > self.workers.window:
                yield from self._end(topic, *waiting.popleft())
        while waiting:
            yield from self._end(topic, *waiting.popleft())

    def open(self, topic: str, item: Item) -> Opened[Event]:
        """The event, by its own signature.

        Raises:
            DecodeError, VerificationError: it is not accepted.
        """
        return self.ring.open_decoded(topic, _claimed(item))

    def _begin(self, topic: str, chunk: Sequence[Item]) -> tuple[list[_Before], list[Signature]]:
        known: list[_Before] = []
        jobs: list[Signature] = []
        named: set[tuple[bytes, bytes]] = set()
        # From the end: what names comes after what it names.
        for item in reversed(chunk):
            before, claimed = self._before(topic, item), item.claimed
            if not isinstance(before, Known):
                known.append(before)
                continue
            assert claimed is not None
            if self._is_named(claimed, named):
                known.append(_Mark.NAMED)
            else:
                known.append(len(jobs))
                jobs.append((before.public_key, claimed.body, claimed.signature))
            _names(claimed, named)
        return known, jobs

    def _before(self, topic: str, item: Item) -> _Mark | Refusal | Known:
        """What can be said without a signature; if it takes one, the key."""
        if of_another(item, self._run_id):
            return _Mark.PASSED_OVER
        self.records += 1
        try:
            claimed = _claimed(item)
            if isinstance(claimed.event, EnclaveAttested):
                open_introduction(topic, item.value)
                return _Mark.PASSED_OVER
            return self.ring.claimed(topic, claimed)
        except (DecodeError, VerificationError) as error:
            return error

    def _is_named(self, claimed: Opened[Event], named: set[tuple[bytes, bytes]]) -> bool:
        if not self.chained:
            return False
        if isinstance(claimed.event, ProofAttached):
            return True  # until by_entries has looked
        return isinstance(claimed.event, _Linked) and (claimed.key_id, claimed.event_id) in named

    def _end(
        self, topic: str, chunk: list[Item], known: list[_Before], later: Later[list[bool]]
    ) -> Iterator[Judged]:  # fmt: skip
        holds, found = later(), list[Judged]()
        named: set[tuple[bytes, bytes]] = set()
        for item, mark in zip(reversed(chunk), known, strict=True):
            if mark is _Mark.PASSED_OVER:
                continue
            if isinstance(mark, DecodeError | VerificationError):
                found.append((item, mark))
                continue
            claimed = _claimed(item)
            try:
                sure = holds[mark] if isinstance(mark, int) else self._is_named(claimed, named)
                # What was to be named by a record that was not accepted is held to its own signature after all.
                opened = self.ring.own(topic, claimed) if sure else self.ring.open_decoded(topic, claimed)
                _names(claimed, named)
                found.append((item, opened))
            except VerificationError as error:
                found.append((item, error))
        yield from reversed(found)


def _claimed(item: Item) -> Opened[Event]:
    if item.claimed is None:
        raise DecodeError(item.why)
    return item.claimed


def _names(claimed: Opened[Event], named: set[tuple[bytes, bytes]]) -> None:
    if isinstance(claimed.event, _Linked):
        named.add((claimed.key_id, claimed.event.previous))


class ByCheckpoints:
    """Takes a ledger's entries by the roots of its checkpoints; whatever does not fit one, by its own signature.

    Args:
        roots: by size, of checkpoints that were accepted.
        taken: called with each entry that is accepted, in the order of the leaves.
        refused: with each record that is not, and why.
        repeated: with each that is there already.
    """

    def __init__(
        self, judge: Judge, entries: Entries, roots: dict[int, list[Root]],
        taken: Callable[[Item, Opened[Entry]], None], refused: Callable[[Item, Refusal], None],
        repeated: Callable[[Item], None],
    ) -> None:  # fmt: skip
        self._judge, self._entries, self._roots = judge, entries, roots
        self._sizes = sorted(roots)
        self._taken, self._refused, self._repeated = taken, refused, repeated
        self._pending: list[Item] = []
        self._fresh: dict[bytes, Opened[Entry]] = {}

    @property
    def size(self) -> int:
        """Leaves that there are, if all that wait are accepted."""
        return len(self._entries) + len(self._fresh)

    def take(self, item: Item) -> None:
        """The next record."""
        try:
            opened: Opened[Entry] = self._judge.ring.vouched("ledger", _claimed(item))  # type: ignore[assignment]
        except (DecodeError, VerificationError) as error:
            self._refused(item, error)
            return
        self._pending.append(item)
        if not self._entries.has(opened):
            self._fresh.setdefault(opened.event_id, opened)
        at = bisect_right(self._sizes, len(self._entries))
        target = self._sizes[at] if at < len(self._sizes) else 0
        if self.size == target:
            self._settle(self._roots[target])
        elif target - len(self._entries) > _SPAN or not target or len(self._pending) > 2 * _SPAN:
            self.finish()

    def _settle(self, roots: list[Root]) -> None:
        whole = self._entries.tree.frontier()
        for opened in self._fresh.values():
            whole.append(opened.body)
        keys = {opened.key_id for opened in self._fresh.values()}
        if len(keys) != 1 or (whole.root(), *keys) not in roots:
            self.finish()
            return
        for item in self._pending:
            name = _claimed(item).event_id
            if name in self._fresh:
                self._taken(item, self._fresh.pop(name))
            else:
                self._repeated(item)
        self._pending, self._fresh = [], {}

    def finish(self) -> None:
        """Holds what waits to its own signatures."""
        pending, self._pending, self._fresh = self._pending, [], {}
        for item in pending:
            try:
                opened: Opened[Entry] = self._judge.open("ledger", item)  # type: ignore[assignment]
            except VerificationError as error:
                self._refused(item, error)
                continue
            if self._entries.has(opened):
                self._repeated(item)
            else:
                self._taken(item, opened)
