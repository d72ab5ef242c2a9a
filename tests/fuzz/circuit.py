"""A real circuit and a real proof for the target ``zk-proofs``: what the tests have made and kept, if they have."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from schemas.events import ProofAttached
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from zk_autograd.proofs.ezkl.batch import BatchVerifier
from zk_autograd.proofs.ezkl.constraints import read_key
from zk_autograd.proofs.ezkl.srs import g2_points
from zk_autograd.proofs.ezkl.verify import read_digest
from zk_autograd.proofs.store import CircuitStore

_ROOT = Path(__file__).resolve().parents[2]


class NoCircuit(Exception):
    """The tests have kept no sound run on this machine."""


def _kept_runs() -> list[Path]:
    home = Path(os.environ.get("ZK_TEST_HOME") or _ROOT / ".pytest_cache" / "zk-home")
    return sorted(home.glob("**/runs/*/log.db"), key=lambda path: path.stat().st_mtime, reverse=True)


@cache
def proof_and_key() -> tuple[bytes, bytes, Path]:
    """A proof, the bytes of its verifying key, and the home that has its circuit.

    Raises:
        NoCircuit: none was kept.
    """
    for log_path in _kept_runs():
        with open_event_log(f"sqlite:///{log_path}?mode=ro", create=False) as log, log.reader(["proofs"]) as reader:
            for record in reader.read_to_end():
                event = decode_unverified("proofs", record.value).event
                assert isinstance(event, ProofAttached)
                home = log_path.parent / "home"
                circuit = CircuitStore(home, None)(event.circuit_id)
                return event.proof, (circuit.directory / "vk.key").read_bytes(), home
    raise NoCircuit("run the tests of tests/attacks once: they make a run, and keep it")


@cache
def batch_verifier() -> tuple[BatchVerifier, bytes]:
    """The batch verifier for the kept run's circuit, and a proof that it accepts."""
    proof, raw, home = proof_and_key()
    (log_path,) = home.parent.glob("log.db")
    with open_event_log(f"sqlite:///{log_path}?mode=ro", create=False) as log, log.reader(["proofs"]) as reader:
        event = decode_unverified("proofs", next(iter(reader.read_to_end())).value).event
    assert isinstance(event, ProofAttached)
    circuit = CircuitStore(home, None)(event.circuit_id)
    return BatchVerifier(read_key(raw), read_digest(circuit), *g2_points(circuit.srs_path)), proof
