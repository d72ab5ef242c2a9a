"""Small published logs for tests: entries of any bytes, a key, and checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger.checkpoint import sign_checkpoint
from ledger.note import VerifierKey
from ledger.tree import Tree
from tiles.base import Source, Store
from tiles.directory import DirectoryStore
from tiles.fsck import Checked, fsck
from tiles.publisher import Publisher
from zk_autograd.tee.keys import SigningKey, new_signing_key

ORIGIN = "log.example/test"


def entry(index: int) -> bytes:
    """Entries of lengths from 0 to 199."""
    return hashlib.shake_256(b"entry %d" % index).digest(index * 7 % 200)


def entries(count: int) -> list[bytes]:
    return [entry(i) for i in range(count)]


@dataclass
class Signer:
    """A log's key, and checkpoints under it."""

    key: SigningKey = field(default_factory=new_signing_key)
    origin: str = ORIGIN

    @property
    def verifier(self) -> VerifierKey:
        return VerifierKey(self.origin, self.key.public_key)

    def note(self, size: int, root: bytes) -> str:
        return sign_checkpoint(self.origin, size, root, self.origin, self.key.sign, self.key.public_key)

    def publisher(self, store: Store) -> Publisher:
        return Publisher(store, self.origin, self.verifier)

    def grow(self, store: Store, sizes: Sequence[int], at_once: bool = False) -> None:
        """Publishes a checkpoint of each size; or only the last, after all the others were issued."""
        publisher = self.publisher(store)
        for size in sizes:
            for index in range(publisher.tree.size, size):
                publisher.tree.append(entry(index))
            if not at_once or size == sizes[-1]:
                publisher.publish(self.note(size, publisher.tree.root()))
            else:
                publisher.mark()

    def folder(self, path: Path, *sizes: int, at_once: bool = False) -> Path:
        """A published folder."""
        with DirectoryStore(path) as store:
            self.grow(store, sizes, at_once)
        return path

    def check(self, source: Source) -> Checked:
        """fsck of a log of such entries."""
        return fsck(source, self.origin, [self.verifier], expect_entry, lambda done, total: None)


def expect_entry(index: int, data: bytes) -> None:
    """Fails the test if an entry is lost, repeated or another one."""
    assert data == entry(index), f"entry {index}"


def files(folder: Path) -> dict[str, bytes]:
    """A folder's published files."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.relative_to(folder).parts[0].startswith(".")
    }


def by_definition(size: int, sizes: Sequence[int] = ()) -> Mapping[str, bytes]:
    """The files of a log of ``entries(size)`` by the specification's own words, the checkpoint aside.

    Partial tiles of the checkpoints ``sizes``, too, as long as their full ones are not there.
    """
    tree, data, found = Tree(entries(size)), entries(size), dict[str, bytes]()

    def name(level: str, index: int, width: int) -> str:
        digits = f"{index:03}" if index < 1000 else f"x{index // 1000:03}/{index % 1000:03}"
        return f"tile/{level}/{digits}{'' if width == 256 else f'.p/{width}'}"

    for now in {size, *sizes}:
        level = 0
        while now >> 8 * level:
            count = now >> 8 * level
            for index in range(-(-count // 256)):
                width = min(256, count - 256 * index)
                if width < 256 and (size >> 8 * level) >= 256 * (index + 1):
                    continue
                nodes = range(256 * index, 256 * index + width)
                found[name(str(level), index, width)] = b"".join(tree.node(8 * level, i) for i in nodes)
                if not level:
                    found[name("entries", index, width)] = b"".join(
                        len(data[i]).to_bytes(2, "big") + data[i] for i in nodes
                    )
            level += 1
    return found
