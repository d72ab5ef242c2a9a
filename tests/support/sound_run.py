"""One sound run, from the first event to the last receipt, with real proofs; made once and kept between test runs.

Adam, profile ``small``, 3 steps of 2 shards, finished, proven, folded, anchored after step 1 and at the end. Beside it
stand five more real proofs, for attacks that need one. Making all this takes about a minute and a half, so it is kept
next to the circuits in a folder named by a hash of the sources that shape it.

Import ``sound_run`` into a package's ``conftest.py`` to use it. It is shared: read it, and change copies of it only
(:mod:`tests.support.forge`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from schemas.events import WitnessShard
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.support.circuits import CircuitCache, _lock
from tests.support.pipeline import LR, pipeline
from zk_autograd.fixed_point import Format
from zk_autograd.home import Home
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Columns, Commitments, Limits
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.witness import ShardWitness, advance, columns, place
from zk_autograd.statement import Public
from zk_autograd.tee.keys import load_data_key
from zk_autograd.tee.sealing import unseal

STEPS, SHARDS = 3, 2
HOT_LR = 1.25 * LR
"""The rate that :attr:`SoundRun.hot_proofs` were really made with."""

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("schemas", "producer", "ledger", "anchor", "consumers", "src/zk_autograd")
_NO_PART = ("consumers/audit", "src/zk_autograd/optim", "src/zk_autograd/triton_kernels")
_BESIDE = ("hot-0", "hot-1", "foreign", "twin", "sgd")
_KEPT = 2  # runs of other sources that are kept


@dataclass(frozen=True)
class SoundRun:
    """Where the run lies, and the proofs beside it.

    Attributes:
        home: every role's keys, the Adam circuit, the policy, and the anchor's file (``home/anchor``).
        log_path: the embedded log's file.
        run_id: the run.
        circuit: the Adam circuit.
        hot_proofs: of step 3, by shard, taken at ``HOT_LR`` instead of ``LR``; valid for those public integers only.
        foreign_proof: of step 1, shard 0, with the run's own public integers, but from other weights.
        twin_proof: of step 2, shard 1, as a prover makes it that was restarted: as good as the first, and other bytes.
        sgd_proof: a valid proof of the SGD circuit.
    """

    home: Home
    log_path: Path
    run_id: bytes
    circuit: Circuit
    hot_proofs: tuple[bytes, ...] = field(repr=False)
    foreign_proof: bytes = field(repr=False)
    twin_proof: bytes = field(repr=False)
    sgd_proof: bytes = field(repr=False)


def commitments(proof: bytes) -> Commitments:
    """What an Adam proof is about: its first four points."""
    return Commitments(*(proof[i : i + POINT_BYTES] for i in range(0, 4 * POINT_BYTES, POINT_BYTES)))


def run_key() -> str:
    """Hash of every source file that shapes the run; the circuit's own are in the folder above."""
    digest = hashlib.sha256()
    own = [Path(__file__), Path(__file__).with_name("pipeline.py")]
    files = [f for p in _PACKAGES for f in (_ROOT / p).rglob("*") if f.suffix in (".py", ".avsc")]
    for file in sorted(files) + own:
        name = file.relative_to(_ROOT).as_posix()
        if not name.startswith(_NO_PART) and file.name != "cli.py":
            digest.update(f"\0{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:24]


def linked_home(path: Path, *circuits: Circuit) -> Home:
    """A home at ``path`` that allows these circuits and links to their files."""
    home = Home(path)
    home.opt_in_to_simulation()
    for folder in ("circuits", "srs"):
        (path / folder).mkdir()
    for circuit in circuits:
        (path / "circuits" / circuit.directory.name).symlink_to(circuit.directory)
        srs = path / "srs" / circuit.srs_path.name
        if not srs.exists():
            srs.symlink_to(circuit.srs_path)
        home.allow_circuit(circuit.id)
    return home


def opened_witness(home: Home, url: str, circuit: Circuit, step: int, shard: int) -> tuple[WitnessShard, ShardWitness]:
    """A witness of the log, and its secret."""
    with open_event_log(url, create=False) as log, log.reader(["witness"]) as reader:
        events = [decode_unverified("witness", r.value).event for r in reader.read_to_end()]
    (event,) = (e for e in events if isinstance(e, WitnessShard) and (e.step, e.shard) == (step, shard))
    (name,) = home.data_keys.iterdir()
    key = load_data_key(home.data_keys, bytes.fromhex(name.stem))
    plain = unseal(
        key, place(event.run_id, step, shard, event.pre, event.post, event.work, *event.carry), event.ciphertext
    )
    return event, ShardWitness.from_bytes(plain, circuit.statement, circuit.shard, circuit.noise)


def _make(folder: Path, adam: Circuit, sgd: Circuit) -> None:
    pipe = pipeline(linked_home(folder / "home", adam), folder, adam)
    run_id = pipe.train(STEPS, SHARDS)
    for proofs in (SHARDS, STEPS * SHARDS):
        pipe.prove(limit=proofs)
        pipe.fold()
        pipe.anchor()
    (folder / "run.json").write_text(json.dumps({"run_id": run_id.hex()}))

    def keep(name: str, circuit: Circuit, made: Columns) -> None:
        (folder / name).write_bytes(proof_system(circuit.system).prove(circuit, made, Limits()))

    st = adam.statement
    fmt = st.choose_format(dict(st.defaults), LR, 1.0, adam.P)
    for shard in range(SHARDS):
        event, secret = opened_witness(pipe.home, pipe.url, adam, STEPS, shard)
        assert list(event.public) == st.public_vector(st.public_integers(st.defaults, LR, STEPS, fmt, adam.P))
        keep(f"hot-{shard}.proof", adam, _stepped(adam, secret, hot_public(adam, STEPS, fmt)))
    event, secret = opened_witness(pipe.home, pipe.url, adam, 2, 1)
    keep("twin.proof", adam, _stepped(adam, secret, Public(zip(st.public, event.public, strict=True))))
    event, secret = opened_witness(pipe.home, pipe.url, adam, 1, 0)
    other = replace(secret, pre={**secret.pre, "w": secret.pre["w"] + 1})
    keep("foreign.proof", adam, _stepped(adam, other, Public(zip(st.public, event.public, strict=True))))
    keep("sgd.proof", sgd, sample(sgd, 1)[0])


def hot_public(circuit: Circuit, step: int, fmt: Format) -> Public:
    """The public integers of a step that is taken at ``HOT_LR``."""
    st = circuit.statement
    return st.public_integers(st.defaults, HOT_LR, step, fmt, circuit.P)


def _stepped(circuit: Circuit, secret: ShardWitness, public: Public) -> Columns:
    return columns(circuit, secret, advance(circuit, secret, public), public)


@pytest.fixture(scope="session")
def sound_run(circuit_cache: CircuitCache, real_circuit: Callable[[str], Circuit]) -> SoundRun:
    """The sound run, made if it is not there yet."""
    adam, sgd = real_circuit("adam"), real_circuit("sgd")
    runs = circuit_cache.path / "runs"
    runs.mkdir(exist_ok=True)
    folder = runs / run_key()
    with _lock(runs / "lock", 2):
        if not folder.exists():
            draft = runs / f"{folder.name}.new"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            _make(draft, adam, sgd)
            draft.rename(folder)
        os.utime(folder)
        kept = sorted((p for p in runs.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in kept[_KEPT + 1 :]:
            shutil.rmtree(old, ignore_errors=True)
    run_id = bytes.fromhex(json.loads((folder / "run.json").read_text())["run_id"])
    hot_0, hot_1, *others = ((folder / f"{name}.proof").read_bytes() for name in _BESIDE)
    return SoundRun(Home(folder / "home"), folder / "log.db", run_id, adam, (hot_0, hot_1), *others)
