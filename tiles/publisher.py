"""Publishes a growing log: first what a checkpoint is of, for good, and only then the checkpoint.

What is written follows from the entries and the sizes of the checkpoints alone. So whoever is killed begins again at
the checkpoint that is there and writes the same files, and a log that is published anew is the same to the byte.
"""

from __future__ import annotations

from ledger.checkpoint import verify_checkpoint
from ledger.edge import RightEdge
from ledger.note import VerifierKey
from ledger.tiled import TiledTree
from ledger.tiles import Tile, edge_tiles
from tiles.base import Store, load_edge, read_head, read_tile
from zk_autograd.errors import UsageError

_HELD = 2000
"""Full tiles and bundles held in memory at most, before they are written: about 90 MB of the largest entries."""


class Publisher:
    """One log in one place. Not safe for use by several threads at once.

    Attributes:
        tree: the log's tree; entries are appended to it.
        published: the size that the checkpoint in the store has.
    """

    def __init__(self, store: Store, origin: str, key: VerifierKey) -> None:
        """Goes on where the store's checkpoint ends.

        Raises:
            StorageError: the store cannot be read, or lacks files.
            DecodeError, VerificationError: what is there is not this log's, or is damaged.
        """
        self._store, self._origin, self._key = store, origin, key
        self._full: dict[Tile, bytes] = {}
        self._retiring: set[Tile] = set()
        self._marks: set[Tile] = set()
        self._edge = RightEdge(self._completed)
        self.tree = TiledTree(self._edge, self._read)
        head = read_head(store, origin, [key])
        self._note = head[1] if head else None
        if head:
            load_edge(store, head[0], self._edge)
        self.published = self._edge.size
        # Partial tiles on the edge are there; they go when theirs becomes full.
        self._partial = {tile.full for tile in edge_tiles(self.published)}

    def _completed(self, tile: Tile, data: bytes) -> None:
        self._full[tile] = data
        if tile in self._partial:
            self._partial.discard(tile)
            self._retiring.add(tile)
        self._marks = {mark for mark in self._marks if mark.full != tile}

    def _read(self, tile: Tile) -> bytes:
        return self._full[tile] if tile in self._full else read_tile(self._store, tile)

    def mark(self) -> None:
        """There is a checkpoint of the size that the tree has now: its partial tiles have to be served.

        Writes full tiles if many are held.
        """
        marks = list(edge_tiles(self._edge.size))
        self._marks.update(marks)
        self._partial.update(tile.full for tile in marks)
        if len(self._full) > _HELD:
            with self._store.writing():
                self._put_full()

    def publish(self, note: str) -> None:
        """Writes everything up to a checkpoint of the size that the tree has now, then the checkpoint.

        Raises:
            StorageError: it cannot be written: what was published before still stands, and is whole.
            UsageError: the note is not of this tree.
        """
        head = verify_checkpoint(note, self._origin, [self._key])
        if (head.size, head.root) != (self._edge.size, self._edge.root()):
            raise UsageError(f"the checkpoint is of size {head.size}, the tree of {self._edge.size}, or another root")
        self.mark()
        data = note.encode()
        with self._store.writing():
            # 1. what it is of: full tiles, then those on the edge
            self._put_full()
            self._store.put({str(tile): self._edge.partial(tile) for tile in sorted(self._marks)})
            # 2. partial tiles whose full ones are there now
            for tile in sorted(self._retiring):
                self._store.retire(tile)
            # 3. the checkpoint
            self._store.put_checkpoint(data, self._note)
        self._note, self.published = data, head.size
        self._retiring.clear()
        self._marks.clear()

    def _put_full(self) -> None:
        self._store.put({str(tile): data for tile, data in self._full.items()})
        self._full.clear()
