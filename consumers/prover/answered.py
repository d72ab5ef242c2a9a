"""Which witnesses have been proven already, as the topic ``proofs`` says."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass

from consumers.prover.claims import Slot
from consumers.steps_view import StepsView
from consumers.verifying import Verifiers
from schemas.events import ProofAttached, WitnessShard
from schemas.signing import Opened
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.eventlog.base import EventLog, Record
from zk_autograd.proofs.base import Circuit, Commitments

_MOST = 64
"""So many published proofs of one witness are looked at of each key, which may have signed any number of bad ones."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a proof is about, None if it does not hold; and whether its event names the circuit that it is of."""

    about: Commitments | None
    own: bool


class Answered:
    """Reads on when asked. Only what a prover's key signed is looked at."""

    def __init__(self, log: EventLog, view: StepsView) -> None:
        self._log, self._view = log, view
        self._reader, self._verify = log.reader(["proofs"]), Verifiers()
        self._ends: dict[int, int] = {}
        self._slots: dict[Slot, list[tuple[int, int, bytes]]] = defaultdict(list)
        self._found: dict[tuple[bytes, bytes, tuple[int, ...]], _Judged] = {}
        """By event, circuit and public integers: nobody can have the same garbage judged again and again."""
        self._kept: Counter[tuple[Slot, bytes]] = Counter()  # of these, by key: one must not hide what another signed
        self._counts: Counter[bytes] = Counter()

    def has(self, run_id: bytes, step: int, shard: int) -> bool:
        """Whether something is published as a proof of this slot."""
        self._read_on()
        return (run_id, step, shard) in self._slots

    def proven(self, event: WitnessShard, circuit: Circuit, public: tuple[int, ...]) -> bool:
        """Whether a proof of this very witness is published, and holds.

        Garbage under a prover's key must not keep a witness from being proven.
        """
        if not self.has(event.run_id, event.step, event.shard):
            return False
        for place in self._slots[event.run_id, event.step, event.shard]:
            judged = self._judged(place, circuit, public)
            found = judged.about if judged is not None and judged.own else None
            if found is not None and (found.pre, found.post, found.work) == (event.pre, event.post, event.work):
                return True
        return False

    def refuted(self, event: WitnessShard, proof: bytes, circuit: Circuit, public: tuple[int, ...]) -> bool:
        """Whether the ProofAttached with this event id is published for the witness's shard, and is no proof at all."""
        self._read_on()
        for place in self._slots.get((event.run_id, event.step, event.shard), ()):
            if place[2] == proof and (judged := self._judged(place, circuit, public)) is not None:
                return judged.about is None
        return False

    def lists(self, slot: Slot, proof: bytes) -> bool:
        """Whether the ProofAttached with this event id is published for this shard."""
        self._read_on()
        return any(name == proof for _, _, name in self._slots.get(slot, ()))

    def count(self, run_id: bytes) -> int:
        """How many proofs of a run have been published."""
        self._read_on()
        return self._counts[run_id]

    def _read_on(self) -> None:
        for record in self._reader.read_to_end():
            self._ends[record.partition] = record.offset + 1
            opened = self._opened(record)
            if opened is not None:
                event = opened.event
                slot = event.run_id, event.step, event.shard
                if self._kept[slot, opened.key_id] < _MOST:
                    self._kept[slot, opened.key_id] += 1
                    self._slots[slot].append((record.partition, record.offset, opened.event_id))
                self._counts[event.run_id] += 1

    def _opened(self, record: Record) -> Opened[ProofAttached] | None:
        try:
            return self._view.open("proofs", record.value)  # type: ignore[return-value]
        except (DecodeError, VerificationError):
            return None

    def _judged(self, place: tuple[int, int, bytes], circuit: Circuit, public: tuple[int, ...]) -> _Judged | None:
        """What a published proof is worth; None if it is not to be read any more."""
        key = place[2], circuit.id, public
        if key not in self._found:
            event, about = self._read(*place[:2]), None
            if event is None:
                return None
            with suppress(VerificationError):
                about = self._verify(circuit, event.proof, public)
            self._found[key] = _Judged(about, event.circuit_id == circuit.id)
        return self._found[key]

    def _read(self, partition: int, offset: int) -> ProofAttached | None:
        """Once more: proofs are too large to be kept."""
        ends = {("proofs", number): end for number, end in self._ends.items()}
        with self._log.reader(["proofs"], ends | {("proofs", partition): offset}) as reader:
            for record in reader.read_to_end():
                if (record.partition, record.offset) == (partition, offset):
                    opened = self._opened(record)
                    return opened.event if opened is not None else None
        return None

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()
        self._verify.close()
