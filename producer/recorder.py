"""Records a training run: commits to every step, signs it, encrypts its witness, publishes both in one transaction.

A few lines around one's own loop::

    recorder = Recorder.start(optimizer, log, home, circuit, name="my-run", schedule=schedule)
    for step in range(1, steps + 1):
        optimizer.zero_grad(); loss(model, step).backward(); optimizer.step()
        recorder.record(lambda: training_state_bytes)
    recorder.finish()

``Recorder.resume`` continues a run after a crash, at the step where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np

from ledger.chain import begins_epoch
from producer.carrying import CommittedSums, block_sums
from producer.checkpoint import Checkpoint, Outgoing, load, save
from producer.declaration import OptimizerLike, Terms, run_started
from producer.position import Position, locate
from producer.run_files import RunFile, run_file, run_folder
from producer.shards import cut, shard_counts
from schemas.codec import encode
from schemas.events import (
    EvidenceClass,
    Role,
    RunFinished,
    StepCommitted,
    WitnessShard,
)
from schemas.keyring import introduction
from schemas.signing import decode_unverified, event_id, seal
from schemas.topics import TOPICS, witness_partition
from zk_autograd.errors import FormatError, UsageError, VerificationError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.home import Home
from zk_autograd.merkle import all_paths
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Committer, Ints
from zk_autograd.proofs.witness import (
    Salt,
    ShardWitness,
    completed,
    fresh_noise,
    fresh_salt,
    place,
    secret_columns,
)
from zk_autograd.rates import check_schedule, check_step
from zk_autograd.schedule import Schedule
from zk_autograd.tee import sealing
from zk_autograd.tee.keys import SigningKey, load_data_key, new_data_key


@dataclass(frozen=True)
class _State:
    """The committed state between two steps: root, one point and inclusion path per shard."""

    root: bytes
    points: list[bytes]
    paths: list[list[bytes]]
    salts: list[Salt]


class Recorder:
    """One run, from its start or from its checkpoint. Not for use by several threads.

    Attributes:
        run_id: the run's id, 32 bytes.
        step: steps recorded.
        seconds_committing: time spent on commitments, encryption and checkpoints.
    """

    run_id: bytes
    _data_key: bytes
    _head: bytes
    _schedules: Sequence[Schedule]
    _state: _State

    def __init__(
        self, optimizer: OptimizerLike, log: EventLog, home: Home, circuit: Circuit, name: str, key: SigningKey
    ) -> None:
        """Use :meth:`start` or :meth:`resume`."""
        if circuit.statement.name != optimizer.statement.name or optimizer.P != circuit.P:
            raise UsageError(
                f"circuit {circuit.id.hex()[:12]} proves {circuit.statement.name} with a table of {circuit.P}; "
                f"the optimizer is {optimizer.statement.name} with {optimizer.P}: "
                f"give the optimizer logrows={(circuit.P + 8).bit_length() - 1}"
            )
        self._optimizer, self._circuit, self._key = optimizer, circuit, key
        self._home, self._name, self._folder = home, name, run_folder(home, name)
        self._lay_out()
        self._producer = log.producer(f"zk-train-{name}")
        self._partitions = log.partitions("witness")
        self.seconds_committing = 0.0
        self.step = 0
        self._over = ""  # why no further step can be recorded here

    def _lay_out(self) -> None:
        """Notes by shard which of the optimizer's blocks it belongs to."""
        counts = shard_counts(self._optimizer.blocks, self._circuit.shard, bool(self._circuit.statement.carries))
        self._block_of = [i for i, n in enumerate(counts) for _ in range(n)]
        self._shards = len(self._block_of)

    @classmethod
    def start(
        cls, optimizer: OptimizerLike, log: EventLog, home: Home, circuit: Circuit, name: str,
        schedule: Schedule | Sequence[Schedule], training: Callable[[], bytes] = bytes, terms: Terms = Terms(),  # noqa: B008 - frozen
    ) -> Recorder:  # fmt: skip
        """Begins a run: publishes the trainer's key and RunStarted with the commitment to the initial state.

        Args:
            schedule: one for each parameter group, or the only group's.
            terms: what the run undertakes beside its arithmetic.
            training: bytes that a restart of the loop needs (model, data position), called once per checkpoint.
        Raises:
            UsageError: a run of this name exists in ``home``, or optimizer and circuit do not fit.
        """
        folder = run_folder(home, name)
        if (folder / "run.json").exists():
            raise UsageError(f"run {name!r} exists in {folder}: resume it, or choose another name")
        self = cls(optimizer, log, home, circuit, name, home.signing_key("TRAINER"))
        with self._closed_on_error():
            self._begin((schedule,) if isinstance(schedule, Schedule) else tuple(schedule), terms, training)
        return self

    def _begin(self, schedules: tuple[Schedule, ...], terms: Terms, training: Callable[[], bytes]) -> None:
        optimizer, circuit, home, key = self._optimizer, self._circuit, self._home, self._key
        data_key_id, self._data_key = new_data_key(home.data_keys)
        self._state = self._commit_state(optimizer.state_arrays(), [fresh_salt() for _ in range(self._shards)])
        started = run_started(
            self._name, key.key_id, optimizer, circuit, schedules, terms, self._state.root, data_key_id
        )
        self.run_id = self._head = event_id(encode(started))
        evidence = home.simulated_evidence("TRAINER", key)
        intro = introduction(Role.TRAINER, key, EvidenceClass.SIMULATED, evidence, time.time_ns() // 1_000_000)
        outbox = [
            # Under the run's key too: in one partition, the introduction is read before what it vouches for.
            Outgoing("steps", self.run_id, intro),
            Outgoing("steps", self.run_id, seal("steps", started, key)),
        ]
        self._save(outbox, training)
        self._schedules, self._max_rounding, self._epoch_steps = schedules, terms.max_rounding, terms.epoch_steps
        RunFile(started).write(self._folder)
        self._publish(outbox)

    @classmethod
    def resume(
        cls, optimizer: OptimizerLike, log: EventLog, home: Home, circuit: Circuit, name: str,
        restore: Callable[[bytes], None],
    ) -> Recorder:  # fmt: skip
        """Continues a run: restores the loop, checks it against the log, publishes what a crash held back.

        Args:
            restore: takes the bytes that ``training`` gave; must restore the optimizer's exact state.
        Raises:
            UsageError: the run cannot go on; says why.
        """
        known = run_file(home, name)
        start = known.start
        if known.finished:
            raise UsageError(f"run {name!r} is finished; choose another --run-name")
        if start.circuit_id != circuit.id:
            raise UsageError(
                f"run {name!r} uses the circuit {start.circuit_id.hex()[:12]}, got {circuit.id.hex()[:12]}: its proofs "
                "would be of no use"
            )
        self = cls(optimizer, log, home, circuit, name, home.signing_key("TRAINER"))
        self._schedules, self._max_rounding, self._epoch_steps = known.schedules, start.max_rounding, start.epoch_steps
        with self._closed_on_error():
            # The producer is open, so an older instance is fenced off: nobody else moves the log from here on.
            self._go_on(log, known.run_id, start.data_key_id, restore)
        return self

    def _go_on(self, log: EventLog, run_id: bytes, data_key_id: bytes, restore: Callable[[bytes], None]) -> None:
        self.run_id, name = run_id, self._name
        self._data_key = load_data_key(self._home.data_keys, data_key_id)
        saved = load(self._folder / "checkpoint.sealed", run_id, self._data_key)
        restore(saved.training)
        self._lay_out()  # calibrated formats come with the state
        if len(saved.salts) != self._shards:
            raise UsageError(
                f"run {name!r} has {len(saved.salts)} shard(s), this model needs {self._shards}: give the model it has"
            )
        self.step, self._head = saved.step, saved.head
        self._state = self._commit_state(self._optimizer.state_arrays(), saved.salts)
        if self._state.root != saved.state_root:
            raise UsageError(f"run {name!r}: the restored model is not the one that was committed at step {saved.step}")
        position = locate(log, run_id, self._key)
        if position.finished:
            raise UsageError(f"run {name!r} is finished in the log; choose another --run-name")
        if position == Position(saved.step, saved.head, False):
            return
        if position.head != _predecessor(saved):
            raise UsageError(
                f"run {name!r} cannot go on: the log is at step {position.step}, the checkpoint at step {saved.step}. "
                + (
                    "The checkpoint was rolled back, or another copy of the run went on"
                    if position.step >= saved.step
                    else "It is another log, or it lost events that were published"
                )
                + "; start a new run under another --run-name"
            )
        self._publish(saved.outbox)

    def record(self, training: Callable[[], bytes] = bytes) -> None:
        """Commits to the optimizer's last step and publishes it with its encrypted witness.

        After an error the run goes on with :meth:`resume` only: what was saved and what was published may differ by
        this step.

        Raises:
            UsageError: the optimizer's last step is not the run's next; the run is over here; the disk is full.
            FencedError: another instance of this run took over.
        """
        began = time.perf_counter()
        self._check_open()
        done, circuit = self._optimizer.last_step, self._circuit
        if done is None or done.step != self.step + 1:
            got = "none" if done is None else f"step {done.step}"
            raise UsageError(f"record: expected the optimizer to have taken step {self.step + 1}, its last is {got}")
        try:
            for schedule, lr in zip(self._schedules, done.rates, strict=True):
                schedule.check(done.step, lr)
        except VerificationError as error:
            raise UsageError(f"record: the optimizer's rate is not the declared one: {error}") from None
        self._check_resolved(done.step, bool(done.shifts))
        if done.rounding > self._max_rounding:
            raise UsageError(
                f"record: the rounding error of step {done.step} is {done.rounding:.3g}, the run declared at most "
                f"{self._max_rounding:.3g}; the gradients need a finer format (clip nearer to their size)"
            )
        if done.shifts and not begins_epoch(done.step, self._epoch_steps):
            raise UsageError(
                f"record: step {done.step} changes scales and does not begin an epoch (epochs of {self._epoch_steps} "
                "steps; 0: none): call optimizer.rescale() only where recorder.epoch_begins"
            )
        st, before = circuit.statement, self._state
        pre, g, post = (self._cut(part) for part in (done.pre, {"g": done.g}, done.post))
        hints = self._cut(done.hints) if st.hints else [{} for _ in post]
        after = self._commit_shards(post, [fresh_salt() for _ in post])
        carried = block_sums(st, self._block_of, pre, hints, post, circuit.P)
        witnesses, columns = [], []
        for i in range(self._shards):
            noise = fresh_noise(circuit.noise, circuit.P)
            w = ShardWitness(
                pre[i], g[i]["g"], noise, before.salts[i], after.salts[i], fresh_salt(), carried[i]
            )  # fmt: skip
            witnesses.append(w)
            taken = completed(st, w, post[i], hints[i], done.public[self._block_of[i]], circuit.P)
            columns.append(secret_columns(st, w, taken))
        work = [self._committer.commit(*c["work"]) for c in columns]
        work_root, work_paths = all_paths(work)
        sums = CommittedSums.of(self._committer, self._block_of, columns)
        public = [tuple(st.public_vector(block)) for block in done.public]
        event = StepCommitted(
            run_id=self.run_id, step=done.step, previous=self._head, rates=done.rates, shifts=done.shifts,
            public=tuple(chain.from_iterable(public)), state_root=after.root, work_root=work_root,
            saturated=done.saturated, underflow=done.underflow, limited=done.limited, rounding=done.rounding,
            carry_root=sums.root,
        )  # fmt: skip
        self._over = f"step {done.step} was not published; continue the run with Recorder.resume"
        self._head = event_id(encode(event))
        outbox = [Outgoing("steps", self.run_id, seal("steps", event, self._key))]
        for i, w in enumerate(witnesses):
            where = place(self.run_id, done.step, i, before.points[i], after.points[i], work[i], *sums.points[i])
            shard = WitnessShard(
                run_id=self.run_id, step=done.step, shard=i, circuit_id=circuit.id, public=public[self._block_of[i]],
                pre=before.points[i], post=after.points[i], work=work[i],
                pre_path=tuple(before.paths[i]), post_path=tuple(after.paths[i]), work_path=tuple(work_paths[i]),
                ciphertext=sealing.seal(self._data_key, where, w.to_bytes(st)), carry=sums.points[i],
                carry_in_path=sums.paths[i][0], carry_out_path=sums.paths[i][1],
            )  # fmt: skip
            partition = witness_partition(done.step, i, self._shards, self._partitions)
            key = self.run_id + i.to_bytes(4, "big")
            outbox.append(Outgoing("witness", key, seal("witness", shard, self._key), partition))
        self.step, self._state = done.step, after
        self._save(outbox, training)
        self.seconds_committing += time.perf_counter() - began
        self._publish(outbox)
        self._over = ""

    def _check_resolved(self, step: int, changed: bool) -> None:
        """UsageError if the formats do not resolve the declared rates, as every ledger would find."""
        st, P = self._circuit.statement, self._circuit.P
        for number, fmt in {(block.group, block.format) for block in self._optimizer.blocks}:
            try:
                if changed:
                    check_schedule(st, self._schedules[number], fmt, P)
                check_step(st, self._schedules[number], step, fmt, P)
            except FormatError as error:
                raise UsageError(f"record: step {step}, parameter group {number}: {error}") from None

    def finish(self) -> None:
        """Publishes RunFinished; the run takes no further step."""
        self._check_open()
        self._over = "its end was not published; continue the run with Recorder.resume"
        event = RunFinished(self.run_id, self._head, self.step, self._state.root)
        self._publish([Outgoing("steps", self.run_id, seal("steps", event, self._key))])
        replace(run_file(self._home, self._name), finished=True).write(self._folder)
        self._over = "the run is finished"

    @property
    def epoch_begins(self) -> bool:
        """Whether the next step is the first of an epoch, with which the optimizer may change its scales."""
        return begins_epoch(self.step + 1, self._epoch_steps)

    @property
    def shards(self) -> int:
        """Proofs per step."""
        return self._shards

    def close(self) -> None:
        """Releases the log's producer."""
        self._producer.close()

    @cached_property
    def _committer(self) -> Committer:
        return proof_system(self._circuit.system).committer(self._circuit)

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _commit_state(self, arrays: dict[str, Ints], salts: list[Salt]) -> _State:
        return self._commit_shards(self._cut(arrays), salts)

    def _cut(self, arrays: dict[str, Ints]) -> list[dict[str, Ints]]:
        return cut(arrays, self._optimizer.blocks, self._circuit.shard, bool(self._circuit.statement.carries))

    def _commit_shards(self, shards: list[dict[str, Ints]], salts: list[Salt]) -> _State:
        names = self._circuit.statement.state
        points = [
            self._committer.commit(np.concatenate([s[n] for n in names]), salt)
            for s, salt in zip(shards, salts, strict=True)
        ]
        root, paths = all_paths(points)
        return _State(root, points, paths, salts)

    def _check_open(self) -> None:
        if self._over:
            raise UsageError(f"run {self.run_id.hex()[:12]}: {self._over}")

    def _save(self, outbox: list[Outgoing], training: Callable[[], bytes]) -> None:
        state = self._state
        saved = Checkpoint(self.run_id, self.step, self._head, state.root, state.salts, outbox, training())
        save(self._folder / "checkpoint.sealed", saved, self._data_key)

    def _publish(self, outbox: list[Outgoing]) -> None:
        with self._producer.transaction() as transaction:
            for m in outbox:
                transaction.send(TOPICS[m.topic].name, m.key, m.value, m.partition)


def _predecessor(saved: Checkpoint) -> bytes | None:
    """Id of the event that the checkpoint's own follows; None where that is the run's start."""
    event = decode_unverified("steps", saved.outbox[0].value).event
    return event.previous if isinstance(event, StepCommitted) else None
