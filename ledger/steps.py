"""The committed steps of a run, of which the first ones may be forgotten. Pure.

A ledger that has seen a step enter needs of it no more than the state that it ended in; of an epoch that is not closed,
the state that it began with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schemas.events import StepCommitted
from schemas.signing import Opened
from zk_autograd.errors import UsageError


class Steps:
    """Step ``i + 1`` is at index ``i``.

    Attributes:
        forgotten: how many of the first steps are not kept.
        kept: the others, in order.
        roots: state roots after steps that are not kept: the last of them, and the last of each epoch.
    """

    __slots__ = ("forgotten", "kept", "roots")

    def __init__(self, forgotten: int = 0, roots: Mapping[int, bytes] | None = None) -> None:
        self.forgotten, self.roots = forgotten, dict(roots or {})
        self.kept: list[Opened[StepCommitted]] = []

    def __len__(self) -> int:
        return self.forgotten + len(self.kept)

    def __getitem__(self, index: int) -> Opened[StepCommitted]:
        at = index + len(self) if index < 0 else index
        if not self.forgotten <= at < len(self):
            raise UsageError(f"step {at + 1}: expected one of {self.forgotten + 1} to {len(self)}")
        return self.kept[at - self.forgotten]

    def __iter__(self) -> Iterator[Opened[StepCommitted]]:
        return (self[i] for i in range(len(self)))

    def append(self, opened: Opened[StepCommitted]) -> None:
        """Takes the next step."""
        self.kept.append(opened)

    def holds(self, event_id: bytes) -> bool:
        """Whether one of those that are kept has this id."""
        return any(opened.event_id == event_id for opened in self.kept)

    def state_root(self, step: int) -> bytes:
        """The state root after a step that is kept, or of which the root is."""
        return self.roots[step] if step in self.roots else self[step - 1].event.state_root

    def event_id(self, step: int) -> bytes:
        """The id of a step that is kept."""
        return self[step - 1].event_id

    def work_root(self, step: int) -> bytes:
        """The work root of a step that is kept."""
        return self[step - 1].event.work_root

    def carry_root(self, step: int) -> bytes:
        """The carry root of a step that is kept."""
        return self[step - 1].event.carry_root

    def public(self, step: int, first: int, count: int) -> tuple[int, ...]:
        """Some of the public integers of a step that is kept."""
        return self[step - 1].event.public[first : first + count]

    def forget(self, count: int, epoch_steps: int) -> None:
        """Keeps no more of the first ``count`` steps than the roots named above."""
        if count <= self.forgotten:
            return
        if not epoch_steps or self.forgotten % epoch_steps:
            self.roots.pop(self.forgotten, None)
        for step in range(self.forgotten + 1, count + 1):
            if step == count or (epoch_steps and not step % epoch_steps):
                self.roots[step] = self[step - 1].event.state_root
        del self.kept[: count - self.forgotten]
        self.forgotten = count
