"""A writer that is killed, or whose system calls fail, leaves a sound log behind; here at every 23rd place.

All places: ``make crash`` (docs/crash-safety.md). Where strace cannot be used, calls still fail from inside.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.tiles.crash_writer import InOrder
from tests.tiles.crashing import BEFORE, SIZES, Crashes, why_not
from tests.tiles.logs import Signer, files
from tiles.directory import DirectorySource, DirectoryStore
from tiles.fsck import DamageError
from tiles.publisher import Publisher
from zk_autograd.errors import StorageError

STRIDE = 23


def test_whatever_call_kills_or_fails_the_log_is_sound_and_goes_on(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    crashes = Crashes(tmp_path)
    chosen = list(crashes.injections())[::STRIDE]
    noticed = sum(crashes.try_one(injection) for injection in chosen)
    assert noticed > len(chosen) // 2, "the injections did not reach the writer"


@pytest.mark.slow
def test_whatever_call_kills_or_fails_at_every_one(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    crashes = Crashes(tmp_path)
    for injection in crashes.injections():
        crashes.try_one(injection)


def test_a_writer_that_put_the_checkpoint_first_would_be_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the tests here can fail."""

    def publish(self: Publisher, note: str) -> None:
        self.mark()
        with self._store.writing():
            self._store.put_checkpoint(note.encode(), self._note)
            self._put_full()
            self._store.put({str(tile): self._edge.partial(tile) for tile in self._marks})

    signer = Signer()
    folder = signer.folder(tmp_path, BEFORE)
    monkeypatch.setattr(Publisher, "publish", publish)
    monkeypatch.setattr(DirectoryStore, "put", lambda self, files: (_ for _ in ()).throw(StorageError("killed")))
    with pytest.raises(StorageError, match="killed"):
        signer.folder(folder, 300)
    with pytest.raises(DamageError, match="tile/entries/000: expected the file that the checkpoint needs"):
        signer.check(DirectorySource(folder))


@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename", "mkdir"])
def test_calls_may_fail_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without strace: one call of the standard library's in three, one after the other, says that the disk is full."""
    signer = Signer()
    reference = files(signer.folder(tmp_path / "reference", BEFORE, *SIZES))
    number, real, failed = 0, getattr(os, name), True
    while failed:
        folder = signer.folder(tmp_path / str(number), BEFORE)
        failed, count = False, 0

        def call(*args: Any, number: int = number, **words: Any) -> Any:
            nonlocal failed, count
            count += 1
            if count == number + 1:
                failed = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **words)

        said, why = BEFORE, ""
        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                with DirectoryStore(folder) as store:
                    store._pool.shutdown()
                    store._pool = InOrder()  # type: ignore[assignment]
                    for size in SIZES:
                        signer.grow(store, [size])
                        said = size
            except StorageError as error:
                why = str(error)
        passed_over = name == "mkdir" and not why  # of a folder that is there already
        assert not failed or passed_over or "No space left on device" in why
        assert signer.check(DirectorySource(folder)).head.size >= said
        signer.folder(folder, *(s for s in SIZES if s > said))
        assert files(folder) == reference
        number += 3
    assert number > len(SIZES), f"os.{name} was called {number} times"
