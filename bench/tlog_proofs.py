"""Proofs of the log: inclusion proofs made and verified per second, from memory and from tiles."""

from __future__ import annotations

import importlib.util
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ledger.checkpoint import sign_checkpoint
from ledger.note import VerifierKey
from ledger.tree import GrowingTree, Tree
from tiles.directory import DirectoryStore
from tiles.publisher import Publisher
from zk_autograd import merkle
from zk_autograd.tee.keys import new_signing_key

SIZE = 100_000
ASKED = 2000
ORIGIN = "bench.example/log"


def leaf(index: int) -> bytes:
    """A leaf's data."""
    return b"entry %d" % index


def rate(prove: Callable[[int], object], asked: Sequence[int]) -> float:
    """Calls per second."""
    began = time.perf_counter()
    for index in asked:
        prove(index)
    return len(asked) / (time.perf_counter() - began)


def proving(tree: GrowingTree) -> Callable[[int], object]:
    """Makes a leaf's proof and verifies it."""
    size, root = tree.size, tree.root()

    def prove(index: int) -> None:
        merkle.verify_inclusion(leaf(index), index, size, tree.inclusion_proof(index, size), root)

    return prove


def published(folder: Path) -> Publisher:
    """The log in a folder, as a ledger that was just started has it."""
    key = new_signing_key()
    verifier = VerifierKey(ORIGIN, key.public_key)
    with DirectoryStore(folder) as store:
        publisher = Publisher(store, ORIGIN, verifier)
        for index in range(SIZE):
            publisher.tree.append(leaf(index))
        note = sign_checkpoint(ORIGIN, SIZE, publisher.tree.root(), ORIGIN, key.sign, key.public_key)
        publisher.publish(note)
    return Publisher(DirectoryStore(folder), ORIGIN, verifier)


def pymerkle_proving() -> Callable[[int], object] | None:
    """The same by pymerkle, in memory; None if the extra ``peers`` is not installed."""
    if importlib.util.find_spec("pymerkle") is None:
        return None
    from pymerkle import InmemoryTree, verify_inclusion

    tree = InmemoryTree(algorithm="sha256")
    for index in range(SIZE):
        tree.append_entry(leaf(index))
    root = tree.get_state()

    def prove(index: int) -> None:
        proof = tree.prove_inclusion(index + 1)  # it counts from one
        verify_inclusion(tree.get_leaf(index + 1), root, proof)

    return prove


def run() -> dict[str, Any]:
    """Inclusion proofs in a log of 100,000 entries, made and verified, against pymerkle."""
    rng = random.Random(0)
    asked = [rng.randrange(SIZE) for _ in range(ASKED)]
    memory = proving(Tree(leaf(i) for i in range(SIZE)))
    theirs = pymerkle_proving()
    rates: dict[str, list[float]] = {"memory": [], "tiles": [], "peer": []}
    with tempfile.TemporaryDirectory() as folder:
        tiles = proving(published(Path(folder)).tree)
        for _ in range(3):
            rates["memory"].append(rate(memory, asked))
            rates["tiles"].append(rate(tiles, asked))
            if theirs:
                rates["peer"].append(rate(theirs, asked[: ASKED // 20]))
    middle = {name: statistics.median(values) for name, values in rates.items() if values}
    peer = middle.get("peer", middle["memory"])
    return {
        "name": "tlog-proofs", "value": middle["tiles"], "unit": "proofs/s from tiles, verified",
        "peer": "pymerkle, in memory" if theirs else "the same from memory (pymerkle is not installed)",
        "peer_value": peer, "ratio": middle["tiles"] / peer,
        "details": {"from_memory": middle["memory"], "entries": SIZE},
    }  # fmt: skip
