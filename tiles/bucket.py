"""Tiles in an S3 bucket, or one of a server that speaks S3: ``s3://bucket/prefix[?endpoint=URL&region=NAME]``.

Credentials are those that boto3 finds (environment, profile, instance role); they never stand in a URL. Tiles are
written with ``If-None-Match: *`` and the checkpoint with ``If-Match``: whoever publishes to a place where another
publishes, or of another log, is refused by the server itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ledger.note import MAX_NOTE_BYTES
from ledger.tiles import CHECKPOINT, WIDTH, Tile
from schemas.text import one_line
from tiles.base import Source, Store, WrongFileError
from zk_autograd.errors import StorageError, UsageError

_THREADS = 16
_ATTEMPTS = 5
_SECONDS = 30
_EMPTY_PAGES = 100
"""Most pages of a listing, one after the other, that name nothing."""

_EXPECTED = "tiles: expected s3://bucket/prefix, at most with ?endpoint=URL&region=NAME"
_FOR_EVER = "public, max-age=31536000, immutable"
_BRIEFLY = "public, max-age=2"


class BucketSource(Source):
    """A bucket's folder, to be read."""

    def __init__(self, url: str) -> None:
        """UsageError: the URL is malformed, or the extra ``aws`` is not installed."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise UsageError("s3:// needs boto3: pip install 'zk-autograd[aws]'") from None
        try:
            parts = urlsplit(url)
            options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise UsageError(_EXPECTED) from None
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or set(options) - {"endpoint", "region"}:
            raise UsageError(_EXPECTED)
        self._bucket, prefix = parts.netloc, parts.path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.name = f"s3://{self._bucket}/{prefix}".rstrip("/")
        config = Config(
            connect_timeout=_SECONDS,
            read_timeout=_SECONDS,
            retries={"mode": "standard", "max_attempts": _ATTEMPTS},
            max_pool_connections=_THREADS,
        )
        chosen = {name: values[0] for name, values in options.items()}
        try:
            self._client: Any = boto3.session.Session().client(
                "s3", endpoint_url=chosen.get("endpoint"), region_name=chosen.get("region"), config=config
            )
        except (ValueError, BotoCoreError) as error:  # their texts may quote the URL
            raise UsageError(f"{_EXPECTED}: no client for these ({type(error).__name__})") from None

    def close(self) -> None:
        self._client.close()

    def read(self, path: str, cap: int) -> bytes | None:
        found = self._get(path, cap)
        return found[0] if found else None

    def _get(self, path: str, cap: int) -> tuple[bytes, str] | None:
        """Content and entity tag."""
        with self._explained(path, "read"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
            except self._client.exceptions.NoSuchKey:
                return None
            with answer["Body"] as body:
                data: bytes = body.read(cap + 1)
            tag: str = answer["ETag"]
        if len(data) > cap:
            raise WrongFileError(f"{self.name}/{path}: expected at most {cap} bytes")
        return data, tag

    def paths(self, folder: str) -> Iterator[str]:
        with self._explained(folder, "listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}{folder}/"
            )
            empty = 0
            for page in pages:
                empty = 0 if page.get("Contents") else empty + 1
                if empty > _EMPTY_PAGES:
                    raise ValueError("a listing of nothing that does not end")
                for item in page.get("Contents", ()):
                    path: str = item["Key"]
                    if not path.startswith(f"{self._prefix}{folder}/"):
                        raise ValueError("a name of another folder")
                    yield path.removeprefix(self._prefix)

    @contextmanager
    def _explained(self, path: str, what: str) -> Iterator[None]:
        from botocore.exceptions import ClientError

        try:
            yield
        except ClientError as error:
            code = one_line(str(error.response.get("Error", {}).get("Code", "?")), 80)
            raise StorageError(f"{self.name}/{path}: cannot be {what}: the server says {code}") from None
        except Exception as error:
            # Whatever else boto3 makes of an answer that is none; its texts may quote the answer, their types do not.
            raise StorageError(f"{self.name}/{path}: cannot be {what}: {type(error).__name__}") from None


class BucketStore(BucketSource, Store):
    """A bucket's folder, to be written."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pool = ThreadPoolExecutor(_THREADS)

    def close(self) -> None:
        self._pool.shutdown()
        super().close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield  # every write is conditional: the server keeps two writers apart

    def put(self, files: Mapping[str, bytes]) -> None:
        list(self._pool.map(self._put, files.items()))

    def _put(self, item: tuple[str, bytes]) -> None:
        path, data = item
        if self._written(path, data, _FOR_EVER, "application/octet-stream", IfNoneMatch="*"):
            return
        try:
            same = self.read(path, len(data)) == data
        except WrongFileError:
            same = False  # longer
        if not same:
            raise StorageError(
                f"{self.name}/{path}: another object is there already; a tile never changes, so this is another log's "
                "prefix, or it was altered: check it with zk-ledger fsck, or publish to an empty one"
            )

    def put_checkpoint(self, note: bytes, expected: bytes | None) -> None:
        found = self._get(CHECKPOINT, MAX_NOTE_BYTES)
        if (found[0] if found else None) == expected:
            condition = {"IfMatch": found[1]} if found else {"IfNoneMatch": "*"}
            if self._written(CHECKPOINT, note, _BRIEFLY, "text/plain; charset=utf-8", **condition):
                return
            # Refused, or done by a first attempt of which the answer was lost.
            if self.read(CHECKPOINT, MAX_NOTE_BYTES) == note:
                return
        raise StorageError(f"{self.name}/{CHECKPOINT}: not the one written last: another process publishes here")

    def _written(self, path: str, data: bytes, caching: str, kind: str, **condition: str) -> bool:
        """Whether the condition held."""
        from botocore.exceptions import ClientError

        for _ in range(_ATTEMPTS):
            with self._explained(path, "written"):
                try:
                    self._client.put_object(
                        Bucket=self._bucket,
                        Key=self._prefix + path,
                        Body=data,
                        CacheControl=caching,
                        ContentType=kind,
                        **condition,
                    )
                except ClientError as error:
                    code = error.response.get("Error", {}).get("Code")
                    if code == "PreconditionFailed":
                        return False
                    if code == "ConditionalRequestConflict":  # two at the same time: ask again
                        continue
                    raise
                return True
        raise StorageError(f"{self.name}/{path}: cannot be written: {_ATTEMPTS} times another wrote at the same time")

    def retire(self, tile: Tile) -> None:
        # However many the server says that there are.
        for path in list(islice(self.paths(tile.partials), WIDTH - 1)):
            with self._explained(path, "removed"):
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)
