"""Appending to the published log: entries per second, each batch flushed to the disk and signed."""

from __future__ import annotations

import base64
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.go_peers import TESSERA, go_program
from ledger.checkpoint import sign_checkpoint
from ledger.entries import leaf_data
from ledger.note import VerifierKey
from schemas.events import RunOpened, StepProven
from tiles.directory import DirectoryStore
from tiles.publisher import Publisher
from zk_autograd.tee.keys import SigningKey

ORIGIN = "bench.example/log"
ENTRIES = 200_000
BATCHES = (2000, 200)
"""The figure is the first; the second is the most that ``zk-ledger`` takes at a time."""
ONE_SHOT = 20_000


def entries(count: int) -> list[StepProven | RunOpened]:
    """Entries as a ledger writes them, of runs of 100 steps."""
    found: list[StepProven | RunOpened] = []
    for number in range(count):
        run, step = divmod(number, 101)
        run_id = run.to_bytes(32, "big")
        words = [(number * 5 + i).to_bytes(32, "little") for i in range(4)]
        found.append(
            StepProven(run_id, step, words[0], words[1], bytes(32), words[2], words[3]) if step else RunOpened(run_id)
        )
    return found


def append(folder: Path, todo: Sequence[StepProven | RunOpened], batch: int, key: SigningKey) -> float:
    """Entries per second: encoded, hashed, written, flushed, and a signed checkpoint for each batch."""
    began = time.perf_counter()
    with DirectoryStore(folder) as store:
        publisher = Publisher(store, ORIGIN, VerifierKey(ORIGIN, key.public_key))
        for first in range(0, len(todo), batch):
            for entry in todo[first : first + batch]:
                publisher.tree.append(leaf_data(entry))
            size, root = publisher.tree.size, publisher.tree.root()
            publisher.publish(sign_checkpoint(ORIGIN, size, root, ORIGIN, key.sign, key.public_key))
    return len(todo) / (time.perf_counter() - began)


def tessera(program: Path, folder: Path, count: int, private: Ed25519PrivateKey) -> float:
    """The same by Tessera's ``posix-oneshot``, which takes a file for each entry and makes one batch of them."""
    source = folder / "in"
    source.mkdir()
    for number, entry in enumerate(entries(count)):
        (source / f"{number:09}").write_bytes(leaf_data(entry))
    name = VerifierKey(ORIGIN, private.public_key().public_bytes_raw())
    secret = base64.b64encode(b"\x01" + private.private_bytes_raw()).decode()
    environment = os.environ | {"LOG_PRIVATE_KEY": f"PRIVATE+KEY+{ORIGIN}+{name.key_id.hex()}+{secret}"}
    words = [str(program), "--storage_dir", str(folder / "out"), "--entries", f"{source}/*"]
    began = time.perf_counter()
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return count / (time.perf_counter() - began)


@contextmanager
def without_flushing() -> Iterator[None]:
    """While it lasts, nothing is flushed."""
    with mock.patch("os.fsync"):
        yield


def run() -> dict[str, Any]:
    """200,000 entries in batches of 2,000; the peer is Tessera, on the same disk, where Go is there to build it."""
    private = Ed25519PrivateKey.generate()
    key, todo, program = SigningKey(private), entries(ENTRIES), go_program(TESSERA)
    measured: dict[str, list[float]] = {"value": [], "small": [], "once": [], "peer": [], "unflushed": []}
    for _ in range(3):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            measured["value"].append(append(folder / "a", todo, BATCHES[0], key))
            measured["small"].append(append(folder / "b", todo[: ENTRIES // 10], BATCHES[1], key))
            measured["once"].append(append(folder / "c", todo[:ONE_SHOT], ONE_SHOT, key))
            with without_flushing():
                measured["unflushed"].append(append(folder / "d", todo, BATCHES[0], key))
            if program:
                measured["peer"].append(tessera(program, folder, ONE_SHOT, private))
    middle = {name: statistics.median(values) for name, values in measured.items() if values}
    result = {"name": "append", "value": middle["value"], "unit": f"entries/s, {BATCHES[0]:,} a batch, flushed"}
    if program:
        peer, ratio = middle["peer"], middle["once"] / middle["peer"]
        result |= {"peer": f"Tessera posix-oneshot, {ONE_SHOT:,} in one batch", "peer_value": peer, "ratio": ratio}
    else:
        peer = middle["unflushed"]
        result |= {"peer": "the same without flushing (no Go here)", "peer_value": peer}
        result |= {"ratio": middle["value"] / peer}
    details = {f"batches_of_{BATCHES[1]}": middle["small"], "one_batch": middle["once"]}
    return result | {"details": details | {"without_flushing": middle["unflushed"], "entries": ENTRIES}}
