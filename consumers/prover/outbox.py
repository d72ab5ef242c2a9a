"""Proofs that were made and are not published yet, in the prover's home, encrypted under their run's data key.

A claim names one proof by its bytes. They are on the disk before it is made, so that a prover that was killed in
between publishes these and no others; and provers that share a home keep one proof a turn, whichever had it first.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from consumers.prover.claims import FIRST, Turn
from schemas.topics import TOPICS
from zk_autograd.errors import SealingError, StorageError, UsageError
from zk_autograd.files import read_capped
from zk_autograd.tee import sealing
from zk_autograd.tee.keys import write_private

_DOMAIN = b"claimed proof\0"
_PLACE = 32 + 8 + 4 + len(FIRST)
_CAP = _PLACE + sealing.OVERHEAD_BYTES + TOPICS["proofs"].cap


class Outbox:
    """A folder with one file for each turn: what it is of (76 bytes), then the sealed record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, turn: Turn, value: bytes, data_key: bytes) -> bytes:
        """Keeps a record for a turn; returns the one that is kept, which may be another that was there already.

        Raises:
            StorageError: it could not be written, or what is there does not open.
        """
        place = _place(turn)
        try:
            write_private(self._path(turn), place + sealing.seal(data_key, _DOMAIN + place, value), replace=False)
        except UsageError as error:
            raise StorageError(str(error)) from None
        kept = self.get(turn, data_key)
        return value if kept is None else kept

    def get(self, turn: Turn, data_key: bytes) -> bytes | None:
        """The record that is kept for a turn, or None.

        Raises:
            StorageError: it cannot be read, or does not open.
        """
        path, place = self._path(turn), _place(turn)
        try:
            content = read_capped(path, _CAP)
        except FileNotFoundError:
            return None
        except (OSError, UsageError) as error:
            raise StorageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        try:
            if content[:_PLACE] != place:
                raise SealingError("kept for another turn")
            return sealing.unseal(data_key, _DOMAIN + place, content[_PLACE:])
        except SealingError as error:
            raise StorageError(f"{path}: a proof that was not published yet, and is damaged: {error}") from None

    def drop(self, turn: Turn) -> None:
        """Forgets what is kept for a turn, if anything."""
        self._path(turn).unlink(missing_ok=True)

    def turns(self) -> list[Turn]:
        """Of which something is kept; files that are none of ours are passed over."""
        found = []
        for path in sorted(self._folder.glob("*.proof")):
            try:
                content = read_capped(path, _CAP)
            except (OSError, UsageError):
                continue
            turn = Turn(
                content[:32], int.from_bytes(content[32:40], "big"), int.from_bytes(content[40:44], "big"),
                content[44:_PLACE],
            )  # fmt: skip
            if self._path(turn) == path:
                found.append(turn)
        return found

    def _path(self, turn: Turn) -> Path:
        return self._folder / f"{hashlib.sha256(_place(turn)).hexdigest()}.proof"


def _place(turn: Turn) -> bytes:
    return turn.run_id + turn.step.to_bytes(8, "big") + turn.shard.to_bytes(4, "big") + turn.replaces
