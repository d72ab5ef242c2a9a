"""A writer to be killed: publishes to a folder up to each size, and says each size once it is published.

``python -m tests.tiles.crash_writer FOLDER SEED SIZE...``; in one thread, so that its system calls have one order. The
calls between the two marks are those of the tile writer.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.tiles.logs import Signer
from tiles.directory import DirectoryStore
from zk_autograd.errors import ZkAutogradError
from zk_autograd.tee.keys import SigningKey

MARK = "/zk-crash-writer-mark"
FAILED = 3


class InOrder:
    """A pool of no threads."""

    def map(self, call: Callable[[Any], object], items: Iterable[Any]) -> Iterator[object]:
        return iter([call(item) for item in items])

    def shutdown(self) -> None:
        pass


def signer(seed: str) -> Signer:
    """A log's key from 64 hex digits."""
    return Signer(SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))))


def main(folder: str, seed: str, *sizes: str) -> int:
    with contextlib.suppress(OSError):
        os.rmdir(MARK)
    try:
        with DirectoryStore(Path(folder)) as store:
            store._pool.shutdown()
            store._pool = InOrder()  # type: ignore[assignment]
            log = signer(seed)
            publisher = log.publisher(store)
            for size in map(int, sizes):
                if size > publisher.published:
                    log.grow(store, [size])
                os.write(1, b"%d\n" % size)
    except ZkAutogradError as error:
        print(error, file=sys.stderr)
        return FAILED
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(MARK)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
