"""What a watch has seen of a log, to be compared with what there is at the next look; kept in a file, if it is to last.

A few numbers and hashes, however long the log. The file is under the home's key, as remembered verdicts are: who can
write to it but does not know the key can take it away, which a watch says, and cannot change what it says.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anchor import Head
from consumers.audit.collected import Collected
from consumers.audit.compare import View
from consumers.audit.outcome import Audit
from consumers.audit.remembered import home_key
from ledger.chain import RunChain
from ledger.steps import Steps
from zk_autograd.errors import UsageError
from zk_autograd.files import read_capped
from zk_autograd.tee.keys import write_private

_DOMAIN = b"zk-autograd/seen/v1\0"
_LARGEST = 1 << 20
_ANCHORS = 1000
"""So many are followed by their receipts: where a policy names none, who publishes receipts can make anchors up."""


@dataclass(frozen=True)
class Alarm:
    """Something that must not happen to a log that only grows."""

    kind: str
    text: str


Heads = Sequence[tuple[str, Head | None]]
"""Live anchors, by URI."""


@dataclass
class Seen:
    """What the last round saw: a few numbers and hashes, however long the log."""

    entries: int = 0
    root: bytes = b""
    step: int = 0
    event_id: bytes = b""
    end: bytes = b""
    checkpoint: int = 0
    receipts: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, said: dict[str, Any]) -> Seen:
        """What :class:`SeenFile` has put down of one."""
        plain: dict[str, Any] = {name: said[name] for name in ("entries", "step", "checkpoint")}
        plain |= {name: bytes.fromhex(said[name]) for name in ("root", "event_id", "end")}
        plain |= {
            name: {who: (count, bytes.fromhex(root)) for who, (count, root) in said[name].items()}
            for name in ("receipts", "heads")
        }
        return cls(**plain)

    @property
    def looked(self) -> bool:
        """Whether there was anything yet."""
        return bool(self.entries or self.step or self.checkpoint or self.receipts)

    def vanished(self) -> list[Alarm]:
        """The alarm for a run that is not in the log any more; nothing if it never was."""
        if not self.looked:
            return []
        return [
            Alarm("log rolled back", f"the run is gone: it had {self.step} steps, the ledger {self.entries} entries")
        ]

    def compare(self, now: View, found: Collected, out: Audit, heads: Heads) -> list[Alarm]:
        """Alarms for what is not there any more, or another; then this round is what was seen.

        A chain that cannot be read for want of the auditor's own circuit says nothing of the log.
        """
        unread = out.chain is None and found.start is not None
        alarms = [] if unread else self._chain(out.chain)
        return alarms + self._rest(now, heads)

    def _chain(self, chain: RunChain | None) -> list[Alarm]:
        found = []
        steps = chain.steps if chain else Steps()
        end = chain.finished.event_id if chain and chain.finished else b""
        if len(steps) < self.step:
            found.append(Alarm("log rolled back", f"the run had {self.step} steps, and has {len(steps)}"))
        elif self.step and steps[self.step - 1].event_id != self.event_id:
            found.append(Alarm("log forked", f"step {self.step} is another event than it was"))
        if self.end and end != self.end:
            kind, text = ("log forked", "another event") if end else ("log rolled back", "gone")
            found.append(Alarm(kind, f"the run had ended, and its end is {text}"))
        self.step, self.event_id, self.end = len(steps), steps[-1].event_id if len(steps) else b"", end
        return found

    def _rest(self, now: View, heads: Heads) -> list[Alarm]:
        found = []
        tree = now.tree
        if tree.size < self.entries:
            found.append(Alarm("log rolled back", f"the ledger had {self.entries} entries, and has {tree.size}"))
        elif self.entries and tree.root_at(self.entries) != self.root:
            found.append(Alarm("log forked", f"the ledger's first {self.entries} entries are others than they were"))
        largest = max((s.checkpoint.size for s in now.checkpoints), default=0)
        if largest < self.checkpoint:
            text = f"there was a checkpoint of {self.checkpoint} entries, now the largest is of {largest}"
            found.append(Alarm("checkpoint rolled back", text))
        newest = {r.anchor: (r.counter, r.root) for r in sorted(now.receipts, key=lambda r: r.counter)}
        # Those that are known stay, then the first ones in the log.
        names = list(dict.fromkeys([*self.receipts, *(r.anchor for r in now.receipts)]))[:_ANCHORS]
        receipts = {name: newest[name] for name in names if name in newest}
        live = {uri: (head.counter, head.root) for uri, head in heads if head is not None}
        found += _anchors("receipts", self.receipts, newest) + _anchors("live", self.heads, live, may_miss=True)
        self.entries, self.root = tree.size, tree.root()
        self.checkpoint, self.receipts, self.heads = largest, receipts, self.heads | live
        return found


def _anchors(
    what: str, before: dict[str, tuple[int, bytes]], now: dict[str, tuple[int, bytes]], may_miss: bool = False
) -> list[Alarm]:  # fmt: skip
    """Of each anchor: its count goes on, and one count is of one tree. A live one may not answer (check 10 says so)."""
    found = []
    for name, (counter, root) in before.items():
        count, tree = now.get(name, (counter, root) if may_miss else (0, b""))
        if count < counter:
            found.append(Alarm("anchor rolled back", f"{name} ({what}): counter {counter} before, {count} now"))
        elif count == counter and tree != root:
            found.append(Alarm("anchor forked", f"{name} ({what}): counter {counter} is of another tree than before"))
    return found


class SeenFile:
    """Where a home keeps what its watch of one run in one place has seen.

    Args:
        home: the auditor's; ``audit/seen-….json`` is made below it.
        place: the log's URL, the run and what is trusted, in the words of who watches.
    """

    def __init__(self, home: Path, *place: str) -> None:
        self._key = home_key(home)
        self._place = json.dumps(place).encode()
        self.path = home / "audit" / f"seen-{hashlib.sha256(self._place).hexdigest()[:16]}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads and then writes the file meanwhile. UsageError if that cannot be had."""
        try:
            handle = os.open(
                self.path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from None
        with os.fdopen(handle, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def load(self) -> tuple[str, Seen] | None:
        """The run's id and what was seen of it; None if nothing was.

        Raises:
            UsageError: the file is not as it was written.
        """
        if not self.path.exists():
            return None
        try:
            mac, _, content = read_capped(self.path, _LARGEST).partition(b"\n")
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}") from None
        if not hmac.compare_digest(mac, self._mac(content)):
            raise UsageError(
                f"{self.path}: not what this home's watch has written: what it saw is lost, and that a log was taken "
                "back since would not be noticed; remove the file to begin anew"
            )
        found = json.loads(content)
        return found["run"], Seen.of(found["seen"])

    def save(self, run_id: str, seen: Seen) -> None:
        """Puts it down; on the disk when this returns. UsageError if it cannot be written."""
        content = json.dumps({"run": run_id, "seen": asdict(seen)}, default=bytes.hex).encode()
        write_private(self.path, self._mac(content) + b"\n" + content, replace=True)

    def _mac(self, content: bytes) -> bytes:
        return hmac.new(self._key, _DOMAIN + self._place + b"\0" + content, "sha256").hexdigest().encode()
