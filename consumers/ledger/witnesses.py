"""Shows the ledger's checkpoints to witnesses and collects their cosignatures (c2sp.org/tlog-witness).

The ledger publishes first and asks afterwards: a witness never holds a tree that a crash could still undo. A witness
that is down is said, left alone for a while (10 seconds, then twice as long each time, at most 10 minutes), and asked
again; the ledger goes on without it. All witnesses are asked at once, so a round takes no longer than the slowest
answer, and never longer than twice the time-out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from consumers.ledger.asking import TIMEOUT, Answer, ask
from consumers.options import Reporter
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.note import NoteSignature, add_signatures
from ledger.tree import GrowingTree
from ledger.witness import SIZE_TYPE, add_checkpoint_request, parse_cosignature, parse_size
from zk_autograd.errors import DecodeError, UsageError, VerificationError, WitnessError
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Witnesses

Ask: TypeAlias = Callable[[str, bytes, float], Answer]

_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0
_SHOWN = 120


@dataclass
class _Witness:
    """What the ledger knows of one witness: the size it holds, as far as known, and when to ask it again."""

    key: WitnessKey
    url: str
    held: int = 0
    pause: float = 0.0
    due: float = 0.0
    thread: threading.Thread | None = None


@dataclass
class Cosigners:
    """The witnesses of a policy that have a URL."""

    witnesses: Witnesses
    report: Reporter
    ask: Ask = ask
    timeout: float = TIMEOUT
    clock: Callable[[], float] = time.monotonic
    _all: list[_Witness] = field(init=False)

    def __post_init__(self) -> None:
        self._all = [_Witness(key, url) for key, url in self.witnesses.urls.items() if url]

    def cosign(self, note: str, tree: GrowingTree) -> str | None:
        """The checkpoint ``note`` of ``tree`` with the cosignatures that could be had now; None without a new one."""
        checkpoint = parse_checkpoint(note)
        due = [w for w in self._lacking(checkpoint) if self._may_ask(w)]
        found: list[NoteSignature] = []
        again = self._round(due, note, checkpoint, tree, found)
        self._round(again, note, checkpoint, tree, found, last=True)
        try:
            return add_signatures(note, found) if found else None
        except UsageError as error:
            self.report(f"cosignatures left out: {error}", witnesses=len(found))
            return None

    def lacking(self, note: str) -> list[WitnessKey]:
        """The witnesses, with a URL, that have not cosigned ``note``."""
        return [w.key for w in self._lacking(parse_checkpoint(note))]

    def _lacking(self, checkpoint: Checkpoint) -> list[_Witness]:
        there = {(line.name, line.key_id) for line in checkpoint.note.signatures}
        return [w for w in self._all if (w.key.name, w.key.key_id) not in there]

    def _may_ask(self, witness: _Witness) -> bool:
        busy = witness.thread is not None and witness.thread.is_alive()
        return not busy and self.clock() >= witness.due

    def _round(
        self, those: Sequence[_Witness], note: str, checkpoint: Checkpoint, tree: GrowingTree,
        found: list[NoteSignature], last: bool = False,
    ) -> list[_Witness]:  # fmt: skip
        """Asks all of these at once; returns those that hold another size than they were taken to hold."""
        answers: dict[int, Answer | WitnessError] = {}
        for number, witness in enumerate(those):
            old = min(witness.held, checkpoint.size)
            request = add_checkpoint_request(old, tree.consistency_proof(old, checkpoint.size), note)
            witness.thread = threading.Thread(
                target=self._ask_one, args=(witness.url, request, number, answers), daemon=True
            )
            witness.thread.start()
        until = time.monotonic() + self.timeout + 0.5
        again = []
        for number, witness in enumerate(those):
            assert witness.thread is not None
            witness.thread.join(max(0.0, until - time.monotonic()))
            answer = answers.get(number, WitnessError(f"no answer within {self.timeout:g} seconds"))
            try:
                if isinstance(answer, WitnessError):
                    raise answer
                if (size := self._other_size(witness, answer, checkpoint, last)) is not None:
                    witness.held = size
                    again.append(witness)
                    continue
                found.append(parse_cosignature(answer.body, note, witness.key))
                witness.held, witness.pause, witness.due = checkpoint.size, 0.0, 0.0
            except (WitnessError, DecodeError, VerificationError) as error:
                self._failed(witness, error)
        return again

    def _ask_one(self, url: str, request: bytes, number: int, answers: dict[int, Answer | WitnessError]) -> None:
        try:
            answers[number] = self.ask(url, request, self.timeout)
        except WitnessError as error:
            answers[number] = error

    def _other_size(self, witness: _Witness, answer: Answer, checkpoint: Checkpoint, last: bool) -> int | None:
        """The size to ask again with; None if the answer is a cosignature.

        Raises:
            WitnessError: a refusal.
        """
        if answer.status == 200:
            return None
        said = "".join(c if c.isprintable() else " " for c in answer.body[:_SHOWN].decode(errors="replace")).strip()
        asked = min(witness.held, checkpoint.size)
        size = parse_size(answer.body) if answer.status == 409 and answer.content_type == SIZE_TYPE else None
        if size is not None and size > checkpoint.size:
            raise WitnessError(
                f"holds a tree of {size} entries, this ledger signed one of {checkpoint.size}: the ledger was rolled "
                "back, or another one runs under its origin and key"
            )
        if size is not None and size != asked and not last:
            return size
        reasons = {
            400: "calls the request malformed",
            403: "does not take this ledger's key (or does not know its origin): its operator has to add it",
            404: "does not know this ledger's origin: its operator has to add it",
            409: f"holds another root for {asked} entries: the ledger shows different histories to different readers"
            if asked == checkpoint.size
            else "refuses without a reason",
            422: f"holds a tree of {asked} entries that this one does not extend: the ledger shows different histories "
            "to different readers",
        }
        if size is not None and size != asked:
            raise WitnessError(f"holds {asked} entries, and then {size}: somebody else asks it, too; later again")
        raise WitnessError(f"{reasons.get(answer.status, 'refuses')} (status {answer.status}: {said!r})")

    def _failed(self, witness: _Witness, error: Exception) -> None:
        witness.pause = min(_LONGEST_PAUSE, witness.pause * 2 or _FIRST_PAUSE)
        witness.due = self.clock() + witness.pause
        text = str(error).removeprefix(f"witness {witness.key.name}: ")
        self.report(
            f"witness {witness.key.name}: {text}; not cosigned, asked again in {witness.pause:g} seconds",
            witness=witness.key.name,
            retry_seconds=witness.pause,
        )
