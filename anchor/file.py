"""``file:PATH``: an anchor in a local file. For development and tests only.

Whoever can write the file can put back an older copy of it, or make another one: the receipts are hash-chained,
not signed, and what they hold as randomness is drawn anew by who puts back an older copy and asks again. So a sampled
run whose beacon it is (docs/sampling.md) is one for development, too. What it does give is the whole contract of an
anchor, with nothing to install: compare-and-set between processes (flock), durability (file and directory are fsynced
before it answers), and a roll-back that :func:`anchor.check_live` sees as long as the receipts were published
elsewhere. The file must be on a local disk.

The file is a header (64 bytes: a magic of 32, and 32 random bytes that make the anchor's identity) and the records
of :mod:`anchor.file_record`. Bytes after the last whole record are what a crash left of a write that was never
answered; the next advance writes over them. A whole record that does not fit the chain is never dropped: it is
tampering, or a failing disk, and every call then raises VerificationError.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from anchor.base import Anchor, Head, Receipt, ReceiptFacts, require_extends, require_request
from anchor.file_record import (
    RECORD_BYTES,
    Record,
    decode_record,
    identity_bytes,
    identity_text,
    verify_link,
    verify_records,
)
from zk_autograd.errors import AnchorError, DecodeError, UsageError, VerificationError

_MAGIC = b"zk-autograd file anchor v2\n".ljust(32, b"\0")
_HEADER_BYTES = 64
_READ_RECORDS = 4096


class FileAnchor(Anchor):
    """An anchor in a local file; see the module's text for what it can and cannot do."""

    scheme = "file"
    draws = True

    def __init__(self, path: Path, *, lock_timeout: float = 30.0, fsync: Callable[[int], None] = os.fsync) -> None:
        """
        Args:
            path: the file; its directory must be there.
            lock_timeout: seconds to wait for another process that holds the lock.
            fsync: makes an open file durable; raises OSError if it cannot.
        """
        self.uri = f"file:{path}"
        self._path = path
        self._lock_timeout = lock_timeout
        self._fsync = fsync
        # What this object has verified so far: a file that no longer begins with it went back.
        self._anchor_id: bytes | None = None
        self._last: Record | None = None

    @classmethod
    def open(cls, uri: str) -> FileAnchor:
        scheme, _, path = uri.partition(":")
        if scheme != cls.scheme or not path or "\0" in path or (path.startswith("//") and not path.startswith("///")):
            raise UsageError("file anchor: expected file:PATH")
        return cls(Path(path))

    def identity(self) -> str | None:
        self.head()
        return identity_text(self._anchor_id) if self._anchor_id else None

    def establish(self) -> str:
        """Writes the header of an empty anchor if the file is not there."""
        with self._locked(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as fd:
            assert fd is not None  # made if it was not there
            self._load(fd)
            if self._anchor_id is None:
                header = _new_header()
                _write(fd, header, 0)
                self._persist(fd)
                self._anchor_id = hashlib.sha256(header).digest()
            return identity_text(self._anchor_id)

    def head(self) -> Head | None:
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as fd:
            last = self._load(fd)
        return last.head if last else None

    def receipt_for(self, counter: int) -> Receipt | None:
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as fd:
            last = self._load(fd)
            if fd is None or last is None or not 1 <= counter <= last.counter:
                return None
            record = decode_record(self._read(fd, _offset(counter - 1), RECORD_BYTES))
        if record.counter != counter:
            raise VerificationError(f"{self.uri}: expected counter {counter} in its place, got {record.counter}")
        return _receipt(record)

    def advance(
        self, expected: Head | None, size: int, root: bytes, checkpoint_note: str, consistency: Sequence[bytes]
    ) -> Receipt:
        checkpoint = require_request(size, root, checkpoint_note)
        # Who expects a head wants an anchor that is there: a lost file is refused, not made anew.
        flags = os.O_RDWR | (os.O_CREAT if expected is None else 0)
        with self._locked(flags, fcntl.LOCK_EX) as fd:
            last = self._load(fd)
            head = last.head if last else None
            ahead = expected is not None and head is not None and expected.counter > head.counter
            if fd is not None and last is not None and (last.size, last.root) == (size, root) and not ahead:
                # Its writer may have died before the fsync; nobody had the answer yet, but we are about to give it.
                self._persist(fd)
                return _receipt(last)
            require_extends(head, expected, size, root, consistency)
            if fd is None:  # Only without O_CREAT, and then the head was not the expected one.
                raise AnchorError(f"{self.uri}: the file is not there")
            record = self._append(fd, last, size, root, checkpoint)
        return _receipt(record)

    @classmethod
    def check_identity(cls, identity: str) -> None:
        identity_bytes(identity)

    @classmethod
    def verify_receipt(cls, receipt: bytes, identity: str) -> ReceiptFacts:
        record = decode_record(receipt)
        if record.anchor_id != identity_bytes(identity):
            raise VerificationError(f"file anchor receipt: expected anchor {identity}, got {record.facts.anchor}")
        return record.facts

    @classmethod
    def verify_chain(cls, receipts: Sequence[bytes], identity: str) -> list[ReceiptFacts]:
        """All receipts from counter 1 on, without a gap, each continuing the one before."""
        records = [decode_record(receipt) for receipt in receipts]
        verify_records(records, identity_bytes(identity))
        return [record.facts for record in records]

    @contextlib.contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int | None]:
        """The file, open and locked; None if it is not there. Every OSError inside becomes an AnchorError."""
        fd = None
        try:
            fd = self._open_locked(flags, lock)
            yield fd
        except OSError as error:
            raise AnchorError(
                f"{self.uri}: {error.strerror or error}; check the directory, its permissions and its free space"
            ) from error
        finally:
            if fd is not None:
                os.close(fd)

    def _open_locked(self, flags: int, lock: int) -> int | None:
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                fd = os.open(self._path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            except FileNotFoundError:
                if flags & os.O_CREAT:
                    raise
                return None
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise AnchorError(f"{self.uri}: expected a regular file")
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, lock | fcntl.LOCK_NB)
                    # The path may have been given to another file between open and lock.
                    if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                        return fd
            except FileNotFoundError:
                pass  # Removed between open and lock: look again.
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            if time.monotonic() >= deadline:
                raise AnchorError(f"{self.uri}: another process has held the lock for {self._lock_timeout} s")
            time.sleep(0.01)

    def _load(self, fd: int | None) -> Record | None:
        """Verify what was not verified yet; the last whole record, or None."""
        length = os.fstat(fd).st_size if fd is not None else 0
        if fd is None or length < _HEADER_BYTES:
            if self._anchor_id is not None:
                raise VerificationError(f"{self.uri}: rolled back: it was emptied or removed while in use")
            return None
        header = self._read(fd, 0, _HEADER_BYTES)
        if not header.startswith(_MAGIC):
            raise DecodeError(f"{self.uri}: expected a file anchor; this file is something else")
        anchor_id = hashlib.sha256(header).digest()
        if self._anchor_id not in (None, anchor_id):
            raise VerificationError(f"{self.uri}: it was replaced by another anchor while in use")
        count = (length - _HEADER_BYTES) // RECORD_BYTES
        last = self._last
        if last and (count < last.counter or self._read(fd, _offset(last.counter - 1), RECORD_BYTES) != last.encode()):
            raise VerificationError(f"{self.uri}: rolled back: it was at {last.head} while in use, and is not now")
        index = last.counter if last else 0
        while index < count:
            chunk = self._read(fd, _offset(index), min(_READ_RECORDS, count - index) * RECORD_BYTES)
            for start in range(0, len(chunk), RECORD_BYTES):
                record = decode_record(chunk[start : start + RECORD_BYTES])
                verify_link(last, record, anchor_id)
                last = record
            index += len(chunk) // RECORD_BYTES
        self._anchor_id, self._last = anchor_id, last
        return last

    def _append(self, fd: int, last: Record | None, size: int, root: bytes, checkpoint: bytes) -> Record:
        header = b"" if self._anchor_id else _new_header()
        anchor_id = self._anchor_id or hashlib.sha256(header).digest()
        counter, previous = (last.counter + 1, last.digest) if last else (1, anchor_id)
        randomness = os.urandom(32)  # the request has been accepted: who asked cannot take it back
        record = Record(anchor_id, counter, size, root, checkpoint, randomness, previous)
        end = 0 if header else _offset(counter - 1)
        try:
            _write(fd, header + record.encode(), end)
            self._persist(fd)
        except OSError:
            # Best effort, under the lock, before anyone saw it. If it fails too, the head is one later than answered.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, end)
            raise
        self._anchor_id, self._last = anchor_id, record
        return record

    def _persist(self, fd: int) -> None:
        """The content, then the name of the file that holds it."""
        self._fsync(fd)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fsync(directory)
        finally:
            os.close(directory)

    def _read(self, fd: int, offset: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            chunk = os.pread(fd, length - len(data), offset + len(data))
            if not chunk:
                raise VerificationError(f"{self.uri}: it was cut short while being read")
            data += chunk
        return data


def _new_header() -> bytes:
    return _MAGIC + os.urandom(_HEADER_BYTES - len(_MAGIC))


def _offset(index: int) -> int:
    return _HEADER_BYTES + index * RECORD_BYTES


def _receipt(record: Record) -> Receipt:
    return Receipt(record.head, record.encode())


def _write(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
