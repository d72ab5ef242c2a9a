"""The SQLite file under an event log: its tables, its connections, and what its errors mean.

Write-ahead mode: readers never wait for writers, and writers of several processes wait for each other. The file must
be on a local disk, for write-ahead mode needs shared memory.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from zk_autograd.errors import EventLogError, UsageError

T = TypeVar("T")
Version = tuple[int, ...]

APPLICATION_ID = 0x7A6B6175  # "zkau", in the file's header
LAYOUT = 1
BUSY_SECONDS = 30.0
POLL_SECONDS = 0.03
"""Pause between two looks into the file."""
# Nothing in the file is longer: a forged file cannot make a reader allocate more.
_MAX_CELL_BYTES = 2 * 1024 * 1024

_TABLES = """
CREATE TABLE topics (
    topic TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE heads (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, timestamp_ms INTEGER NOT NULL, PRIMARY KEY (topic, partition, offset)
);
CREATE TABLE producers (transactional_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE offsets (
    group_id TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (group_id, topic, partition)
) WITHOUT ROWID;
CREATE TABLE generations (group_id TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE members (
    group_id TEXT NOT NULL, member_id TEXT NOT NULL, topics TEXT NOT NULL,
    seen_ms INTEGER NOT NULL, timeout_ms INTEGER NOT NULL, PRIMARY KEY (group_id, member_id)
) WITHOUT ROWID;
CREATE TABLE assignments (
    group_id TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    member_id TEXT NOT NULL, since INTEGER NOT NULL, heir TEXT, PRIMARY KEY (group_id, topic, partition)
) WITHOUT ROWID;
"""


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Database:
    """One connection to the file; for one thread at a time.

    Work is handed in as a function of the connection, which runs in one transaction: :meth:`read` in a snapshot,
    :meth:`write` alone.
    """

    def __init__(self, path: Path, read_only: bool) -> None:
        """Opens the file; makes it if it is missing, or empty, and ``read_only`` is false.

        Raises:
            UsageError: its directory does not exist, or it is a directory.
            EventLogError: it cannot be opened, or is not an event log's.
        """
        self._path = path
        self.file = path.resolve()
        self._read_only = read_only
        self._frozen: Version | None = None
        if path.is_dir():
            raise UsageError(f"{path} is a directory: name the event log's file in it")
        if read_only and not path.exists():
            raise EventLogError(
                f"there is no event log {path}: an audit reads one that is there: give --log URL or --home FOLDER"
            )
        if not path.parent.is_dir():
            raise UsageError(f"the directory {path.parent} does not exist: create it, then the event log in it")
        with self._explained("open"):
            self._connection = self._connect()

    def close(self) -> None:
        with self._explained("close"):
            self._connection.close()

    def version(self) -> Version:
        """Changes whenever another connection has committed."""
        if self._frozen is not None:
            return self._stat()
        with self._explained("read"):
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
            return (number,)

    def read(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """``action``'s result in one snapshot."""
        while True:
            frozen = self._frozen
            if frozen is not None and frozen != self._stat():
                with self._explained("open"):
                    self._connection.close()
                    self._connection = self._connect()
                continue
            try:
                with self._explained("read"):
                    return self._in_snapshot(action)
            except EventLogError:
                # Someone began to write under a connection that took the file for frozen: read again.
                if frozen is None or frozen == self._stat():
                    raise

    def write(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """``action``'s result in one transaction that is on the disk when this returns; rolled back if it raises."""
        if self._read_only:
            raise UsageError(f"the event log {self._path} was opened with mode=ro: nothing can be written to it")
        with self._explained("write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = action(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            return result

    def _in_snapshot(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN")
        try:
            result = action(self._connection)
        finally:
            self._roll_back()
        if self._frozen is not None and self._frozen != self._stat():
            raise EventLogError(f"the event log {self._path} changed while it was read")
        return result

    def _roll_back(self) -> None:
        # SQLite has already rolled back after some errors, and then says that there is nothing to roll back.
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        if not self._read_only:
            mode = "mode=rwc"
        elif self._has_journal():
            mode = "mode=ro"
        else:
            # Nobody has the file open: read it as it lies, so that not even SQLite's side files come to be.
            self._frozen = self._stat()
            mode = "mode=ro&immutable=1"
        if mode == "mode=ro":
            self._frozen = None
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?{mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL_BYTES)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            if not self._read_only:
                connection.execute("PRAGMA synchronous = FULL")
                _create_tables(connection)
            self._check_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_tables(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise EventLogError(f"{self._path} is an SQLite file, but not an event log of this program: left as it is")
        if layout != LAYOUT:
            raise EventLogError(f"the event log {self._path} has the layout {layout}; this program knows {LAYOUT}")
        # Table for table as made here: a forged file could hold views or triggers that never end.
        if _schema(connection) != _EXPECTED_SCHEMA:
            raise EventLogError(f"the event log {self._path} has tables that this program did not make: distrust it")

    def _has_journal(self) -> bool:
        return Path(f"{self._path}-wal").exists()

    def _stat(self) -> Version:
        try:
            stat = os.stat(self._path)
        except OSError as error:
            raise EventLogError(f"the event log {self._path} is gone: {error.strerror}") from None
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns, self._has_journal())

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise EventLogError(f"cannot {doing} the event log {self._path}: {_meaning(error)}") from error


def _meaning(error: sqlite3.Error) -> str:
    """In the operator's words; SQLite's own text stands at the end."""
    code = getattr(error, "sqlite_errorcode", 0)
    known = {
        sqlite3.SQLITE_FULL: "the disk is full; the transaction was rolled back and nothing written before is lost: "
        "free some space, then repeat",
        sqlite3.SQLITE_IOERR_WRITE: "the disk took no more (full, over quota, or over the file size limit); the "
        "transaction was rolled back and nothing written before is lost: make room, then repeat",
        sqlite3.SQLITE_IOERR_FSYNC: "the disk failed while the transaction was made safe: read the log again to see "
        "whether it is there",
    }
    primary = {
        sqlite3.SQLITE_NOTADB: "it is not an SQLite file",
        sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a copy",
        sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_SECONDS:.0f} s; nothing was written",
        sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: see its permissions and those of its directory",
        sqlite3.SQLITE_READONLY: "the file or its directory cannot be written: see their permissions, or use mode=ro",
        sqlite3.SQLITE_TOOBIG: "it holds a record larger than any this program writes: the file was tampered with",
        sqlite3.SQLITE_IOERR: "the disk failed; nothing written before is lost",
    }
    meaning = known.get(code) or primary.get(code & 0xFF) or "SQLite refused"
    return f"{meaning} (SQLite: {error})"


def _create_tables(connection: sqlite3.Connection) -> None:
    """Makes a new, empty file an event log's; leaves any other as it is."""
    if connection.execute("PRAGMA application_id").fetchone() != (0,) or _schema(connection):
        return
    _use_write_ahead_log(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _schema(connection):  # another process may have been faster
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # The change of mode does not wait for other connections by itself.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def _expected_schema() -> list[tuple[str, str, str | None]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(_TABLES)
        return _schema(connection)
    finally:
        connection.close()


_EXPECTED_SCHEMA = _expected_schema()
