"""What every place of a log's tiles can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType

from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.edge import RightEdge
from ledger.note import MAX_NOTE_BYTES, VerifierKey
from ledger.tiles import CHECKPOINT, ENTRIES, Tile, check_hashes, decode_bundle, edge_tiles
from zk_autograd.errors import DecodeError, StorageError, VerificationError
from zk_autograd.merkle import HASH_BYTES


class WrongFileError(StorageError):
    """The place answers, but a file is missing or larger than it may be."""


class Source(ABC):
    """A place that can be read; by several threads at once."""

    name: str
    """For messages: the URL without what could be secret."""

    @abstractmethod
    def read(self, path: str, cap: int) -> bytes | None:
        """The file at a path; None if there is none.

        Raises:
            WrongFileError: it has more than ``cap`` bytes.
            StorageError: it cannot be read.
        """

    @abstractmethod
    def paths(self, folder: str) -> Iterator[str] | None:
        """The paths below a folder, in any order; None where nobody can tell."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Store(Source):
    """A place that can be written."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[None]:
        """Held while a checkpoint and its files are written, so that two writers do not mix.

        Raises:
            StorageError: somebody else holds it and does not let go.
        """

    @abstractmethod
    def put(self, files: Mapping[str, bytes]) -> None:
        """Writes files that never change. Each is there whole or not at all, and for good when this returns.

        A file that is there already, with these bytes, stays as it is.

        Raises:
            StorageError: it cannot be written, or another file is there: this place is another log's.
        """

    @abstractmethod
    def put_checkpoint(self, note: bytes, expected: bytes | None) -> None:
        """Replaces the checkpoint, from ``expected`` (None: none yet), in one step and for good.

        Raises:
            StorageError: it cannot be written, or another one is there: somebody else publishes to this place.
        """

    @abstractmethod
    def retire(self, tile: Tile) -> None:
        """Removes the partial tiles in the place of a full one."""

    def __enter__(self) -> Store:
        return self


def read_tile(source: Source, tile: Tile) -> bytes:
    """A tile's bytes, not verified; of a partial tile that is gone, those at the beginning of the full one.

    Raises:
        WrongFileError: it is not there, or too large.
        StorageError: it cannot be read.
        DecodeError: it has not the right length.
    """
    data = source.read(str(tile), tile.cap)
    if data is None and tile.full != tile:
        data = source.read(str(tile.full), tile.full.cap)
        if data is not None:
            if tile.level == ENTRIES:
                entries = decode_bundle(tile.full, data)[: tile.width]
                return data[: sum(2 + len(entry) for entry in entries)]
            check_hashes(tile.full, data)
            data = data[: tile.width * HASH_BYTES]
    if data is None:
        raise WrongFileError(f"{source.name}/{tile}: not there")
    if tile.level != ENTRIES:
        check_hashes(tile, data)
    return data


def read_head(source: Source, origin: str, keys: list[VerifierKey]) -> tuple[Checkpoint, bytes] | None:
    """The verified checkpoint, and its bytes; None if there is none.

    Raises:
        DecodeError, VerificationError: as :func:`ledger.checkpoint.verify_checkpoint`.
    """
    data = source.read(CHECKPOINT, MAX_NOTE_BYTES)
    if data is None:
        return None
    return verify_checkpoint(note_text(data), origin, keys), data


def note_text(data: bytes) -> str:
    """The text of a checkpoint file; DecodeError if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DecodeError("checkpoint: not UTF-8") from None


def load_edge(source: Source, head: Checkpoint, edge: RightEdge) -> None:
    """Brings an empty edge to where the tree of a verified checkpoint ends, from its partial tiles.

    Raises:
        StorageError: a file is not there, or cannot be read.
        DecodeError: one is malformed.
        VerificationError: they are not the checkpoint's.
    """
    hashes, bundle = {}, list[bytes]()
    for tile in edge_tiles(head.size):
        data = read_tile(source, tile)
        if tile.level == ENTRIES:
            bundle = decode_bundle(tile, data)
        else:
            hashes[tile.level] = data
    edge.restore(head.size, hashes, bundle)
    if edge.root() != head.root:
        raise VerificationError(
            f"{source.name}: its partial tiles lead to root {edge.root().hex()}, its checkpoint of size {head.size} "
            f"says {head.root.hex()}"
        )
