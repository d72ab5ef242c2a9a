"""What a hostile or broken web server may answer, and what becomes of it."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from tests.tiles.logs import Signer
from tests.tiles.serving import Answer, answering
from tiles import open_source
from tiles.base import WrongFileError
from tiles.web import WebSource
from zk_autograd.errors import StorageError, UsageError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiles.web._PAUSE", 0.0)


def test_a_log_is_read_packed_as_the_specification_allows(tmp_path: Path) -> None:
    signer = Signer()
    folder = signer.folder(tmp_path, 600)

    def answer(path: str) -> Answer:
        file = folder / path.removeprefix("/log/")
        if not file.is_file():
            return 404, {}, b"no such file"
        return 200, {"Content-Encoding": "gzip"}, gzip.compress(file.read_bytes())

    with answering(answer) as url, open_source(f"{url}/log") as source:
        assert signer.check(source).entries == 600


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((200, {}, bytes(101)), "at most 100 bytes"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(10_000_000))), "at most 100 bytes"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b"x") + b"y"), "one whole gzip stream"),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b"x")[:-1]), "one whole gzip stream"),
        ((200, {"Content-Encoding": "gzip"}, b"plain"), "not the gzip data"),
        ((200, {"Content-Encoding": "br"}, b"x"), "no Content-Encoding but gzip"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "give the URL that it leads to"),
        ((403, {}, b""), "the server answers 403"),
        ((206, {}, b"x"), "the server answers 206"),
        ((503, {}, b""), "the server answers 503"),
        ((200, {"Content-Length": "50"}, b"short"), "cannot be read"),
    ],
)
def test_an_answer_that_is_not_the_file_is_refused(given: Answer, said: str) -> None:
    headers = {"Connection": "close", **given[1]}
    with (
        answering(lambda _: (given[0], headers, given[2])) as url,
        open_source(url) as source,
        pytest.raises(StorageError, match=said),
    ):
        source.read("checkpoint", 100)


def test_a_server_that_is_busy_is_asked_again() -> None:
    answers: list[Answer] = [(503, {}, b""), (429, {}, b""), (200, {}, b"at last")]
    with answering(lambda _: answers.pop(0)) as url, open_source(url) as source:
        assert source.read("checkpoint", 100) == b"at last"


def test_a_server_that_lets_its_answer_drip_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiles.web._ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("tiles.web._ATTEMPTS", 1)

    class Drip(bytes):
        """Sent byte by byte."""

    with answering(lambda _: (200, {}, Drip(100))) as url, open_source(url) as source:
        began = time.monotonic()
        with pytest.raises(StorageError, match="its answer takes more than"):
            source.read("checkpoint", 100)
        assert time.monotonic() - began < 5


def test_a_connection_is_used_again() -> None:
    ports: list[int] = []
    with answering(lambda path: (200, {}, path.encode()), ports) as url, open_source(url) as source:
        for i in range(5):
            assert source.read(f"tile/{i}", 100) == f"/tile/{i}".encode()
    assert len(ports) == 5
    assert len(set(ports)) == 1


def test_a_file_that_is_not_there_is_none_however_long_the_page_that_says_so() -> None:
    with answering(lambda _: (404, {}, bytes(100_000))) as url, open_source(url) as source:
        assert source.read("checkpoint", 100) is None
        assert source.read("checkpoint", 100) is None


def test_too_large_is_the_files_fault_and_busy_is_not() -> None:
    with answering(lambda p: (200, {}, bytes(99)) if p == "/a" else (500, {}, b"")) as url, open_source(url) as source:
        with pytest.raises(WrongFileError):
            source.read("a", 98)
        with pytest.raises(StorageError) as caught:
            source.read("b", 98)
        assert not isinstance(caught.value, WrongFileError)


@pytest.mark.parametrize(
    "url",
    ["http://user:secret@host/", "http:///x", "http://host/?a=b", "http://host/#x", "http://host/a b", "http://h:x/"],
)
def test_urls_that_are_more_or_less_than_a_prefix_are_refused_without_a_word_of_them(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        WebSource(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/", "gopher://x", "kafka://h:1"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="got the scheme"):
        open_source(url)
