"""Reads a published log whole and says the first place that is wrong.

Every entry is read, hashed, and put into a tree; every tile file is compared with what that tree gives, and the root
with the signed checkpoint. Memory does not grow with the log: a right edge, and the bundles that are read ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.edge import RightEdge, split, subtree
from ledger.note import MAX_NOTE_BYTES, VerifierKey
from ledger.tiles import CHECKPOINT, ENTRIES, HEIGHT, WIDTH, Tile, decode_bundle, edge_tiles
from tiles.base import Source, WrongFileError, note_text, read_tile
from zk_autograd.errors import DecodeError, StorageError, VerificationError
from zk_autograd.merkle import HASH_BYTES, leaf_hash

CheckEntry: TypeAlias = Callable[[int, bytes], None]
Progress: TypeAlias = Callable[[int, int], None]

_AHEAD = 16
"""Bundles that are read ahead, with their tiles."""
_NAMED = 20
_MOST_SPARES = 100_000


class DamageError(VerificationError):
    """A place of the log that is not what it has to be.

    Attributes:
        file: the path.
        entry: index of the log's entry, if it is about one.
        expected, got: in words.
    """

    def __init__(self, file: str, entry: int | None, expected: str, got: str, note: str = "") -> None:
        at = f"{file}, entry {entry}" if entry is not None else file
        super().__init__(f"{at}: expected {expected}, got {got}{f' ({note})' if note else ''}")
        self.file, self.entry, self.expected, self.got = file, entry, expected, got


@dataclass
class Checked:
    """What was read, all of it found right.

    Attributes:
        head: the checkpoint.
        entries, files, bytes: how much was read.
        spare: files that the checkpoint does not need, the first few; harmless.
        spares: how many of them; None where the place cannot list its files.
    """

    head: Checkpoint
    entries: int = 0
    files: int = 1
    bytes: int = 0
    spare: list[str] = field(default_factory=list)
    spares: int | None = None


def fsck(
    source: Source, origin: str | None, keys: Sequence[VerifierKey] | None, check: CheckEntry, progress: Progress
) -> Checked:
    """Checks a published log.

    1. the checkpoint is signed by one of ``keys`` and of this origin; 2. every entry decodes and passes ``check``;
    3. every tile is that of the entries; 4. so is the checkpoint's root; 5. earlier partial tiles begin like today's.

    Args:
        source: where it is.
        origin: the log's name; None takes the checkpoint's own word.
        keys: the log's keys; None takes no notice of signatures, which the caller has to say.
        check: given each entry's index and bytes; raises a ZkAutogradError for one that cannot be.
        progress: told how many entries of how many have been read.

    Raises:
        DamageError: the first place that is wrong.
        StorageError: something cannot be read, so nothing is known.
    """
    # 1. checkpoint
    out = Checked(_head(source, origin, keys))
    size = out.head.size
    # 2. and 3. entries, and the tiles over them
    edge = RightEdge(lambda tile, data: _compare_full(source, out, tile, data))
    for bundle, entries, stored in _bundles(source, out, size):
        _compare_leaves(source, bundle, entries, stored)
        first = bundle.index * WIDTH
        for number, entry in enumerate(entries):
            try:
                check(first + number, entry)
            except (DecodeError, VerificationError) as error:
                raise DamageError(str(bundle), first + number, "an entry that can follow", str(error)) from None
            edge.append(entry)
        out.entries += len(entries)
        progress(out.entries, size)
    for tile in edge_tiles(size):
        if tile.level > 0:
            _compare(tile, edge.partial(tile), _read(source, out, tile))
    # 4. root
    if edge.root() != out.head.root:
        raise DamageError(
            CHECKPOINT, None, f"root {edge.root().hex()} over its {size} entries", out.head.root.hex(),
            "every tile is that of the entries",
        )  # fmt: skip
    # 5. what else is there
    _look_around(source, out, edge)
    return out


def _head(source: Source, origin: str | None, keys: Sequence[VerifierKey] | None) -> Checkpoint:
    data = source.read(CHECKPOINT, MAX_NOTE_BYTES)
    if data is None:
        raise DamageError(CHECKPOINT, None, "the signed checkpoint that zk-ledger --tiles publishes", "no file")
    try:
        head = parse_checkpoint(note_text(data))
        if keys is not None:
            head.note.verify(keys)
    except (DecodeError, VerificationError) as error:
        raise DamageError(CHECKPOINT, None, "a checkpoint signed by the log's key", str(error)) from None
    if origin is not None and head.origin != origin:
        raise DamageError(CHECKPOINT, None, f"origin {origin!r}", repr(head.origin))
    return head


def _bundles(source: Source, out: Checked, size: int) -> Iterator[tuple[Tile, list[bytes], bytes]]:
    """Each bundle with its entries and the leaf hashes stored for them; reads ahead."""
    waiting: deque[tuple[Tile, Future[bytes], Future[bytes]]] = deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        try:
            for first in range(0, size, WIDTH):
                bundle = Tile(ENTRIES, first // WIDTH, min(WIDTH, size - first))
                leaves = Tile(0, bundle.index, bundle.width)
                waiting.append((bundle, pool.submit(read_tile, source, bundle), pool.submit(read_tile, source, leaves)))
                if len(waiting) >= _AHEAD:
                    yield _taken(out, *waiting.popleft())
            while waiting:
                yield _taken(out, *waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _taken(out: Checked, bundle: Tile, data: Future[bytes], leaves: Future[bytes]) -> tuple[Tile, list[bytes], bytes]:
    raw = _result(bundle, data)
    hashes = _result(Tile(0, bundle.index, bundle.width), leaves)
    out.files += 2
    out.bytes += len(raw) + len(hashes)
    try:
        return bundle, decode_bundle(bundle, raw), hashes
    except DecodeError as error:
        raise DamageError(str(bundle), None, f"{bundle.width} entries", str(error)) from None


def _result(tile: Tile, future: Future[bytes]) -> bytes:
    try:
        return future.result()
    except (WrongFileError, DecodeError) as error:
        raise DamageError(str(tile), None, "the file that the checkpoint needs", str(error)) from None


def _read(source: Source, out: Checked, tile: Tile) -> bytes:
    try:
        data = read_tile(source, tile)
    except (WrongFileError, DecodeError) as error:
        raise DamageError(str(tile), None, "the file that the checkpoint needs", str(error)) from None
    out.files += 1
    out.bytes += len(data)
    return data


def _compare_leaves(source: Source, bundle: Tile, entries: list[bytes], stored: bytes) -> None:
    """Raises DamageError for the first entry that its leaf hash is not of; says which of the two is wrong."""
    computed = [leaf_hash(entry) for entry in entries]
    if b"".join(computed) == stored:
        return
    number = next(i for i, (a, b) in enumerate(zip(computed, split(stored), strict=True)) if a != b)
    leaves, index = Tile(0, bundle.index, bundle.width), bundle.index * WIDTH + number
    above = _above(source, bundle.index) if bundle.width == WIDTH else None
    if above is not None and above == subtree(computed):
        raise DamageError(
            str(leaves), index, f"leaf hash {computed[number].hex()}", split(stored)[number].hex(),
            f"{Tile(1, bundle.index // WIDTH)} confirms the entries of {bundle}",
        )  # fmt: skip
    confirmed = above is not None and above == subtree(split(stored))
    note = f"{leaves} says so" + (", and the tile above confirms it" if confirmed else "")
    raise DamageError(
        str(bundle), index, f"an entry with leaf hash {split(stored)[number].hex()}", computed[number].hex(),
        f"entry {number} of the bundle; {note}",
    )  # fmt: skip


def _above(source: Source, index: int) -> bytes | None:
    """What the tile above says of a full tile of leaf hashes, if it can be had."""
    for width in (WIDTH, *range(WIDTH - 1, index % WIDTH, -1)):
        try:
            data = source.read(str(Tile(1, index // WIDTH, width)), WIDTH * HASH_BYTES)
        except WrongFileError:
            return None
        if data is not None:
            return data[index % WIDTH * HASH_BYTES :][:HASH_BYTES]
    return None


def _compare_full(source: Source, out: Checked, tile: Tile, data: bytes) -> None:
    if tile.level > 0:  # the others have been compared entry by entry
        _compare(tile, data, _read(source, out, tile))


def _compare(tile: Tile, computed: bytes, stored: bytes) -> None:
    if computed == stored:
        return
    number = next(i for i, (a, b) in enumerate(zip(split(computed), split(stored), strict=True)) if a != b)
    span = WIDTH**tile.level
    first = (tile.index * WIDTH + number) * span
    raise DamageError(
        str(tile), None, f"hash {split(computed)[number].hex()}", split(stored)[number].hex(),
        f"hash {number} of the tile, over the entries {first} to {first + span - 1}, each of which has its leaf hash",
    )  # fmt: skip


def _look_around(source: Source, out: Checked, edge: RightEdge) -> None:
    """Files that the checkpoint does not need: older partial tiles must begin like today's; the rest is spare."""
    paths = source.paths("tile")
    if paths is None:
        return
    needed = {tile.full: tile.width for tile in edge_tiles(edge.size)}
    out.spares = 0
    for path in paths:
        try:
            tile = Tile.parse(path)
        except DecodeError:
            tile = None
        if tile is not None and tile.width == WIDTH and _covered(tile, edge.size):
            continue
        if tile is not None and tile.width <= needed.get(tile.full, 0):
            if tile.width < needed[tile.full]:
                _compare_older(source, out, edge, tile)
            continue
        out.spares += 1
        if out.spares > _MOST_SPARES:
            raise StorageError(f"{source.name}: more than {_MOST_SPARES} files that the log does not need: remove them")
        if len(out.spare) < _NAMED:
            out.spare.append(path)


def _covered(tile: Tile, size: int) -> bool:
    nodes: int = (tile.index + 1) << HEIGHT * (max(tile.level, 0) + 1)
    return nodes <= size


def _compare_older(source: Source, out: Checked, edge: RightEdge, tile: Tile) -> None:
    if _read(source, out, tile) != edge.partial(tile):
        raise DamageError(str(tile), None, "the beginning of the tile as it is today", "other bytes")
