"""The log's tiles in a folder, a bucket, or behind a web server: the I/O around :mod:`ledger.tiles`, which is pure."""

from __future__ import annotations

from pathlib import Path

from tiles.base import Source, Store
from zk_autograd.errors import UsageError

__all__ = ["Source", "Store", "open_source", "open_store"]


def open_store(url: str) -> Store:
    """A place to publish to: a folder, or ``s3://bucket/prefix`` (see :mod:`tiles.bucket`).

    Raises:
        UsageError: another scheme, or an extra that is not installed.
        StorageError: it cannot be reached or written.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        from tiles.directory import DirectoryStore

        return DirectoryStore(Path(url))
    if scheme == "s3":
        from tiles.bucket import BucketStore

        return BucketStore(url)
    raise UsageError(f"tiles: expected a folder or s3://bucket/prefix to publish to, got the scheme {scheme[:20]!r}")


def open_source(url: str) -> Source:
    """A place to read from: a folder, ``s3://bucket/prefix``, ``https://…`` or ``http://…``.

    Raises:
        UsageError: another scheme, or no such folder.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        from tiles.directory import DirectorySource

        return DirectorySource(Path(url))
    if scheme in ("http", "https"):
        from tiles.web import WebSource

        return WebSource(url)
    if scheme == "s3":
        from tiles.bucket import BucketSource

        return BucketSource(url)
    raise UsageError(f"tiles: expected a folder, s3://, https:// or http://, got the scheme {scheme[:20]!r}")
