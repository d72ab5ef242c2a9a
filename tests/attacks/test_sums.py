"""Attacks on sums over a layer: LAMB's trust ratio is right only if every shard is counted, once, in its own layer.

A run of two layers of two shards, one step, with real proofs of a circuit of 2^12 rows. Whoever attacks here holds all
keys but the auditor's, makes proofs that verify, and commits to what they are about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from consumers.audit.proofs import Verdict
from consumers.prover.check import check_witness
from ledger.chain import RunChain
from producer.recorder import Recorder
from schemas.events import ProofAttached, RunFinished, RunStarted, StepCommitted, WitnessShard
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.attacks.conftest import assert_violates
from tests.support.forge import Case, Story, explain
from tests.support.pipeline import LR, pipeline
from tests.support.sound_run import SoundRun, linked_home, opened_witness
from zk_autograd.errors import FormatError, VerificationError
from zk_autograd.home import Home
from zk_autograd.merkle import all_paths
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Commitments, Limits, Profile
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.ezkl.verify import EzklVerifier
from zk_autograd.proofs.witness import Carried, ShardWitness, advance, columns, fresh_salt
from zk_autograd.schedule import Schedule
from zk_autograd.statement import STATEMENTS, Public, place_in
from zk_autograd.tee.keys import load_data_key

LAYERS = (2, 2)
LAMB = STATEMENTS["lamb"]


@dataclass(frozen=True)
class Layers:
    """The sound run, its secrets by shard, and proofs of lies made at first use."""

    sound: SoundRun
    secrets: list[ShardWitness]
    public: tuple[int, ...]

    def pub(self, shard: int, **place: int) -> Public:
        return Public(dict(zip(LAMB.public, self.public, strict=True)) | place_in(LAYERS, shard) | place)

    def prove(self, secret: ShardWitness, pub: Public) -> bytes:
        circuit = self.sound.circuit
        made = columns(circuit, secret, advance(circuit, secret, pub), pub)
        return proof_system(circuit.system).prove(circuit, made, Limits())


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    folder = tmp_path_factory.mktemp("layers")
    made = Home(folder / "made")
    system = Ezkl()
    circuit = system.set_up(LAMB, Profile("tiny", 12, 3, 270), system.dev_srs(made.path, 12), made.path)
    pipe = pipeline(linked_home(folder / "home", circuit), folder, circuit)
    run_id = pipe.train(1, layers=LAYERS)
    assert pipe.prove() == sum(LAYERS)
    pipe.fold()
    pipe.anchor()
    opened = [opened_witness(pipe.home, pipe.url, circuit, 1, shard) for shard in range(sum(LAYERS))]
    sound = SoundRun(pipe.home, folder / "log.db", run_id, circuit, (), b"", b"", b"")
    return Layers(sound, [secret for _, secret in opened], opened[0][0].public)


@pytest.fixture(scope="module")
def known() -> dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]:
    return {}


@pytest.fixture
def told(layers: Layers, tmp_path: Path, known: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]) -> Case:
    return Case(layers.sound, tmp_path, known)


def retold(layers: Layers, story: Story, proofs: dict[int, bytes]) -> None:
    """Puts these proofs in the places of others and commits to what they are about, sums included."""
    for shard, proof in proofs.items():
        story.proofs[1, shard] = replace(story.proofs[1, shard], proof=proof)
    points = [Commitments.first_in(story.proofs[1, s].proof, LAMB) for s in range(sum(LAYERS))]
    story.commit(1, post=[c.post for c in points], work=[c.work for c in points])
    root, paths = all_paths([c.carry_out for c in points])
    story.edit(StepCommitted, 1, carry_root=root)
    for shard, path in enumerate(paths):
        before = () if shard in (0, 2) else tuple(paths[shard - 1])
        changed = {"carry_in_path": before, "carry_out_path": tuple(path)}
        story.proofs[1, shard] = replace(story.proofs[1, shard], **changed)  # type: ignore[arg-type]
    story.edit(RunFinished, state_root=story.step(1).state_root)


def test_an_honest_run_of_two_layers_is_sound(told: Case, layers: Layers) -> None:
    found = told.audit()
    assert found.exit_code == 0, explain(found)
    start = told.story().start
    assert [b.shards for b in start.blocks] == list(LAYERS)
    carried = [s.carried for s in layers.secrets]
    assert all(c is not None for c in carried)
    totals = [c.totals for c in carried if c is not None]
    assert totals[0] == totals[1] != totals[2] == totals[3]
    points = [Commitments.first_in(told.story().proofs[1, s].proof, LAMB) for s in range(sum(LAYERS))]
    assert points[0].carry_out == points[1].carry_in
    assert points[2].carry_out == points[3].carry_in
    assert points[1].carry_out != points[2].carry_in


def test_a_torch_run_is_recorded_as_provers_and_auditors_take_it(layers: Layers, tmp_path: Path) -> None:
    """Three layers: of one shard, of two and a bit, and a bias that begins at 0. Two steps, no proofs."""
    torch = pytest.importorskip("torch")
    from zk_autograd.optim import Lamb

    circuit = layers.sound.circuit
    home = linked_home(tmp_path / "home", circuit)
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(n, generator=generator) for n in (circuit.shard, 2 * circuit.shard + 7)] + [torch.zeros(5)]
    params = [torch.nn.Parameter(v) for v in values]
    optimizer = Lamb(params, lr=LR, logrows=12)
    with open_event_log(f"sqlite:///{tmp_path}/log.db") as log:
        recorder = Recorder.start(optimizer, log, home, circuit, "torch", Schedule("constant", (LR,), LR))
        for _ in range(2):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator) / 4
            optimizer.step()
            recorder.record()
        recorder.close()
        with log.reader(["steps"]) as reader:
            events: list[Any] = [decode_unverified("steps", r.value) for r in reader.read_to_end()]
        with log.reader(["witness"]) as reader:
            found: list[Any] = [decode_unverified("witness", r.value).event for r in reader.read_to_end()]
    started, *steps = (e for e in events if isinstance(e.event, RunStarted | StepCommitted))
    assert [b.shards for b in started.event.blocks] == [1, 3, 1]
    chain = RunChain(started, circuit)
    for step in steps:
        chain.check_link(step)
        chain.check_public(step.event)
        chain.append(step)
    committer = proof_system(circuit.system).committer(circuit)
    (name,) = home.data_keys.iterdir()
    key = load_data_key(home.data_keys, bytes.fromhex(name.stem))
    for event in found:
        made = check_witness(event, started.event, circuit, committer, key)
        assert made.hyper == list(chain.public_of(event.step, event.shard))
        # What its proof would begin with has its place.
        proof = attached(event, circuit)
        chain.check_place(proof, Commitments(event.pre, event.post, event.work, b"", *event.carry))
        if event.shard == 2:
            with pytest.raises(VerificationError, match="sums before"):
                chain.check_place(
                    replace(proof, carry_in_path=proof.carry_out_path),
                    Commitments(event.pre, event.post, event.work, b"", *event.carry),
                )
    assert len(found) == 10


def attached(event: WitnessShard, circuit: Circuit) -> ProofAttached:
    """A proof's event without the proof."""
    paths = {n: getattr(event, f"{n}_path") for n in ("pre", "post", "work", "carry_in", "carry_out")}
    return ProofAttached(
        event.run_id, event.step, event.shard, circuit.system, circuit.id, b"", paths["pre"], paths["post"],
        paths["work"], paths["carry_in"], paths["carry_out"],
    )  # fmt: skip


def test_the_batch_verifier_takes_six_committed_columns_and_no_other_proof(told: Case, layers: Layers) -> None:
    proofs = [told.story().proofs[1, shard].proof for shard in range(sum(LAYERS))]
    with EzklVerifier(layers.sound.circuit) as verifier:
        assert verifier.batch.accepted(proofs) == [True] * len(proofs)
        for at in (4 * POINT_BYTES, 5 * POINT_BYTES, -40):  # carry_in, carry_out, the opening
            other = bytearray(proofs[1])
            other[at : at + 2 or None] = proofs[0][at : at + 2 or None]
            assert verifier.batch.accepted([proofs[0], bytes(other)]) == [True, False]


def sums(secret: ShardWitness, layers: Layers, shard: int) -> tuple[int, ...]:
    """What a shard adds to its layer's sums."""
    c = secret.carried
    assert c is not None
    after = advance(layers.sound.circuit, secret, layers.pub(shard)).after
    return tuple(x - y for x, y in zip(after, c.before, strict=True))


def counting(secret: ShardWitness, before: tuple[int, ...], totals: tuple[int, ...]) -> ShardWitness:
    return replace(secret, carried=Carried(before, totals, fresh_salt(), fresh_salt()))


def test_a_shard_that_is_left_out_of_its_layers_sums(told: Case, layers: Layers) -> None:
    """The layer's second shard begins at 0 again. Both proofs hold; their sums do not meet."""
    one, two = layers.secrets[:2]
    only = sums(two, layers, 1)
    lies = {0: counting(one, (0, 0), only), 1: counting(two, (0, 0), only)}
    story = told.story()
    retold(layers, story, {s: layers.prove(lie, layers.pub(s)) for s, lie in lies.items()})
    told.retell(story)
    assert_violates(told.audit(), 6, only=True)
    # Nor does a path to anything help, or none at all.
    for path in ((), story.proofs[1, 1].carry_out_path, story.proofs[1, 2].carry_out_path):
        story.proofs[1, 1] = replace(story.proofs[1, 1], carry_in_path=path)
        told.retell(story)
        assert_violates(told.audit(), 6, only=True)


def test_a_shard_that_is_counted_twice(told: Case, layers: Layers) -> None:
    one, two = layers.secrets[:2]
    a, b = sums(one, layers, 0), sums(two, layers, 1)
    twice, total = (tuple(2 * x for x in a), tuple(2 * x + y for x, y in zip(a, b, strict=True)))
    lies = {0: counting(one, (0, 0), total), 1: counting(two, twice, total)}
    story = told.story()
    retold(layers, story, {s: layers.prove(lie, layers.pub(s)) for s, lie in lies.items()})
    told.retell(story)
    assert_violates(told.audit(), 6, only=True)


def test_totals_of_another_layer_fit_no_circuit_and_a_proof_for_another_place_fits_no_step(
    told: Case, layers: Layers
) -> None:
    one, two = layers.secrets[:2]
    other = layers.secrets[2].carried
    assert other is not None
    before = sums(one, layers, 0)
    first = counting(one, (0, 0), other.totals)
    assert first.carried is not None
    second = replace(two, carried=Carried(before, other.totals, first.carried.salt_out, fresh_salt()))
    with pytest.raises(FormatError, match="ends at the total"):
        advance(layers.sound.circuit, second, layers.pub(1))
    # It can be proven as a shard in a layer's middle: the sums' chain holds, but the layer has no third shard.
    story = told.story()
    retold(layers, story, {0: layers.prove(first, layers.pub(0)), 1: layers.prove(second, layers.pub(1, last=0))})
    told.retell(story)
    found = told.audit()
    assert_violates(found, 6, only=True)
    assert "other public integers" in explain(found)


def test_layers_whose_proofs_change_places(told: Case) -> None:
    story = told.story()
    for a, b in ((0, 2), (1, 3)):
        one, other = story.proofs[1, a], story.proofs[1, b]
        story.proofs[1, a], story.proofs[1, b] = replace(other, shard=a), replace(one, shard=b)
    told.retell(story)
    assert_violates(told.audit(), 6, only=True)


@pytest.mark.parametrize("changed", ["root", "in path", "out path", "path too many"])
def test_a_root_or_a_path_of_sums_that_is_not_the_steps(told: Case, changed: str) -> None:
    story = told.story()
    proof = story.proofs[1, 1]
    assert isinstance(proof, ProofAttached)
    if changed == "root":
        story.edit(StepCommitted, 1, carry_root=story.step(1).work_root)
    elif changed == "path too many":
        story.proofs[1, 2] = replace(story.proofs[1, 2], carry_in_path=story.proofs[1, 1].carry_in_path)
    else:
        other = story.proofs[1, 0].carry_out_path[::-1]
        moved = {"carry_in_path": other} if changed == "in path" else {"carry_out_path": other}
        story.proofs[1, 1] = replace(proof, **moved)  # type: ignore[arg-type]
    told.retell(story)
    assert_violates(told.audit(), 6, only=True)
