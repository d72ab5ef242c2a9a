"""Attacks on Adafactor's sums: a column's moment is right only if every shard of its matrix is counted, once.

A run over a matrix in two shards and a bias, made by the optimizer itself, with real proofs of a circuit of 2^12 rows.
Whoever attacks here holds all keys but the auditor's, as in ``test_sums.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

torch = pytest.importorskip("torch")

from pathlib import Path  # noqa: E402

from consumers.audit.proofs import Verdict  # noqa: E402
from ledger.chain import RunChain  # noqa: E402
from producer.recorder import Recorder  # noqa: E402
from schemas.events import Group, Hyper, RunFinished, RunStarted, StepCommitted  # noqa: E402
from schemas.signing import Opened  # noqa: E402
from schemas.wire import open_event_log  # noqa: E402
from tests.attacks.conftest import assert_violates  # noqa: E402
from tests.support.forge import Case, Story, explain  # noqa: E402
from tests.support.pipeline import pipeline  # noqa: E402
from tests.support.sound_run import SoundRun, linked_home, opened_witness  # noqa: E402
from zk_autograd.errors import FormatError, VerificationError  # noqa: E402
from zk_autograd.home import Home  # noqa: E402
from zk_autograd.merkle import all_paths  # noqa: E402
from zk_autograd.optim import Adafactor  # noqa: E402
from zk_autograd.proofs import proof_system  # noqa: E402
from zk_autograd.proofs.base import Circuit, Commitments, Limits, Profile  # noqa: E402
from zk_autograd.proofs.ezkl.system import Ezkl  # noqa: E402
from zk_autograd.proofs.witness import Carried, ShardWitness, advance, carry_of, columns, fresh_salt  # noqa: E402
from zk_autograd.schedule import Schedule  # noqa: E402
from zk_autograd.statement import STATEMENTS, Public, place_in  # noqa: E402

BLOCKS, STEPS = (2, 1), 2
ST = STATEMENTS["adafactor-16"]
ZEROS = (0,) * len(ST.carries)


@dataclass(frozen=True)
class Matrix:
    """The sound run, and of its last step the secrets and public integers by shard."""

    sound: SoundRun
    secrets: list[ShardWitness]
    public: list[tuple[int, ...]]

    def pub(self, shard: int) -> Public:
        return Public(dict(zip(ST.public, self.public[shard], strict=True)) | place_in(BLOCKS, shard))

    def prove(self, secret: ShardWitness, shard: int) -> bytes:
        circuit, pub = self.sound.circuit, self.pub(shard)
        made = columns(circuit, secret, advance(circuit, secret, pub), pub)
        return proof_system(circuit.system).prove(circuit, made, Limits())


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    folder = tmp_path_factory.mktemp("matrix")
    made, system = Home(folder / "made"), Ezkl()
    circuit = system.set_up(ST, Profile("tiny", 12, 3, 270), system.dev_srs(made.path, 12), made.path)
    pipe = pipeline(linked_home(folder / "home", circuit), folder, circuit)
    run_id = trained(pipe.home, pipe.url, circuit)
    assert pipe.prove() == STEPS * sum(BLOCKS)
    pipe.fold()
    pipe.anchor()
    opened = [opened_witness(pipe.home, pipe.url, circuit, STEPS, shard) for shard in range(sum(BLOCKS))]
    sound = SoundRun(pipe.home, folder / "log.db", run_id, circuit, (), b"", b"", b"")
    return Matrix(sound, [secret for _, secret in opened], [event.public for event, _ in opened])


def trained(home: Home, url: str, circuit: Circuit) -> bytes:
    """Two steps of a matrix of 30 rows of 16, of which a shard has 21, and a bias."""
    generator = torch.Generator().manual_seed(1)
    layer = torch.nn.Linear(16, 30)
    layer.bias = torch.nn.Parameter(torch.zeros(16))  # as long as a row
    optimizer = Adafactor(layer.named_parameters(), lr=1e-2, logrows=12)
    with open_event_log(url) as log:
        schedules = [Schedule("constant", (1e-2,), 1e-2)] * 2
        recorder = Recorder.start(optimizer, log, home, circuit, "run", schedules)
        for _ in range(STEPS):
            for p in layer.parameters():
                p.grad = torch.randn(p.shape, generator=generator) / 8
            optimizer.step()
            assert optimizer.last_step is not None
            assert optimizer.last_step.limited == 0
            recorder.record()
        recorder.finish()
        recorder.close()
    return recorder.run_id


@pytest.fixture(scope="module")
def known() -> dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]:
    return {}


@pytest.fixture
def told(matrix: Matrix, tmp_path: Path, known: dict[tuple[bytes, bytes, tuple[int, ...]], Verdict]) -> Case:
    return Case(matrix.sound, tmp_path, known)


def retold(story: Story, proofs: dict[int, bytes]) -> None:
    """Puts these proofs in the places of the last step's and commits to what they are about, sums included."""
    for shard, proof in proofs.items():
        story.proofs[STEPS, shard] = replace(story.proofs[STEPS, shard], proof=proof)
    points = [Commitments.first_in(story.proofs[STEPS, s].proof, ST) for s in range(sum(BLOCKS))]
    story.commit(STEPS, post=[c.post for c in points], work=[c.work for c in points])
    root, paths = all_paths([c.carry_out for c in points])
    story.edit(StepCommitted, STEPS, carry_root=root)
    for shard, path in enumerate(paths):
        before = () if shard != 1 else tuple(paths[shard - 1])
        changed = replace(story.proofs[STEPS, shard], carry_in_path=before, carry_out_path=tuple(path))
        story.proofs[STEPS, shard] = changed
    story.edit(RunFinished, state_root=story.step(STEPS).state_root)


def test_a_run_of_a_matrix_in_shards_and_a_bias_is_sound(told: Case, matrix: Matrix) -> None:
    found = told.audit()
    assert found.exit_code == 0, explain(found)
    start = told.story().start
    assert [b.shards for b in start.blocks] == list(BLOCKS)
    assert [{h.name: h.value for h in g.hyper}["size"] for g in start.groups] == [480.0, 16.0]
    one, two, bias = (s.carried for s in matrix.secrets)
    assert one is not None and two is not None and bias is not None  # noqa: PT018
    assert one.totals == two.totals != bias.totals
    # Half of the second shard is padding, and nothing came into it.
    rest = slice(9 * 16, None)
    assert not matrix.secrets[1].g[rest].any()
    assert not matrix.secrets[1].pre["w"][rest].any()


def counting(secret: ShardWitness, before: tuple[int, ...], totals: tuple[int, ...]) -> ShardWitness:
    return replace(secret, carried=Carried(before, totals, fresh_salt(), fresh_salt()))


def test_a_shard_that_is_left_out_of_its_matrix(told: Case, matrix: Matrix) -> None:
    """The second shard's sums begin at 0 again. Both proofs hold; their sums do not meet."""
    one, two = matrix.secrets[:2]
    (alone,) = carry_of(ST, [(two.pre, two.g)], matrix.pub(1), matrix.sound.circuit.P)
    assert alone is not None
    lies = {0: counting(one, ZEROS, alone.totals), 1: counting(two, ZEROS, alone.totals)}
    story = told.story()
    retold(story, {shard: matrix.prove(lie, shard) for shard, lie in lies.items()})
    told.retell(story)
    assert_violates(told.audit(), 6, only=True)


def test_a_shard_that_is_counted_twice(told: Case, matrix: Matrix) -> None:
    one, two = matrix.secrets[:2]
    parts = [(s.pre, s.g) for s in (one, one, two)]
    last = carry_of(ST, parts, matrix.pub(1), matrix.sound.circuit.P)[2]
    assert last is not None
    lies = {0: counting(one, ZEROS, last.totals), 1: counting(two, last.before, last.totals)}
    story = told.story()
    retold(story, {shard: matrix.prove(lie, shard) for shard, lie in lies.items()})
    told.retell(story)
    assert_violates(told.audit(), 6, only=True)


@pytest.mark.parametrize("name", ["c0", "c15", "M", "sw", "su"])
def test_a_total_that_is_not_the_sum_fits_no_circuit(matrix: Matrix, name: str) -> None:
    secret = matrix.secrets[1]
    c = secret.carried
    assert c is not None
    other = tuple(x + (n == name) for n, x in zip(ST.carries, c.totals, strict=True))
    with pytest.raises(FormatError, match=f"{name} ends at the total"):
        advance(matrix.sound.circuit, replace(secret, carried=replace(c, totals=other)), matrix.pub(1))


@pytest.mark.parametrize("size", [1.0, 20.0, 673.0, 480.5, 0.0, 2.0**40])
def test_a_matrix_whose_size_does_not_fit_its_shards_is_no_run(told: Case, matrix: Matrix, size: float) -> None:
    start = told.story().start

    def chain(size: float) -> RunChain:
        group, *others = start.groups
        hyper = tuple(Hyper(h.name, size if h.name == "size" else h.value) for h in group.hyper)
        changed = replace(start, groups=(Group(hyper, group.max_lr, group.schedule_kind, group.schedule), *others))
        assert isinstance(changed, RunStarted)
        return RunChain(Opened(changed, bytes(32), start.trainer_key_id, b"", b""), matrix.sound.circuit)

    assert chain(480.0).start.shards == 3
    with pytest.raises(VerificationError, match="declares what cannot be"):
        chain(size)


def test_another_size_than_the_one_declared_is_off_the_schedule(told: Case) -> None:
    story = told.story()
    place = ST.public.index("n")
    public = list(story.step(1).public)
    public[place] += 1
    story.edit(StepCommitted, 1, public=tuple(public))
    told.retell(story)
    found = told.audit()
    assert_violates(found, 4)
    assert "n of block 0 is 481, expected 480" in explain(found)
