"""A sound sampled run with real proofs, and copies of it that a test may forge.

SGD, profile ``small``, 3 steps of 4 shards of which 1 is drawn, window 2; every role is the real one. Made in about
20 s, and kept between test runs like the sound run. Proofs are real; a forged log keeps them, by draws that hit the
same shards.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from anchor.file_record import Record, identity_bytes
from consumers.audit.proofs import Verdict
from ledger.entries import Entry, leaf_data, proofs_digest
from ledger.sampling import challenge, draw
from ledger.tree import Tree
from schemas.codec import encode
from schemas.events import (
    Anchored,
    ProofAttached,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    StepCommitted,
    StepProven,
    StepRecorded,
)
from schemas.signing import decode_unverified, event_id
from tests.support.circuits import CircuitCache, _lock
from tests.support.forge import Case
from tests.support.pipeline import Pipeline, pipeline
from tests.support.sound_run import SoundRun, linked_home, run_key
from zk_autograd.home import Home
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit

STEPS, SHARDS, COUNT, WINDOW = 3, 4, 1, 2


@dataclass(frozen=True)
class SampledRun:
    """The run, the pipeline that made it, how many proofs it took, and in how many rounds the log grew."""

    pipe: Pipeline
    run_id: bytes
    proofs: int
    rounds: int


def make(pipe: Pipeline) -> SampledRun:
    """Trains everything first; then ledger, anchor and prover take turns until the run is closed and anchored."""
    run_id = pipe.train(STEPS, SHARDS, terms=pipe.sampled(COUNT, WINDOW))
    proofs = rounds = size = 0
    while True:
        grown = pipe.fold().tree.size
        pipe.anchor()
        proofs += pipe.prove()
        if grown == size:
            return SampledRun(pipe, run_id, proofs, rounds)
        size, rounds = grown, rounds + 1


@pytest.fixture(scope="session")
def sampled_run(circuit_cache: CircuitCache, real_circuit: Callable[[str], Circuit]) -> SampledRun:
    """The sound sampled run, made if it is not there yet. It is shared: read it, and change copies of it only."""
    circuit, runs = real_circuit("sgd"), circuit_cache.path / "sampled"
    runs.mkdir(exist_ok=True)
    folder = runs / run_key()
    with _lock(runs / "lock", fcntl.LOCK_EX):
        if not folder.exists():
            for old in (p for p in runs.iterdir() if p.is_dir()):
                shutil.rmtree(old)
            draft = runs / f"{folder.name}.new"
            draft.mkdir()
            made = make(pipeline(linked_home(draft / "home", circuit), draft, circuit))
            facts = {"run_id": made.run_id.hex(), "proofs": made.proofs, "rounds": made.rounds}
            (draft / "run.json").write_text(json.dumps(facts))
            draft.rename(folder)
    facts = json.loads((folder / "run.json").read_text())
    pipe = pipeline(Home(folder / "home"), folder, circuit)
    return SampledRun(pipe, bytes.fromhex(facts["run_id"]), facts["proofs"], facts["rounds"])


def as_sound_run(made: SampledRun) -> SoundRun:
    """The same as what a :class:`~tests.support.forge.Case` copies; without the proofs beside it."""
    pipe = made.pipe
    return SoundRun(pipe.home, pipe.home.path.parent / "log.db", made.run_id, pipe.circuit, (b"", b""), b"", b"", b"")


@dataclass
class Teller:
    """Tells a sampled run anew, as holders of every key would: ledger, receipts and proofs as a test wants them.

    The trainer's events and the proofs are those of the log. A receipt's randomness is chosen so that the draws of the
    steps that it covers hit the shards that are proven, unless the test gives another: this is what the owner of a
    ``file:`` anchor can do, and no other beacon may let anyone do.
    """

    case: Case
    entries: list[Entry] = field(default_factory=list)
    receipts: list[Record] = field(default_factory=list)
    published: list[Record] = field(default_factory=list)
    leaves: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        events = [o for _, o in self.case.log.opened("steps")]
        self.start = next(o.event for o in events if isinstance(o.event, RunStarted))
        self.steps = {o.event.step: o for o in events if isinstance(o.event, StepCommitted)}
        self.end = next(o for o in events if isinstance(o.event, RunFinished))
        proofs = [o for _, o in self.case.log.opened("proofs") if isinstance(o.event, ProofAttached)]
        self.proofs = {o.event.step: o.event for o in proofs}
        self.seeds: dict[int, bytes] = {}

    @property
    def run_id(self) -> bytes:
        return self.case.run_id

    def open(self) -> Teller:
        return self.add(RunOpened(self.run_id))

    def record(self, *steps: int, **changes: bytes) -> Teller:
        """StepRecorded entries."""
        for step in steps:
            self.leaves.setdefault(step, len(self.entries))
            self.add(replace(StepRecorded(self.run_id, step, self.steps[step].event_id), **changes))
        return self

    def prove(self, *steps: int, **changes: bytes) -> Teller:
        """StepProven entries, over the log's proof of each step."""
        for step in steps:
            roots = (self.steps[step].event.state_root, self.steps[step].event.work_root)
            digest = proofs_digest([event_id(encode(self.proofs[step]))] if step in self.proofs else [])
            seed = self.seeds.get(step, bytes(32))
            entry = StepProven(self.run_id, step, self.steps[step].event_id, digest, seed, *roots)
            self.add(replace(entry, **changes))
        return self

    def close(self) -> Teller:
        return self.add(RunClosed(self.run_id, self.end.event_id, STEPS))

    def add(self, *entries: Entry) -> Teller:
        self.entries += entries
        return self

    def anchor(self, randomness: bytes | None = None, hide: bool = False) -> Teller:
        """Raises the beacon for the entries so far; what is hidden is in the anchor's file only."""
        tree = Tree(leaf_data(e) for e in self.entries)
        fresh = [step for step, leaf in self.leaves.items() if step not in self.seeds and leaf < tree.size]
        randomness = randomness or self.luck(fresh)
        note = decode_unverified("checkpoints", self.case.insider.checkpoint([leaf_data(e) for e in self.entries]))
        checkpoint = hashed(note.event.note)  # type: ignore[union-attr]
        anchor_id = identity_bytes(self.start.beacon)
        last = self.receipts[-1] if self.receipts else None
        counter, previous = (last.counter + 1, last.digest) if last else (1, anchor_id)
        record = Record(anchor_id, counter, tree.size, tree.root(), checkpoint, randomness, previous)
        self.receipts.append(record)
        if not hide:
            self.published.append(record)
            self.seeds |= {step: self.seed(step, randomness) for step in fresh}
        return self

    def seed(self, step: int, randomness: bytes) -> bytes:
        return challenge(randomness, self.run_id, step, self.steps[step].event_id)

    def draws(self, step: int, randomness: bytes) -> tuple[int, ...]:
        return draw(self.seed(step, randomness), COUNT, SHARDS)

    def luck(self, steps: Sequence[int], miss: bool = False, first: int = 0) -> bytes:
        """Randomness that draws (or, with ``miss``, does not draw) the proven shard of each of these steps.

        Tried in order from ``first`` on: two receipts that must differ begin far from each other.
        """
        for number in range(first, 1 << 20):
            found = number.to_bytes(32, "big")
            hits = [self.draws(s, found) == (self.proofs[s].shard,) for s in steps if s in self.proofs]
            if all(hit != miss for hit in hits):
                return found
        raise AssertionError("no such randomness")

    def tell(self) -> Case:
        """Writes it all into the case's log, and the anchor's file."""
        log, sign = self.case.log, self.case.insider.seal
        for topic in ("proofs", "ledger", "checkpoints", "anchors"):
            log.clear(topic)
        log.append("proofs", *(sign("proofs", p) for p in self.proofs.values()))
        log.append("ledger", *(sign("ledger", e) for e in self.entries))
        leaves = [leaf_data(e) for e in self.entries]
        header = self.case.anchor_path.read_bytes()[:64]
        self.case.anchor_path.write_bytes(header + b"".join(r.encode() for r in self.receipts))
        for size in sorted({r.size for r in self.receipts} | {len(leaves)}):
            (written,) = log.append("checkpoints", self.case.insider.checkpoint(leaves[:size]))
            checkpoint_id = decode_unverified("checkpoints", written.value).event_id
            for r in self.published:
                if r.size == size:
                    event = Anchored(self.start.beacon, r.counter, r.size, r.root, checkpoint_id, r.encode())
                    log.append("anchors", sign("anchors", event))
        return self.case


def hashed(note: str) -> bytes:
    """What an anchor keeps of a note."""
    return hashlib.sha256(note.encode()).digest()


@pytest.fixture
def sampled_case(
    sampled_run: SampledRun, tmp_path: Path, verdicts: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]
) -> Case:
    """A copy of the sampled run, to be forged; its policy takes sampled runs."""
    return SampledCase(as_sound_run(sampled_run), tmp_path, verdicts)


class SampledCase(Case):
    """A case whose auditor takes runs of which one shard a step is proven."""

    @property
    def policy(self) -> Policy:
        return replace(super().policy, min_sampled=COUNT)
