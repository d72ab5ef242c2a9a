"""Whose proof of a shard is published: the first claim's in the topic ``claims``, which has one order.

A second proof of a witness opens its columns at more points than their salts hide, also if only the log's host sees it.
So nothing of a proof is sent anywhere before the log says that it is this proof's turn.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.events import ProofClaimed
from schemas.keyring import KeyRing
from zk_autograd.errors import DecodeError, UsageError, VerificationError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy

Slot = tuple[bytes, int, int]
"""Run id, step and shard."""

FIRST = bytes(32)
"""What the first claim to a shard replaces."""


class Turn(NamedTuple):
    """One chance to publish a shard's proof: the first, or the one after a claim that came to nothing.

    In each at most one claim counts, for ever.
    """

    run_id: bytes
    step: int
    shard: int
    replaces: bytes

    @property
    def slot(self) -> Slot:
        """The shard."""
        return self[:3]


class Claim(NamedTuple):
    """The claim that stands.

    Attributes:
        claim_id: its event id.
        key_id: the prover's key that signed it.
        proof: event id of the ProofAttached that may be published.
        turn: what it has won.
    """

    claim_id: bytes
    key_id: bytes
    proof: bytes
    turn: Turn


class ClaimedError(ZkAutogradError):
    """It is another proof's turn: that of ``claim``."""

    def __init__(self, claim: Claim) -> None:
        run_id, step, shard, _ = claim.turn
        where = f"run {run_id.hex()[:12]}, step {step}, shard {shard}"
        super().__init__(f"{where}: the proof that prover {claim.key_id.hex()} has claimed")
        self.claim = claim

    def advice(self, waited: float) -> str:
        """What to do once it has not come for so many seconds."""
        return (
            f"{self}: not there after {waited:.0f} s. Start that prover again with its home: it publishes what it has "
            "claimed. Only if its home is gone for good: "
            f"zk-prove --group rescue --instead-of {self.claim.key_id.hex()}"
        )


class Claims:
    """Reads on when asked. Only what a prover's key signed counts that was introduced before, in this topic.

    Keys of other topics have no order with claims: a claim before its key's introduction would count for some readers
    and not for others. They would then come to different claims that stand.
    """

    def __init__(self, log: EventLog, policy: Policy) -> None:
        """Raises UsageError if the topic is not in one order."""
        if (count := log.partitions("claims")) != 1:
            raise UsageError(f"topic claims: expected 1 partition, since the first claim counts; it has {count}")
        self._ring, self._reader = KeyRing(policy), log.reader(["claims"])
        self._standing: dict[Slot, Claim] = {}

    def of(self, slot: Slot) -> Claim | None:
        """The claim to this shard that stands, as of now; None if there is none."""
        self._read_on()
        return self._standing.get(slot)

    def know(self, key_id: bytes) -> bool:
        """Whether a key's claims count, as of now."""
        self._read_on()
        return key_id in self._ring.keys

    def _read_on(self) -> None:
        for record in self._reader.read_to_end():
            try:
                opened = self._ring.open("claims", record.value)
            except (DecodeError, VerificationError):
                continue
            event = opened.event
            if not isinstance(event, ProofClaimed):  # an introduction, which the ring has taken
                continue
            turn = Turn(event.run_id, event.step, event.shard, event.replaces)
            # A copy of a claim comes too late, whenever it comes: its turn is taken.
            if turn == next_turn(turn.slot, self._standing.get(turn.slot)):
                self._standing[turn.slot] = Claim(opened.event_id, opened.key_id, event.proof, turn)

    def close(self) -> None:
        """Closes the reader."""
        self._reader.close()


def next_turn(slot: Slot, standing: Claim | None) -> Turn:
    """The turn that nobody has yet."""
    return Turn(*slot, standing.claim_id if standing else FIRST)
