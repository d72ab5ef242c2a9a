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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from consumers.audit.glance import Seen
from consumers.audit.kept import Entries
from consumers.audit.reading import Item, chunks, item_of, of_another
from consumers.audit.workers import Later, Signature, Workers
from ledger.entries import Entry
from schemas.events import EnclaveAttested, Event
from schemas.keyring import SIGNERS, KeyRing, Known
from schemas.signing import Opened, open_introduction
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import Record

MODES = ("all", "chained")

Refusal: TypeAlias = DecodeError | VerificationError
Judged: TypeAlias = tuple[Item, Opened[Event] | Refusal]
Root: TypeAlias = tuple[bytes, bytes]
"""A tree's root, and the key that signed a checkpoint with it."""

_Before: TypeAlias = Refusal | int | None
"""What is known of an item before signatures are. A number is the place of its own among the chunk's jobs; None: it is
to be passed over."""

_SPAN = 32_768
"""Most entries that wait for their checkpoint; longer ones are held to their own signatures."""


class Judge:
    """Opens records under the keys of ``ring``, for the audit of one run."""

    def __init__(self, ring: KeyRing, run_id: bytes, workers: Workers, mode: str) -> None:
        self.ring, self.workers, self.chained = ring, workers, mode == "chained"
        self._run_id = run_id
        self.records = 0
        """Records so far, but for those of other runs."""

    def glanced(self, topic: str, records: Iterable[Record]) -> Iterator[tuple[Record, Seen | Opened[Event] | Refusal]]:
        """Steps or proofs, in their order: what each of the run's is that was accepted; others as in :meth:`judged`.

        Opened are events of other kinds only: a record that names its run is seen, passed over, or refused.
        """
        keys = {name: key.public_key for name, key in self.ring.keys.items() if key.role in SIGNERS[topic]}
        begun = (
            (chunk, self.workers.glance(topic, [r.value for r in chunk], keys, self._run_id, self.chained))
            for chunk in chunks(records)
        )
        for chunk, later in self.workers.ahead(begun):
            for record, what in zip(chunk, later(), strict=True):
                if what:
                    self.records += 1
                    yield record, what
                elif what is None and (other := self._alone(topic, item_of(record))) is not None:
                    yield record, other

    def _alone(self, topic: str, item: Item) -> Opened[Event] | Refusal | None:
        """One record by its own signature; None if it is to be passed over."""
        before = self._before(topic, item)
        if not isinstance(before, Known):
            return before
        try:
            return self.open(topic, item)
        except VerificationError as error:
            return error

    def judged(self, topic: str, records: Iterable[Record]) -> Iterator[Judged]:
        """Each record that is not another run's, in their order, as what it was accepted or why it is not.

        Introductions that hold are left out.
        """
        for items, known, later in self.workers.ahead(self._begun(topic, chunk) for chunk in chunks(records)):
            yield from self._ended(topic, items, known, later())

    def open(self, topic: str, item: Item) -> Opened[Event]:
        """The event, by its own signature.

        Raises:
            DecodeError, VerificationError: it is not accepted.
        """
        return self.ring.open_decoded(topic, _claimed(item))

    def _begun(
        self, topic: str, records: Sequence[Record]
    ) -> tuple[list[Item], list[_Before], Later[list[bool]]]:  # fmt: skip
        items = [item_of(record) for record in records]
        known: list[_Before] = []
        jobs: list[Signature] = []
        for item in items:
            before, claimed = self._before(topic, item), item.claimed
            if isinstance(before, Known):
                assert claimed is not None
                known.append(len(jobs))
                jobs.append((before.public_key, claimed.body, claimed.signature))
            else:
                known.append(before)
        return items, known, self.workers.signatures(topic, jobs)

    def _before(self, topic: str, item: Item) -> Refusal | Known | None:
        """What can be said without a signature; if it takes one, the key; None: it is to be passed over."""
        if of_another(item, self._run_id):
            return None
        self.records += 1
        try:
            claimed = _claimed(item)
            if isinstance(claimed.event, EnclaveAttested):
                open_introduction(topic, item.value)
                return None
            return self.ring.claimed(topic, claimed)
        except (DecodeError, VerificationError) as error:
            return error

    def _ended(
        self, topic: str, items: Sequence[Item], known: Sequence[_Before], holds: Sequence[bool]
    ) -> Iterator[Judged]:  # fmt: skip
        for item, before in zip(items, known, strict=True):
            if isinstance(before, DecodeError | VerificationError):
                yield item, before
            elif before is not None:
                try:
                    # What does not hold is opened for what it says then.
                    how = self.ring.own if holds[before] else self.ring.open_decoded
                    yield item, how(topic, _claimed(item))
                except VerificationError as error:
                    yield item, error


def _claimed(item: Item) -> Opened[Event]:
    if item.claimed is None:
        raise DecodeError(item.why)
    return item.claimed


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
        except (DecodeError, VerificationError):
            self._alone(item)  # for it to be said what is wrong with it first
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
            self._alone(item)

    def _alone(self, item: Item) -> None:
        """One record by its own signature."""
        try:
            opened: Opened[Entry] = self._judge.open("ledger", item)  # type: ignore[assignment]
        except (DecodeError, VerificationError) as error:
            self._refused(item, error)
            return
        if self._entries.has(opened):
            self._repeated(item)
        else:
            self._taken(item, opened)
