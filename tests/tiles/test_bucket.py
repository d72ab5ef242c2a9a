"""The log in an S3 bucket, on a real S3 server (versitygw) on the loopback."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ledger.checkpoint import Checkpoint
from ledger.edge import RightEdge
from ledger.tiles import Tile
from tests.support.broker import free_ports
from tests.support.go_tools import VERSITYGW, built
from tests.tiles.logs import Signer, by_definition, files
from tests.tiles.serving import Answer, answering, when_open
from tiles import open_source, open_store
from tiles.base import WrongFileError
from tiles.fsck import Checked, _look_around
from zk_autograd.errors import StorageError, UsageError

BUCKET = "zk-log"
SIZES = [1, 200, 256, 300, 700]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server; boto3 finds its credentials in the environment."""
    pytest.importorskip("boto3", reason="the extra aws is not installed")
    program, data = built(VERSITYGW), tmp_path_factory.mktemp("s3")
    (port,) = free_ports(1)
    meta = tmp_path_factory.mktemp("s3-meta")
    (data / BUCKET).mkdir()
    secrets = {"ROOT_ACCESS_KEY": "zk-test-access", "ROOT_SECRET_KEY": hashlib.sha256(bytes(port)).hexdigest()}
    words = [program, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", meta, data]
    log = (meta / "server.log").open("wb")
    process = subprocess.Popen(words, env=secrets, stdout=log, stderr=log)
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", secrets["ROOT_ACCESS_KEY"])
    patch.setenv("AWS_SECRET_ACCESS_KEY", secrets["ROOT_SECRET_KEY"])
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    try:
        when_open(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        patch.undo()
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture
def url(endpoint: str, request: pytest.FixtureRequest) -> str:
    """A fresh prefix."""
    return f"s3://{BUCKET}/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}?endpoint={endpoint}"


@pytest.fixture
def client(endpoint: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


def key(url: str, path: str) -> str:
    return f"{url.split('?')[0].removeprefix(f's3://{BUCKET}/')}/{path}"


def contents(url: str) -> dict[str, bytes]:
    with open_source(url) as source:
        paths = [p for p in source.paths("tile") or () if not p.endswith("/")]
        found = {p: source.read(p, 1 << 20) for p in [*paths, "checkpoint"]}
    return {p: data for p, data in found.items() if data is not None}


@pytest.mark.parametrize("way", ["once", "restarted", "all at once"])
def test_a_bucket_holds_the_same_files_as_a_folder(url: str, tmp_path: Path, way: str) -> None:
    signer = Signer()
    for sizes in [[s] for s in SIZES] if way == "restarted" else [SIZES]:
        with open_store(url) as store:
            signer.grow(store, sizes, at_once=way == "all at once")
    assert contents(url) == files(signer.folder(tmp_path, *SIZES))
    with open_source(url) as source:
        found = signer.check(source)
    assert (found.entries, found.spares) == (700, 0)


def test_the_server_itself_keeps_two_writers_apart(url: str) -> None:
    """Both have read the same checkpoint; the slow one comes between the other's look and its write."""
    signer = Signer()
    with open_store(url) as one, open_store(url) as two:
        signer.grow(one, [100])
        slow, fast = signer.publisher(one), signer.publisher(two)
        assert slow.published == fast.published == 100
        real = two._written  # type: ignore[attr-defined]

        def written(path: str, *rest: Any, **condition: str) -> bool:
            if path == "checkpoint":
                signer.grow(one, [130])
            return bool(real(path, *rest, **condition))

        two._written = written  # type: ignore[attr-defined]
        for i in range(20):
            fast.tree.append(b"other %d" % i)
        with pytest.raises(StorageError, match="another process publishes here"):
            fast.publish(signer.note(120, fast.tree.root()))
    with open_source(url) as source:
        assert (source.read("checkpoint", 4096) or b"").split(b"\n")[1] == b"130"


def test_tiles_are_never_overwritten(url: str) -> None:
    signer = Signer()
    with open_store(url) as store:
        signer.grow(store, [300])
        before = contents(url)
        with pytest.raises(StorageError, match="another object is there already"):
            store.put({"tile/0/000": bytes(8192)})
        with pytest.raises(StorageError, match="another object is there already"):
            store.put({"tile/0/000": b"short"})
    assert contents(url) == before


def test_an_answer_that_was_lost_is_no_second_writer(url: str) -> None:
    """The client asks again, and is refused what it did itself."""
    with open_store(url) as store:
        real = store._client.put_object  # type: ignore[attr-defined]

        def twice(**words: Any) -> Any:
            real(**words)
            return real(**words)

        store._client.put_object = twice  # type: ignore[attr-defined]
        Signer().grow(store, SIZES)
    assert {k: v for k, v in contents(url).items() if k != "checkpoint"} == by_definition(700, SIZES)


def test_objects_say_what_they_are_and_how_long_to_keep_them(url: str, client: Any) -> None:
    with open_store(url) as store:
        Signer().grow(store, [300])
    tile = client.head_object(Bucket=BUCKET, Key=key(url, "tile/0/000"))
    assert (tile["ContentType"], tile["CacheControl"]) == (
        "application/octet-stream", "public, max-age=31536000, immutable",
    )  # fmt: skip
    head = client.head_object(Bucket=BUCKET, Key=key(url, "checkpoint"))
    assert (head["ContentType"], head["CacheControl"]) == ("text/plain; charset=utf-8", "public, max-age=2")


def test_a_damaged_object_is_found(url: str, client: Any) -> None:
    signer = Signer()
    with open_store(url) as store:
        signer.grow(store, [700])
    client.put_object(Bucket=BUCKET, Key=key(url, "tile/0/001"), Body=bytes(8192))
    with open_source(url) as source, pytest.raises(Exception, match="tile/0/001, entry 256: expected leaf hash"):
        signer.check(source)
    client.put_object(Bucket=BUCKET, Key=key(url, "tile/0/001"), Body=bytes(9000))
    with open_source(url) as source, pytest.raises(WrongFileError, match="at most 8192"):
        source.read(str(Tile(0, 1)), 8192)


def test_errors_name_the_place_and_the_servers_word_but_no_secret(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        open_store(f"s3://no-such-bucket/x?endpoint={endpoint}") as store,
        pytest.raises(
            StorageError, match="s3://no-such-bucket/x/tile/0/000: cannot be written: the server says NoSuch"
        ),
    ):
        store.put({"tile/0/000": b"x"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with open_source(url) as source, pytest.raises(StorageError) as caught:
        source.read("checkpoint", 100)
    assert "SignatureDoesNotMatch" in str(caught.value)
    assert "not-the-secret" not in str(caught.value)


def test_a_server_that_is_gone_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    monkeypatch.setattr("tiles.bucket._ATTEMPTS", 1)
    (port,) = free_ports(1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    with (
        open_source(f"s3://x/y?endpoint=http://127.0.0.1:{port}") as source,
        pytest.raises(StorageError, match="cannot be read: EndpointConnectionError"),
    ):
        source.read("checkpoint", 100)


LISTING = (
    b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>%s</IsTruncated>%s'
    b"<Contents><Key>%s</Key></Contents></ListBucketResult>"
)
AGAIN = b"<NextContinuationToken>t</NextContinuationToken>"
BOMB = b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]><x>&b;</x>"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3", reason="the extra aws is not installed")
    monkeypatch.setattr("tiles.bucket._ATTEMPTS", 1)
    monkeypatch.setattr("tiles.bucket._SECONDS", 2)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"no entity tag"),
        (200, {"Content-Length": "-1", "ETag": "x"}, b""),
        (200, {"ETag": "x", "Content-Length": "99"}, b"cut off"),
        (200, {"ETag": "x", "x-amz-expiration": "\xff", "Last-Modified": "never"}, b"x"),
        (404, {}, b"<Error><Code>\x1b[31m"),
        (403, {}, b"<Error><Code>&#27;[31mred&#10;line</Code></Error>"),
        (500, {}, BOMB),
        (400, {}, b"\xff\xfe<<<"),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (99, {}, b""),
    ],
)
def test_whatever_a_server_answers_is_an_error_of_storage(answer: Answer) -> None:
    """Never another exception, which would end a program with a traceback, nor what a terminal would obey."""
    with answering(lambda _: answer) as server, open_source(f"s3://x/y?endpoint={server}") as source:
        with pytest.raises(StorageError) as caught:
            source.read("checkpoint", 100)
        assert str(caught.value).isprintable()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize(
    "body",
    [
        LISTING % (b"false", b"", b"../../etc/passwd"),
        LISTING % (b"false", b"", b"y/tile"),
        LISTING % (b"true", AGAIN, b"y/tile/0/000"),  # the same page for ever
        LISTING % (b"true", b"", b"y/tile/0/000"),
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>perhaps</IsTruncated>",
        BOMB,
        b"",
    ],
)
def test_a_listing_that_is_none_is_an_error_or_ends(body: bytes) -> None:
    with answering(lambda _: (200, {}, body)) as server, open_source(f"s3://x/y?endpoint={server}") as source:
        found = []
        with suppress(StorageError):
            found += source.paths("tile") or ()
        assert set(found) <= {"tile/0/000"}


@pytest.mark.usefixtures("credentials")
def test_a_listing_without_end_is_given_up() -> None:
    """A new page each time, with a new token."""
    numbers = count(1)

    def more(path: str) -> Answer:
        if "list-type" not in path:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        number = next(numbers)
        keys = b"".join(b"<Contents><Key>y/tile/z%d.%d</Key></Contents>" % (number, i) for i in range(1000))
        token = b"<NextContinuationToken>%d</NextContinuationToken>" % number
        return 200, {}, b"<ListBucketResult><IsTruncated>true</IsTruncated>%s%s</ListBucketResult>" % (token, keys)

    with (
        answering(more) as server,
        open_source(f"s3://x/y?endpoint={server}") as source,
        pytest.raises(StorageError, match="more than 100000 files that the log does not need"),
    ):
        _look_around(source, Checked(Checkpoint("x", 0, bytes(32), "")), RightEdge(lambda *_: None))


@pytest.mark.usefixtures("credentials")
def test_a_listing_of_nothing_without_end_is_given_up() -> None:
    """Pages without a name, each with a new token: there is nothing to count."""
    numbers = count(1)

    def more(_: str) -> Answer:
        token = b"<NextContinuationToken>%d</NextContinuationToken>" % next(numbers)
        return 200, {}, b"<ListBucketResult><IsTruncated>true</IsTruncated>%s</ListBucketResult>" % token

    with (
        answering(more) as server,
        open_source(f"s3://x/y?endpoint={server}") as source,
        pytest.raises(StorageError, match="cannot be listed"),
    ):
        list(source.paths("tile") or ())
    assert next(numbers) < 1000


@pytest.mark.usefixtures("credentials")
def test_partial_tiles_without_end_are_not_all_retired() -> None:
    """A tile has 255 of them at most; a server may list more, with a new token each time."""
    numbers, tile = count(1), Tile(0, 0, 256)

    def more(_: str) -> Answer:
        number = next(numbers)
        assert number < 1000
        keys = b"".join(b"<Contents><Key>y/%s/%d</Key></Contents>" % (tile.partials.encode(), i) for i in range(100))
        token = b"<NextContinuationToken>%d</NextContinuationToken>" % number
        return 200, {}, b"<ListBucketResult><IsTruncated>true</IsTruncated>%s%s</ListBucketResult>" % (token, keys)

    with (
        answering(more) as server,
        open_store(f"s3://x/y?endpoint={server}") as store,
        suppress(StorageError),  # the server knows no DELETE
    ):
        store.retire(tile)
    assert next(numbers) < 10


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?secret=1", "s3://b/x?endpoint", "s3://[/x",
        "s3://b/x?endpoint=", "s3://b/x?endpoint=secret@", "s3://b/x?endpoint=http://[", "s3://b/x?region=a%20b",
    ],
)  # fmt: skip
def test_urls_with_more_or_less_than_bucket_and_prefix_are_refused(url: str) -> None:
    pytest.importorskip("boto3")
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "secret@" not in str(caught.value)
