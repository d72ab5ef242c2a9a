"""A log whose signed checkpoints and proofs the anchor tests submit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchor import Anchor, Head, Receipt
from ledger import Tree, sign_checkpoint

KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"anchor tests").digest())


class ToyLog:
    """A tree over ``"<name> 0"``, ``"<name> 1"``, ...; logs of two names fork from the first entry on."""

    def __init__(self, name: str = "entry", size: int = 0, shared: Iterable[bytes] = ()) -> None:
        self.tree = Tree(shared)
        self.name = name
        self.grow(size)

    def grow(self, size: int) -> None:
        while self.tree.size < size:
            self.tree.append(f"{self.name} {self.tree.size}".encode())

    def head(self, counter: int, size: int) -> Head:
        self.grow(size)
        return Head(counter, size, self.tree.root_at(size))

    def note(self, size: int) -> str:
        self.grow(size)
        public = KEY.public_key().public_bytes_raw()
        return sign_checkpoint("toy.example/log", size, self.tree.root_at(size), "toy.example/log", KEY.sign, public)

    def submit(self, anchor: Anchor, expected: Head | None, size: int) -> Receipt:
        """An honest request for ``size`` by a caller who has seen ``expected``."""
        note = self.note(size)
        old_size = expected.size if expected else 0
        consistency = self.tree.consistency_proof(old_size, size) if old_size <= size else []
        return anchor.advance(expected, size, self.tree.root_at(size), note, consistency)

    def anchor_sizes(self, anchor: Anchor, sizes: Iterable[int]) -> list[Receipt]:
        """One honest request after the other."""
        return [self.submit(anchor, anchor.head(), size) for size in sizes]
