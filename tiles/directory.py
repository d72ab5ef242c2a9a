"""Tiles in a folder that any static file server can serve.

A file is written under another name in ``.tmp``, flushed to the disk, and only then gets its own name; then the folder
is flushed. So a name never stands for half a file, whatever is killed, and what was said to be written stays written
when the power goes.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger.note import MAX_NOTE_BYTES
from ledger.tiles import CHECKPOINT, Tile
from tiles.base import Source, Store, WrongFileError
from zk_autograd.errors import StorageError, UsageError
from zk_autograd.files import read_capped

_TEMPORARY, _LOCK = ".tmp", ".lock"
_LOCK_SECONDS = 60.0
_THREADS = 8  # flushes that the disk can take together


class DirectorySource(Source):
    """A folder, to be read."""

    def __init__(self, folder: Path) -> None:
        """UsageError if there is no such folder."""
        self._folder, self.name = folder, str(folder)
        if not folder.is_dir():
            raise UsageError(f"{folder}: expected a folder with a log's tiles, there is none")

    def read(self, path: str, cap: int) -> bytes | None:
        try:
            return read_capped(self._folder / path, cap)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{self._folder / path}: cannot be read: {error.strerror}") from None
        except UsageError as error:
            raise WrongFileError(str(error)) from None

    def paths(self, folder: str) -> Iterator[str]:
        for where, _, names in os.walk(self._folder / folder):
            for name in names:
                yield (Path(where) / name).relative_to(self._folder).as_posix()

    def close(self) -> None:
        """Nothing is held."""


class DirectoryStore(DirectorySource, Store):
    """A folder, to be written: for one process at a time, which :meth:`writing` sees to."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder if it is not there; StorageError if that cannot be."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _flush_folder(folder.parent)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made: {error.strerror}") from None
        super().__init__(folder)
        self._durable: set[Path] = {folder}
        self._pool = ThreadPoolExecutor(_THREADS)
        self._number = 0

    def close(self) -> None:
        self._pool.shutdown()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._explained(_LOCK):
            handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(handle)
            with self._explained(_TEMPORARY):
                (self._folder / _TEMPORARY).mkdir(exist_ok=True)
                _clear(self._folder / _TEMPORARY)  # of whoever was killed
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StorageError(
                        f"{self._folder}: another process writes here, and has for {_LOCK_SECONDS:.0f} seconds"
                    ) from None
                time.sleep(0.05)

    def put(self, files: Mapping[str, bytes]) -> None:
        folders = {(self._folder / path).parent for path in files}
        for folder in sorted(folders):
            self._make(folder)
        list(self._pool.map(self._put, files.items()))
        # Also the folders of files that were there: whoever wrote them may not have come to this.
        list(self._pool.map(self._flush, sorted(folders)))

    def _put(self, item: tuple[str, bytes]) -> None:
        path, data = item
        try:
            there = self.read(path, len(data))
        except WrongFileError:
            there = b""  # longer
        if there is None:
            self._write(path, data)
        elif there != data:
            raise StorageError(
                f"{self._folder / path}: another file is there already; a tile never changes, so this is another "
                "log's folder, or it was altered: check it with zk-ledger fsck, or publish to an empty one"
            )

    def put_checkpoint(self, note: bytes, expected: bytes | None) -> None:
        there = self.read(CHECKPOINT, MAX_NOTE_BYTES)
        if there != expected:
            raise StorageError(f"{self._folder / CHECKPOINT}: not the one written last: another process publishes here")
        self._write(CHECKPOINT, note)
        self._flush(self._folder)

    def retire(self, tile: Tile) -> None:
        folder = self._folder / tile.partials
        with self._explained(tile.partials), suppress(FileNotFoundError):
            _clear(folder)
            os.rmdir(folder)

    def _make(self, folder: Path) -> None:
        """Makes a folder, and sees to it that its name stays."""
        if folder in self._durable:
            return
        self._make(folder.parent)
        with self._explained(str(folder.relative_to(self._folder))):
            folder.mkdir(exist_ok=True)
        self._flush(folder.parent)
        self._durable.add(folder)

    def _write(self, path: str, data: bytes) -> None:
        temporary = self._folder / _TEMPORARY / path.replace("/", "_")
        with self._explained(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(temporary, flags, 0o644)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(temporary, self._folder / path)

    def _flush(self, folder: Path) -> None:
        with self._explained(str(folder.relative_to(self._folder))):
            _flush_folder(folder)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._folder / path}: cannot be written: {error.strerror}; what is published stays as it was"
            ) from None


def _clear(folder: Path) -> None:
    """Removes a folder's files. OSError if it is a link: who put it there chooses what it leads to."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in os.listdir(handle):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
