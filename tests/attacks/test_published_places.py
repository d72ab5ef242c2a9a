"""Attacks on a log's published tiles: the folder that they are written to, and the server that they are read from."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.tiles.logs import Signer
from tiles.base import WrongFileError
from tiles.directory import DirectoryStore
from tiles.web import WebSource
from zk_autograd.errors import StorageError, UsageError


@contextmanager
def answering_for_ever(begin: bytes, again: bytes, pause: float) -> Iterator[str]:
    """A server on the loopback that sends ``begin``, and then ``again`` without end."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(begin)
            while not over.wait(pause):
                connection.sendall(again)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()


ENDLESS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.0),
    "a header that drips": (b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.05),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"a: b\r\n" * 100, 0.0),
    "a body that drips": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"a", 0.05),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_server_whose_answer_never_ends(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What: data goes on for ever, each read in time. Why: an auditor's fsck never comes to its verdict. Where:
    ``tiles.web``, which timed the body only; interim answers, headers and trailers are read by the standard library."""
    monkeypatch.setattr("tiles.web._ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("tiles.web._ATTEMPTS", 1)
    said: list[BaseException] = []

    def read(url: str) -> None:
        try:
            WebSource(url).read("checkpoint", 100)
        except StorageError as error:
            said.append(error)

    with answering_for_ever(*ENDLESS[what]) as url:
        reading = threading.Thread(target=read, args=(url,), daemon=True)
        began = time.monotonic()
        reading.start()
        reading.join(20)
    assert said, f"still reading after {time.monotonic() - began:.0f} s"
    assert "takes more than 0.5 seconds" in str(said[0])


def test_a_chunk_of_negative_size_stays_within_the_cap() -> None:
    """What: a chunk length of -5, and much data. Why: a cap that is passed by fills the memory. Where: the standard
    library takes the number as it is; the cap holds whatever it makes of it."""
    begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n" + bytes(100_000)
    with answering_for_ever(begin, b"", 0.1) as url, pytest.raises(WrongFileError):
        WebSource(url).read("checkpoint", 100)


@pytest.mark.parametrize("host", ["a" * 70, "a..b", ".b"])
def test_a_host_name_that_cannot_be_one(host: str) -> None:
    """What: a label that is empty or too long. Why: it ended in a UnicodeError of the standard library. Where: looked
    up on the first read; now refused as a URL."""
    with pytest.raises(UsageError, match="not a URL"):
        WebSource(f"http://{host}/log")


Plant = Callable[[Path, Path], None]


def _temporary(log: Path, elsewhere: Path) -> None:
    shutil.rmtree(log / ".tmp")
    (log / ".tmp").symlink_to(elsewhere)


def _partials(log: Path, elsewhere: Path) -> None:
    shutil.copyfile(log / "tile/0/000.p/200", elsewhere / "200")
    shutil.rmtree(log / "tile/0/000.p")
    (log / "tile/0/000.p").symlink_to(elsewhere)


def _half_written(log: Path, elsewhere: Path) -> None:
    (log / ".tmp" / "checkpoint").symlink_to(elsewhere / "ledger.pem")


@pytest.mark.parametrize("plant", [_temporary, _partials, _half_written])
def test_a_link_in_the_published_folder_to_the_ledgers_keys(plant: Plant, tmp_path: Path) -> None:
    """What: whoever may write to the published folder (a web server's user) puts a link where the ledger cleans up
    after itself. Why: it removed every file of whatever folder the link led to, with the ledger's rights. Where:
    ``tiles.directory``, in ``writing`` and ``retire``."""
    keys, signer = tmp_path / "keys", Signer()
    keys.mkdir()
    (keys / "ledger.pem").write_bytes(b"a key")
    log = signer.folder(tmp_path / "log", 200)
    plant(log, keys)
    with DirectoryStore(log) as store, suppress(StorageError):
        signer.grow(store, [300])
    assert (keys / "ledger.pem").read_bytes() == b"a key"
