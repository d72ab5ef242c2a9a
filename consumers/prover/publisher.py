"""A proof's way into the log: kept, claimed, and published only if the claim was the first.

1. The sealed record is kept in the prover's home, on the disk.
2. The claim names it by its event id, in a transaction of its own.
3. The topic ``claims`` is read up to that claim. If another stood before, the proof is forgotten: nobody has seen it.
4. The record is published, as often as it takes, and forgotten.

Whoever dies after 2 publishes the same bytes when it comes back, or another prover of its home does.
"""

from __future__ import annotations

from collections.abc import Collection

from consumers.options import Reporter
from consumers.prover.answered import Answered
from consumers.prover.claims import Claim, ClaimedError, Claims, Turn, next_turn
from consumers.prover.outbox import Outbox
from consumers.steps_view import StepsView
from schemas.events import ProofClaimed, WitnessShard
from schemas.signing import decode_unverified, seal
from zk_autograd.errors import EventLogError, UsageError, ZkAutogradError
from zk_autograd.eventlog.base import EventLog, Producer
from zk_autograd.home import Home
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit
from zk_autograd.tee.keys import SigningKey, load_data_key


class Publisher:
    """One prover's claims.

    Attributes:
        instead_of: key ids of provers whose homes are gone for good, as the operator says: what they have claimed and
            not published may be proven again.
    """

    def __init__(
        self, log: EventLog, policy: Policy, view: StepsView, answered: Answered, outbox: Outbox, producer: Producer,
        key: SigningKey, instead_of: Collection[bytes] = (),
    ) -> None:  # fmt: skip
        """Raises UsageError unless ``policy`` accepts ``key`` as introduced in ``claims``: else none counts."""
        self._claims, self._view, self._answered, self._outbox = Claims(log, policy), view, answered, outbox
        if not self._claims.know(key.key_id):
            self._claims.close()
            raise UsageError(f"this prover's key {key.key_id.hex()[:12]} is not one that its policy accepts")
        view.refresh()
        self._producer, self._key, self.instead_of = producer, key, frozenset(instead_of)

    def turn(
        self, event: WitnessShard, circuit: Circuit, public: tuple[int, ...], data_key: bytes
    ) -> tuple[Turn, bytes | None]:
        """The turn that a proof of this witness would be for, and the record that is kept for it already.

        Raises:
            ClaimedError: it is another's.
            StorageError: what is kept cannot be read.
        """
        slot = event.run_id, event.step, event.shard
        standing = self._claims.of(slot)
        if standing is not None:
            kept = self._outbox.get(standing.turn, data_key)
            if kept is not None and _id(kept) == standing.proof:
                return standing.turn, kept
            # A claim to what is no proof keeps nobody from proving: it has opened nothing.
            if standing.key_id not in self.instead_of and not self._answered.refuted(
                event, standing.proof, circuit, public
            ):
                raise ClaimedError(standing)
        turn = next_turn(slot, standing)
        return turn, self._outbox.get(turn, data_key)

    def claim(self, turn: Turn, value: bytes, data_key: bytes) -> bytes:
        """Claims a turn for the ProofAttached in ``value``; returns the record to publish, and then to forget.

        Raises:
            ClaimedError: another was before.
            StorageError: it could not be kept; nothing was claimed.
            EventLogError: the log does not show the claim.
        """
        kept = self._outbox.keep(turn, value, data_key)
        standing = self._claims.of(turn.slot)
        if turn == next_turn(turn.slot, standing):
            event = ProofClaimed(*turn.slot, _id(kept), turn.replaces)
            with self._producer.transaction() as transaction:
                transaction.send("claims", turn.run_id, seal("claims", event, self._key))
            standing = self._claims.of(turn.slot)
        if standing is None:
            raise EventLogError("topic claims: the claim that was written there just now is gone")
        if standing.turn != turn or standing.proof != _id(kept):
            self._outbox.drop(turn)
            raise ClaimedError(standing)
        return kept

    def publish(self, turn: Turn, value: bytes) -> bool:
        """Publishes a claimed record by itself, whatever becomes of the witness's offset; False if it is there."""
        missing = not self._answered.lists(turn.slot, _id(value))
        if missing:
            with self._producer.transaction() as transaction:
                transaction.send("proofs", turn.run_id, value)
        self.published(turn)
        return missing

    def published(self, turn: Turn) -> None:
        """Forgets a record that is in the log."""
        self._outbox.drop(turn)

    def resume(self, home: Home, report: Reporter) -> None:
        """Publishes what this home has claimed and not published; forgets what has come to nothing.

        What was kept and not claimed stays for whoever takes its witness, and so does what another log is about.
        """
        for turn in self._outbox.turns():
            where = f"step {turn.step} shard {turn.shard} of run {turn.run_id.hex()[:12]}"
            try:
                done = self._resume(turn, self._claims.of(turn.slot), home)
            except ZkAutogradError as error:
                report(f"{where} stays unpublished: {error}", run_id=turn.run_id.hex(), refused=True)
            else:
                if done:
                    report(f"published {where}, which was claimed before", run_id=turn.run_id.hex(), resumed=True)

    def _resume(self, turn: Turn, standing: Claim | None, home: Home) -> bool:
        start = self._view.runs.get(turn.run_id)
        if start is None or standing is None or turn == next_turn(turn.slot, standing):
            return False
        value = None
        if standing.turn == turn:
            value = self._outbox.get(turn, load_data_key(home.data_keys, start.event.data_key_id))
        if value is None or _id(value) != standing.proof:
            self._outbox.drop(turn)
            return False
        return self.publish(turn, value)

    def close(self) -> None:
        """Closes the reader."""
        self._claims.close()


def _id(value: bytes) -> bytes:
    """The event id of a sealed record."""
    return decode_unverified("proofs", value).event_id
