"""The ledger as one who makes proofs needs it: entries, tree, and the best checkpoint. Reads the public topics only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consumers.steps_view import StepsView
from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.cosignature import cosigned
from ledger.entries import Entry
from ledger.note import VerifierKey
from ledger.tree import Tree
from schemas.events import CheckpointIssued, StepProven
from schemas.signing import Opened
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy


@dataclass(frozen=True)
class Shelf:
    """What a log holds.

    Attributes:
        entries: in leaf order.
        tree: over them; at least as large as the checkpoint's.
        note: the checkpoint to prove against, with its cosignatures.
        key: the ledger's.
        cosigned: how many of the policy's witnesses cosigned it.
        runs: the names of the runs that have started.
    """

    entries: list[Opened[Entry]]
    tree: Tree
    note: str
    checkpoint: Checkpoint
    key: VerifierKey
    cosigned: int
    runs: dict[bytes, str]

    def index_of_step(self, wanted: str, step: int) -> int:
        """Where the step of a run (id, first digits of it, or name) stands as proven.

        Raises:
            UsageError: no such run, or step; or no checkpoint covers it yet.
        """
        run_id = self._run(wanted)
        for index, opened in enumerate(self.entries):
            event = opened.event
            if isinstance(event, StepProven) and event.run_id == run_id and event.step == step:
                return index
        raise UsageError(f"run {run_id.hex()[:12]}: the ledger has no entry for step {step} (yet)")

    def _run(self, wanted: str) -> bytes:
        found = sorted(i for i, name in self.runs.items() if name == wanted or i.hex().startswith(wanted.lower()))
        if len(found) != 1:
            listed = "".join(f"\n  {i.hex()}  {name}" for i, name in sorted(self.runs.items())[:20]) or " none"
            raise UsageError(
                f"{f'{len(found)} runs' if found else 'no run'} {wanted[:64]!r} in this log; it holds:{listed}"
            )
        return found[0]

    def require(self, index: int) -> None:
        """Raises UsageError unless the checkpoint covers this entry."""
        if not 0 <= index < self.checkpoint.size:
            raise UsageError(
                f"entry {index}: the newest checkpoint with what the policy wants covers {self.checkpoint.size} "
                "entries; wait for zk-ledger"
            )


def read_shelf(log: EventLog, policy: Policy, origin: str) -> Shelf:
    """The ledger, and of its checkpoints the largest that has the policy's quorum of cosignatures.

    Raises:
        UsageError: there is none.
        VerificationError: entries and checkpoint do not belong together.
    """
    view = StepsView(log, policy)
    try:
        view.refresh()
        # Checkpoints first: by then the entries that they cover are there.
        issued = list(_opened(log, view, "checkpoints"))
        entries: list[Opened[Entry]] = list(_opened(log, view, "ledger"))
        best = _best(issued, view, policy, origin)
        runs = {run_id: opened.event.name for run_id, opened in view.runs.items()}
    finally:
        view.close()
    note, checkpoint, key, count = best
    tree = Tree(opened.body for opened in entries)
    if checkpoint.size > tree.size or tree.root_at(checkpoint.size) != checkpoint.root:
        raise VerificationError(
            f"the checkpoint of size {checkpoint.size} is not of the entries in the topic ledger: audit the log"
        )
    return Shelf(entries, tree, note, checkpoint, key, count, runs)


def _opened(log: EventLog, view: StepsView, topic: str) -> Iterator[Opened]:  # type: ignore[type-arg]
    """The topic's events by accepted keys, each once."""
    seen: set[bytes] = set()
    with log.reader([topic]) as reader:
        for record in reader.read_to_end():
            try:
                opened = view.open(topic, record.value)
            except (DecodeError, VerificationError):
                continue
            if opened.event_id not in seen:
                seen.add(opened.event_id)
                yield opened


def _best(
    issued: list[Opened[CheckpointIssued]], view: StepsView, policy: Policy, origin: str
) -> tuple[str, Checkpoint, VerifierKey, int]:
    keys = policy.witnesses.keys if policy.witnesses else ()
    wanted = policy.witnesses.quorum if policy.witnesses else 0
    found: list[tuple[int, int, int, tuple[str, Checkpoint, VerifierKey, int]]] = []
    for number, opened in enumerate(issued):
        public_key = view.ring.keys[opened.key_id].public_key
        if policy.ledger_keys is not None and public_key not in policy.ledger_keys:
            continue
        key = VerifierKey(origin, public_key)
        try:
            checkpoint = verify_checkpoint(opened.event.note, origin, [key])
            count = len(cosigned(checkpoint.note, keys))
        except (DecodeError, VerificationError):
            continue
        if count >= wanted:
            found.append((checkpoint.size, count, number, (opened.event.note, checkpoint, key, count)))
    if not found:
        witnesses = f" and {wanted} of {len(keys)} witnesses" if wanted else ""
        raise UsageError(
            f"no checkpoint of {origin} by an accepted ledger key{witnesses} in this log: run zk-ledger first, or give "
            "--origin and --policy"
        )
    return max(found)[3]
