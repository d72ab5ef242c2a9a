"""A log of millions of entries: built, served, checked and gone on with, each in a process whose memory is measured.

``scripts/big_log.py [--entries 10000000] [--folder DIR] [--json]``. The entries are a ledger's, without proofs behind
them: what is measured is the log. ``make big-log`` runs it; it takes about 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.append import ORIGIN  # noqa: E402
from ledger.checkpoint import sign_checkpoint  # noqa: E402
from ledger.entries import leaf_data  # noqa: E402
from ledger.note import VerifierKey  # noqa: E402
from ledger.order import Order  # noqa: E402
from ledger.tiles import MAX_ENTRY_BYTES  # noqa: E402
from schemas.codec import decode  # noqa: E402
from schemas.events import RunClosed, RunOpened, StepProven  # noqa: E402
from schemas.topics import TOPICS  # noqa: E402
from tiles import open_source  # noqa: E402
from tiles.directory import DirectoryStore  # noqa: E402
from tiles.fsck import fsck  # noqa: E402
from tiles.publisher import Publisher  # noqa: E402
from zk_autograd import merkle  # noqa: E402
from zk_autograd.tee.keys import load_or_make_signing_key, load_signing_key  # noqa: E402

STEPS, BATCH = 98, 10_000
PER_RUN = STEPS + 2


def entry(number: int) -> bytes:
    """The ``number``-th entry of a log of runs of 98 steps."""
    run, place = divmod(number, PER_RUN)
    run_id = run.to_bytes(32, "big")
    if place == 0:
        return leaf_data(RunOpened(run_id))
    if place == PER_RUN - 1:
        return leaf_data(RunClosed(run_id, number.to_bytes(32, "little"), STEPS))
    words = [(number * 5 + i).to_bytes(32, "little") for i in range(4)]
    return leaf_data(StepProven(run_id, place, words[0], words[1], bytes(32), words[2], words[3]))


def build(folder: Path, count: int) -> dict[str, Any]:
    """Publishes ``count`` entries, a signed checkpoint for each 10,000."""
    key = load_or_make_signing_key(folder.with_suffix(".pem"))
    with DirectoryStore(folder) as store:
        publisher = Publisher(store, ORIGIN, VerifierKey(ORIGIN, key.public_key))
        for number in range(publisher.published, count):
            publisher.tree.append(entry(number))
            size = number + 1
            if not size % BATCH or size == count:
                root = publisher.tree.root()
                publisher.publish(sign_checkpoint(ORIGIN, size, root, ORIGIN, key.sign, key.public_key))
    return {"entries": count}


def check(place: str, folder: Path) -> dict[str, Any]:
    """``zk-ledger fsck``: every entry decoded and in order, every tile and the root recomputed."""
    order, allowed = Order(), TOPICS["ledger"].events
    key = VerifierKey(ORIGIN, load_signing_key(folder.with_suffix(".pem")).public_key)

    def rule(_index: int, data: bytes) -> None:
        order.take(decode(data, allowed, MAX_ENTRY_BYTES))  # type: ignore[arg-type]

    with open_source(place) as source:
        found = fsck(source, ORIGIN, [key], rule, lambda *_: None)
    return {"entries": found.entries, "runs": order.runs, "files": found.files, "bytes": found.bytes}


def go_on(folder: Path, count: int) -> dict[str, Any]:
    """A writer that starts anew: takes the log up, proves 1,000 entries from tiles, appends one batch more."""
    key = load_signing_key(folder.with_suffix(".pem"))
    began = time.perf_counter()
    with DirectoryStore(folder) as store:
        publisher = Publisher(store, ORIGIN, VerifierKey(ORIGIN, key.public_key))
        ready = time.perf_counter() - began
        tree, root = publisher.tree, publisher.tree.root()
        size = tree.size
        for index in range(0, size, max(1, size // 1000)):
            merkle.verify_inclusion(entry(index), index, size, tree.inclusion_proof(index, size), root)
            merkle.verify_consistency(
                index + 1, tree.root_at(index + 1), size, root, tree.consistency_proof(index + 1, size)
            )
        for number in range(size, count):
            tree.append(entry(number))
        note = sign_checkpoint(ORIGIN, count, tree.root(), ORIGIN, key.sign, key.public_key)
        publisher.publish(note)
    return {"ready_seconds": round(ready, 4), "entries": count - size}


def measured(stage: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Runs in a process of its own: what it says, how long it took, and the most memory that it had."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured, stage, *arguments).result()


def _measured(stage: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    began = time.perf_counter()
    found = stage(*arguments)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    rate = round(found["entries"] / seconds)
    return found | {"seconds": round(seconds, 1), "entries_a_second": rate, "peak_mb": peak}


def served(folder: Path) -> dict[str, Any]:
    """The same check over HTTP, from ``python -m http.server``."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        return measured(check, f"http://127.0.0.1:{port}", folder)
    finally:
        server.terminate()
        server.wait(30)


def main() -> int:
    """Every stage; prints what was measured."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--entries", type=int, default=10_000_000)
    p.add_argument("--folder", type=Path, help="where; kept afterwards (default: a temporary one)")
    p.add_argument("--json", action="store_true", help="print JSON, one object a stage")
    args = p.parse_args()
    home = args.folder or Path(tempfile.mkdtemp(prefix="zk-big-log-"))
    home.mkdir(parents=True, exist_ok=True)
    folder = home / "log"
    stages: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("build", lambda: measured(build, folder, args.entries)),
        ("fsck, from the folder", lambda: measured(check, str(folder), folder)),
        ("fsck, over HTTP", lambda: served(folder)),
        ("go on", lambda: measured(go_on, folder, args.entries + BATCH)),
    ]
    try:
        for name, stage in stages:
            facts = stage()
            if args.json:
                print(json.dumps({"stage": name, **facts}), flush=True)
            else:
                print(f"{name:<22} " + ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in facts.items()), flush=True)
    finally:
        if args.folder is None:
            shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    sys.exit(main())
