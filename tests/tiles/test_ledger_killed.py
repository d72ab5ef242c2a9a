"""A whole ledger, killed again and again: its log has every entry once, and its tiles are those of the log."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.restart import ORIGIN, Ledger
from consumers.ledger.history import Voice
from consumers.ledger.rebuild import rebuild
from consumers.options import Reporter
from ledger.note import VerifierKey
from ledger.order import Order
from ledger.tiles import MAX_ENTRY_BYTES
from schemas.codec import decode
from schemas.events import StepProven
from schemas.signing import decode_unverified
from schemas.topics import TOPICS
from schemas.wire import open_event_log
from tests.tiles.logs import files
from tiles import open_source, open_store
from tiles.fsck import fsck
from zk_autograd.home import Home
from zk_autograd.proofs.base import Circuit

ROOT = Path(__file__).resolve().parents[2]
STEPS = 500


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_a_ledger_that_is_killed_loses_and_repeats_nothing(
    circuit_home: Home, real_circuit: Callable[[str], Circuit], tmp_path: Path, kills: int
) -> None:
    made, rng, killed = Ledger(tmp_path, real_circuit("adam"), STEPS), random.Random(kills), 0
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    words = [sys.executable, "-m", "tests.tiles.ledger_process", str(tmp_path), str(circuit_home.path), str(STEPS + 1)]
    key = made.home.signing_key("LEDGER")
    for left in reversed(range(kills + 1)):
        process = subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        if left:
            assert process.stdout.readline() == b"ready\n", process.stderr.read().decode()
            time.sleep(rng.uniform(0.0, 0.15))
            process.kill()
        _, said = process.communicate(timeout=300)
        killed += process.returncode == -9
        assert process.returncode in (0, -9), said.decode()
        if (made.tiles / "checkpoint").exists():
            _sound(made, key.public_key)
    assert killed, "no process was killed in the middle"
    with open_event_log(made.url) as log:
        with log.reader(["ledger"]) as reader:
            entries = [decode_unverified("ledger", record.value).event for record in reader.read_to_end()]
        assert [e.step for e in entries if isinstance(e, StepProven)] == list(range(1, STEPS + 1))
        voice = Voice(log, key.public_key, key.key_id, ORIGIN, Reporter(True))
        with open_store(str(tmp_path / "again")) as store:
            rebuild(voice, store, lambda done, total: None)
    assert files(tmp_path / "again") == files(made.tiles)


def _sound(made: Ledger, public_key: bytes) -> None:
    order, allowed = Order(), TOPICS["ledger"].events

    def rule(_: int, data: bytes) -> None:
        order.take(decode(data, allowed, MAX_ENTRY_BYTES))  # type: ignore[arg-type]

    with open_source(str(made.tiles)) as source:
        fsck(source, ORIGIN, [VerifierKey(ORIGIN, public_key)], rule, lambda done, total: None)
