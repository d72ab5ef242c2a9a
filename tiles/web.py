"""Tiles behind any web server that serves files: read only, size-capped, without redirects."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tiles.base import Source, WrongFileError
from zk_autograd.errors import StorageError, UsageError

_SECONDS = 30.0
_ANSWER_SECONDS = 120.0
"""For a whole answer: a socket's time-out is for one read each, and whoever sends on never meets it."""
_ATTEMPTS = 4
_PAUSE = 0.25

_Connection: TypeAlias = http.client.HTTPConnection


class _TransientError(Exception):
    """Worth another attempt."""


class _Timed(io.RawIOBase):
    """What a socket gives, up to a point in time."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._until = raw, time.monotonic() + _ANSWER_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._until:
            raise _TransientError(f"its answer takes more than {_ANSWER_SECONDS:g} seconds")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that ends in time: also its headers, what comes before them, and what may follow its body."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach()))


class WebSource(Source):
    """A log's URL prefix. Each thread has a connection of its own, which is kept open."""

    def __init__(self, url: str) -> None:
        """UsageError if the URL is more than scheme, host, port and path."""
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
            self._host.encode("idna")
        except ValueError:
            raise UsageError("tiles: not a URL") from None
        if parts.scheme not in ("http", "https") or not self._host or "@" in parts.netloc:
            raise UsageError("tiles: expected http://host[:port]/path or https://…, without user name or password")
        if parts.query or parts.fragment or not parts.path.isascii() or any(c <= " " for c in parts.path):
            raise UsageError("tiles: expected a URL prefix: no query, no fragment, no spaces")
        self._secure, self._path = parts.scheme == "https", parts.path.rstrip("/")
        self.name = url.rstrip("/")
        self._local = threading.local()
        self._open: list[_Connection] = []

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()

    def paths(self, folder: str) -> Iterator[str] | None:  # noqa: ARG002
        return None

    def read(self, path: str, cap: int) -> bytes | None:
        for attempt in range(_ATTEMPTS):
            try:
                return self._get(path, cap)
            except (_TransientError, OSError, http.client.HTTPException) as error:
                self._drop()
                if attempt == _ATTEMPTS - 1 or isinstance(error, ssl.SSLCertVerificationError):
                    reason = str(error) if isinstance(error, _TransientError) else type(error).__name__
                    raise StorageError(f"{self.name}/{path}: cannot be read: {reason}") from None
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError  # the last attempt returns or raises

    def _get(self, path: str, cap: int) -> bytes | None:
        connection = self._connection()
        connection.request("GET", f"{self._path}/{path}", headers={"Accept-Encoding": "gzip, identity"})
        answer = connection.getresponse()
        if answer.status >= 500 or answer.status == 429:
            raise _TransientError(f"the server answers {answer.status}")
        if answer.status in (404, 410):
            if len(self._body(answer, cap + 1)) > cap:
                self._drop()
            return None
        if answer.status != 200:
            self._drop()
            hint = ": give the URL that it leads to" if 300 <= answer.status < 400 else ""
            raise StorageError(f"{self.name}/{path}: expected status 200, the server answers {answer.status}{hint}")
        coding = answer.headers.get("Content-Encoding", "identity").lower()
        most = cap if coding == "identity" else cap + cap // 100 + 64  # bytes that do not pack grow a little
        data = self._body(answer, most + 1)
        if len(data) > most:
            self._drop()
            raise WrongFileError(f"{self.name}/{path}: expected at most {cap} bytes")
        if answer.length:
            raise _TransientError(f"the answer is cut off, {answer.length} bytes are missing")
        if coding == "gzip":
            return self._unpacked(path, data, cap)
        if coding != "identity":
            raise StorageError(f"{self.name}/{path}: expected no Content-Encoding but gzip, got {coding[:40]!r}")
        return data

    def _body(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        """The first bytes of the body, at most so many."""
        parts, size = [], 0
        while size < most and (part := answer.read1(min(65536, most - size))):
            parts.append(part)
            size += len(part)
        if answer.length == 0:
            answer.read(0)  # the connection can be used again
        return b"".join(parts)

    def _unpacked(self, path: str, packed: bytes, cap: int) -> bytes:
        unpack = zlib.decompressobj(wbits=31)
        try:
            data = unpack.decompress(packed, cap + 1)
        except zlib.error:
            raise StorageError(f"{self.name}/{path}: not the gzip data that its header says") from None
        if len(data) > cap:
            raise WrongFileError(f"{self.name}/{path}: expected at most {cap} bytes")
        if not unpack.eof or unpack.unused_data:
            raise StorageError(f"{self.name}/{path}: expected one whole gzip stream")
        return data

    def _connection(self) -> _Connection:
        found: _Connection | None = getattr(self._local, "connection", None)
        if found is None:
            if self._secure:
                found = http.client.HTTPSConnection(
                    self._host, self._port, timeout=_SECONDS, context=ssl.create_default_context()
                )
            else:
                found = http.client.HTTPConnection(self._host, self._port, timeout=_SECONDS)
            found.response_class = _Response
            found.connect()
            found.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._local.connection = found
            self._open.append(found)
        return found

    def _drop(self) -> None:
        found: _Connection | None = getattr(self._local, "connection", None)
        if found is not None:
            found.close()
            self._local.connection = None
            self._open.remove(found)
