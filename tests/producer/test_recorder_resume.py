"""A run that was interrupted goes on at the right step, or says why it cannot.

A crash between saving and publishing leaves the checkpoint one step ahead of the log. The tests make that state by
putting the log back to a copy from before the step.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from producer.recorder import Recorder
from producer.run_files import RunFile, run_file
from schemas.codec import encode
from schemas.events import RunFinished, StepCommitted
from schemas.signing import decode_unverified, seal
from tests.producer.training import Training, follow
from zk_autograd.errors import FencedError, SealingError, UsageError


def steps(training: Training) -> list[int]:
    """The steps in the log, checked to be one chain."""
    chain = follow(training)
    return [step.event.step for step in chain.steps] if chain else []


def contents(training: Training) -> list[tuple[str, int, bytes, bytes]]:
    """Topic, partition, key and value of every record."""
    return [(r.topic, r.partition, r.key, r.value) for r in training.records("steps", "witness")]


def test_after_a_crash_between_two_steps_the_run_goes_on_with_the_next(training: Training) -> None:
    with training.start() as job:
        job.step(2)
    with training.resume() as job:
        assert job.recorder.step == 2
        job.step(2)
        job.recorder.finish()
    assert steps(training) == [1, 2, 3, 4]
    assert run_file(training.home, "run").finished


def test_a_resumed_run_takes_the_steps_that_an_uninterrupted_one_takes(training: Training) -> None:
    with training.start("whole") as whole:
        whole.step(4)
    with training.start() as job:
        job.step(2)
    with training.resume() as job:
        job.step(2)
    for name, values in whole.optimizer.state_arrays().items():
        assert (values == job.optimizer.state_arrays()[name]).all()


def test_after_a_crash_before_publishing_the_very_same_bytes_are_published(training: Training) -> None:
    with training.start() as job:
        job.step()
        before = training.copy_log("before.db")
        job.step()
    published = contents(training)
    training.log_path = before
    assert steps(training) == [1]
    with training.resume() as job:
        assert job.recorder.step == 2
    assert contents(training) == published
    with training.resume() as job:
        job.step()
    assert steps(training) == [1, 2, 3]


def test_after_a_crash_before_the_start_was_published_the_very_same_start_is(training: Training) -> None:
    with training.open():
        empty = training.copy_log("empty.db")
    with training.start():
        pass
    published = contents(training)
    training.log_path = empty
    with training.resume() as job:
        assert contents(training) == published
        job.step()
    assert steps(training) == [1]


def test_after_a_crash_before_the_end_was_noted_the_run_counts_as_finished(training: Training) -> None:
    with training.start() as job:
        job.step()
        facts = (training.home.runs / "run" / "run.json").read_bytes()
        job.recorder.finish()
    (training.home.runs / "run" / "run.json").write_bytes(facts)
    with pytest.raises(UsageError, match="finished in the log"), training.resume():
        pass


def test_after_a_crash_before_the_end_was_published_it_can_be_finished(training: Training) -> None:
    with training.start() as job:
        job.step()
    with training.resume() as job:
        job.recorder.finish()
    assert isinstance(decode_unverified("steps", training.records("steps")[-1].value).event, RunFinished)


def test_a_finished_run_is_not_resumed(training: Training) -> None:
    with training.start() as job:
        job.step()
        job.recorder.finish()
    with pytest.raises(UsageError, match="'run' is finished; choose another"), training.resume():
        pass


def test_a_checkpoint_that_was_rolled_back_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
        old = training.checkpoint().read_bytes()
        job.step(2)
    training.checkpoint().write_bytes(old)
    reason = "log is at step 3, the checkpoint at step 1. The checkpoint was rolled back, or another copy"
    with pytest.raises(UsageError, match=reason), training.resume():
        pass
    assert steps(training) == [1, 2, 3]


def test_a_checkpoint_that_was_rolled_back_by_one_step_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
        old = training.checkpoint().read_bytes()
        job.step()
    training.checkpoint().write_bytes(old)
    with pytest.raises(UsageError, match="log is at step 2, the checkpoint at step 1"), training.resume():
        pass


def test_a_log_that_was_rolled_back_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
        old = training.copy_log("old.db")
        job.step(2)
    training.log_path = old
    reason = "log is at step 1, the checkpoint at step 3. It is another log, or it lost events"
    with pytest.raises(UsageError, match=reason), training.resume():
        pass
    assert steps(training) == [1]


def test_a_log_that_holds_another_continuation_is_not_forked(training: Training) -> None:
    """Two copies of a run, each on a log of its own: one step behind, but not the step that this copy followed."""
    with training.start() as job:
        job.step()
    other = Training(training.home, training.circuit, training.copy_log("other.db"))
    saved = training.checkpoint().read_bytes()
    with other.resume() as job:
        job.step()
    training.checkpoint().write_bytes(saved)
    with training.resume() as job:
        job.step(2)
    with (
        pytest.raises(UsageError, match="log is at step 2, the checkpoint at step 3"),
        other.resume(),
    ):
        pass
    assert steps(other) == [1, 2]


def test_a_copy_that_still_runs_is_fenced_off_by_the_newer_one(training: Training) -> None:
    with training.start() as older:
        older.step()
        with training.resume() as newer:
            newer.step()
            with pytest.raises(FencedError, match="newer producer"):
                older.step()
            newer.step()
    assert steps(training) == [1, 2, 3]


def test_a_recorder_that_failed_records_nothing_more_but_the_run_goes_on(training: Training) -> None:
    """Otherwise its next step would follow one that is not in the log."""
    with training.start() as older:
        older.step()
        with training.resume():
            pass
        with pytest.raises(FencedError):
            older.step()
        with pytest.raises(UsageError, match="step 2 was not published; continue the run with"):
            older.step()
        with pytest.raises(UsageError, match="step 2 was not published"):
            older.recorder.finish()
    with training.resume() as job:
        assert job.recorder.step == 2  # it was saved, so it is published now
        job.step()
    assert steps(training) == [1, 2, 3]


def test_an_altered_checkpoint_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
    sealed = training.checkpoint().read_bytes()
    for altered in (
        sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:],
        sealed[:-1] + bytes([sealed[-1] ^ 128]),
        sealed[:-1],
        sealed + b"\0",
        sealed[:20],
        b"",
    ):
        training.checkpoint().write_bytes(altered)
        with pytest.raises(SealingError), training.resume():
            pass


def test_another_runs_checkpoint_is_refused_even_under_the_same_data_key(training: Training) -> None:
    for name in ("run", "other"):
        with training.start(name) as job:
            job.step()
    own, other = (run_file(training.home, name).start for name in ("run", "other"))
    shutil.copy(training.checkpoint("other"), training.checkpoint("run"))
    RunFile(replace(own, data_key_id=other.data_key_id)).write(training.home.runs / "run")
    with pytest.raises(SealingError, match="does not open: another key, another place"), training.resume():
        pass


def test_a_run_whose_checkpoint_is_gone_says_so(training: Training) -> None:
    with training.start():
        pass
    training.checkpoint().unlink()
    with pytest.raises(UsageError, match=r"checkpoint\.sealed: No such file.*start a new one"), training.resume():
        pass


def test_a_run_whose_data_key_is_gone_says_so(training: Training) -> None:
    with training.start() as job:
        job.step()
    (key,) = training.home.data_keys.iterdir()
    key.unlink()
    with pytest.raises(UsageError, match=f"no data key {key.name[:16]} in .*operator"), training.resume():
        pass


def test_a_data_key_that_is_not_the_runs_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
    (key,) = training.home.data_keys.iterdir()
    key.write_bytes(bytes(32))
    with pytest.raises(UsageError, match="its content is not the key that its name says"), training.resume():
        pass


def test_a_loop_that_does_not_restore_the_committed_model_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
    with training.open() as log, pytest.raises(UsageError, match="not the one that was committed at step 1"):
        Recorder.resume(training.optimizer(), log, training.home, training.circuit, "run", lambda _: None)


def test_a_model_of_another_size_is_refused(training: Training) -> None:
    with training.start() as job:
        job.step()
    training.parameters = 1
    with pytest.raises(UsageError, match=r"has 2 shard\(s\), this model needs 1"), training.resume():
        pass


def test_a_run_that_was_never_started_is_not_resumed(training: Training) -> None:
    with pytest.raises(UsageError, match="no run 'run' in"), training.resume():
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"run_id": "00"}', "\0\0"])
def test_a_damaged_run_file_is_named(content: str, training: Training) -> None:
    with training.start():
        pass
    (training.home.runs / "run" / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run\.json: not as it was written"), training.resume():
        pass


def test_a_run_does_not_go_on_with_another_circuit(training: Training) -> None:
    """No prover would take its witnesses."""
    with training.start() as job:
        job.step()
    training.circuit = replace(training.circuit, id=bytes(32))
    with pytest.raises(UsageError, match="uses the circuit"), training.resume():
        pass


@pytest.mark.parametrize("field", ["epoch_steps", "max_rounding", "groups"])
@pytest.mark.parametrize("thorough", [False, True], ids=["the start alone", "and its id"])
def test_what_a_run_declared_cannot_be_edited(training: Training, field: str, thorough: bool) -> None:
    """Else its host could have an honest trainer sign a step that breaks the run's own declaration."""
    with training.start() as job:
        job.step()
    (group,) = (start := run_file(training.home, "run").start).groups
    groups = (replace(group, schedule=tuple(2 * v for v in group.schedule), max_lr=2 * group.max_lr),)
    edited = replace(start, **{field: {"epoch_steps": 1, "max_rounding": 0.5, "groups": groups}[field]})
    folder = training.home.runs / "run"
    if thorough:
        RunFile(edited).write(folder)
    else:
        content = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(content | {"start": encode(edited).hex()}))
    with pytest.raises((UsageError, SealingError), match=r"not as it was written|does not open"), training.resume():
        pass


def test_the_topics_other_writers_do_not_move_a_run(training: Training) -> None:
    """Events of other keys, of other runs, and no events at all stand between the run's own."""
    with training.start() as job:
        job.step()
        (step,) = [r for r in training.records("steps") if _is_step(r.value)]
        stranger = training.home.signing_key("TRAINER", "stranger")
        with training.open() as log, log.producer("stranger") as producer, producer.transaction() as transaction:
            transaction.send("steps", step.key, b"no event")
            transaction.send(
                "steps", step.key, seal("steps", RunFinished(job.recorder.run_id, b"\1" * 32, 1, bytes(32)), stranger)
            )
            transaction.send("steps", step.key, step.value)
    with training.start("other") as other:
        other.step(3)
    with training.resume() as job:
        assert job.recorder.step == 1
        job.step()


def _is_step(value: bytes) -> bool:
    return isinstance(decode_unverified("steps", value).event, StepCommitted)
