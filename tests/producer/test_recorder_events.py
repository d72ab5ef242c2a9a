"""What a recorded run leaves in the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from producer.recorder import Recorder
from schemas.events import EnclaveAttested, RunFinished, WitnessShard
from schemas.signing import decode_unverified
from schemas.topics import TOPICS
from tests.producer.training import Training, follow
from tests.support.pipeline import LR
from zk_autograd.errors import UsageError
from zk_autograd.proofs.base import Circuit
from zk_autograd.schedule import Schedule


def witnesses(training: Training) -> list[tuple[int, WitnessShard]]:
    """Partition and event of every witness record."""
    opened = [(r.partition, decode_unverified("witness", r.value).event) for r in training.records("witness")]
    return [(partition, event) for partition, event in opened if isinstance(event, WitnessShard)]


def test_a_run_is_a_signed_chain_from_its_start_to_its_end(training: Training) -> None:
    with training.start() as job:
        job.step(3)
        job.recorder.finish()
    chain = follow(training)
    assert chain is not None
    assert chain.run_id == job.recorder.run_id
    assert len(chain.steps) == 3
    assert chain.finished is not None


def test_a_reader_meets_the_trainers_introduction_before_its_run_whatever_the_partitions(training: Training) -> None:
    # Partitions are read in any order: only within one is there an order to rely on.
    with training.start() as job:
        pass
    intro, start = training.records("steps")
    assert isinstance(decode_unverified("steps", intro.value).event, EnclaveAttested)
    assert decode_unverified("steps", start.value).event_id == job.recorder.run_id
    assert intro.partition == start.partition


def test_all_witnesses_have_one_length_however_full_their_shard_is(training: Training) -> None:
    with training.start() as job:
        job.step(2)
    lengths = {len(event.ciphertext) for _, event in witnesses(training)}
    assert len(witnesses(training)) == 4
    assert len(lengths) == 1


def test_the_shards_of_successive_steps_go_round_all_partitions_of_the_witness_topic(training: Training) -> None:
    with training.start() as job:
        job.step(5)
    in_order = sorted(witnesses(training), key=lambda w: (w[1].step, w[1].shard))
    count = TOPICS["witness"].partitions
    assert [partition for partition, _ in in_order] == [i % count for i in range(10)]


def test_a_step_that_was_skipped_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
        job.optimizer.step()
        job.optimizer.step()
        with pytest.raises(UsageError, match="expected the optimizer to have taken step 2, its last is step 3"):
            job.recorder.record()
    assert len(training.records("steps")) == 3


def test_a_step_is_recorded_once(training: Training) -> None:
    with training.start() as job:
        job.step()
        with pytest.raises(UsageError, match="expected the optimizer to have taken step 2, its last is step 1"):
            job.recorder.record()


def test_nothing_is_recorded_before_the_first_step(training: Training) -> None:
    with training.start() as job, pytest.raises(UsageError, match="taken step 1, its last is none"):
        job.recorder.record()


def test_a_finished_run_takes_no_step_and_no_second_end(training: Training) -> None:
    with training.start() as job:
        job.step()
        job.recorder.finish()
        job.optimizer.step()
        with pytest.raises(UsageError, match="the run is finished"):
            job.recorder.record()
        with pytest.raises(UsageError, match="the run is finished"):
            job.recorder.finish()
    ends = [r for r in training.records("steps") if isinstance(decode_unverified("steps", r.value).event, RunFinished)]
    assert len(ends) == 1


@pytest.mark.parametrize(("name", "logrows"), [("sgd", 12), ("adam", 12)])
def test_a_circuit_that_proves_something_else_is_refused(
    name: str, logrows: int, training: Training, mock_circuit: Callable[..., Circuit]
) -> None:
    ours, other = training.circuit, mock_circuit(name, logrows)
    training.circuit = other
    optimizer = training.optimizer()
    training.circuit = ours
    with training.open() as log, pytest.raises(UsageError, match=f"proves adam with a table of {ours.P}"):
        Recorder.start(optimizer, log, training.home, ours, "run", Schedule("constant", (LR,), LR))
    assert not training.records("steps")


@pytest.mark.parametrize(
    "name", ["", "../run", "a/b", "/etc/passwd", ".hidden", "..", "a\0b", "a b", "a\nb", "x" * 101, "~", "a\\b"]
)
def test_a_run_name_that_is_no_plain_file_name_is_refused(name: str, training: Training) -> None:
    with pytest.raises(UsageError, match="expected letters, digits"), training.start(name):
        pass
    with pytest.raises(UsageError, match="expected letters, digits"), training.resume(name):
        pass
    assert not training.home.runs.exists()


def test_a_name_is_used_once(training: Training) -> None:
    with training.start():
        pass
    with pytest.raises(UsageError, match=r"exists in .*: resume it, or choose another name"), training.start():
        pass
