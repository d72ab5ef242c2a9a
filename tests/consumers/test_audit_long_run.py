"""A run of thousands of steps: one verdict, however its records are read, looked at, ordered, copied and flooded."""

from __future__ import annotations

import hashlib
import random
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from bench.long_run import ORIGIN, write
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit
from consumers.audit.proofs import Verdict
from consumers.audit.report import as_json
from consumers.audit.workers import Workers
from schemas.codec import encode
from schemas.events import ProofAttached, Signed, StepCommitted, StepProven
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.support.events import digest
from tests.support.forge import LogFile
from zk_autograd.eventlog.base import Record
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit, Commitments
from zk_autograd.statement import STATEMENTS

STEPS = 6000
MODES = ("all", "chained")
CIRCUIT = Circuit(
    digest("circuit"), "ezkl-23.0.5", STATEMENTS["adam"], 2**15 - 8, 100, 256, 5000, digest("srs"), "DEV",
    Path(), Path(),
)  # fmt: skip
JUNK = bytes(range(64))
"""No signature of anybody."""


def taken(circuit: Circuit, jobs: Sequence[tuple[bytes, tuple[int, ...]]]) -> list[Verdict]:
    return [Verdict(Commitments.first_in(proof, circuit.statement)) for proof, _ in jobs]


def audited(url: str, run_id: bytes, policy: Policy, mode: str = "all", processes: int = 1) -> Audit:
    with open_event_log(f"{url}?mode=ro", create=False) as log, Workers(processes) as workers:
        found = collect(log, run_id, policy, mode, workers)
        return audit(found, run_id, policy, lambda _: CIRCUIT, taken, [], ORIGIN, workers=workers)


def said(out: Audit) -> dict[str, Any]:
    return as_json(out, "") | {"signatures": None}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Policy]:
    path = tmp_path_factory.mktemp("long") / "log.db"
    return path, *write(f"sqlite:///{path}", CIRCUIT, STEPS, 256)


class Long:
    """A copy of a log, to be changed."""

    def __init__(self, path: Path, run_id: bytes, policy: Policy) -> None:
        self.log, self.run_id, self.policy = LogFile(path), run_id, policy
        self.url = f"sqlite:///{path}"

    def audit(self, mode: str = "all", processes: int = 1) -> Audit:
        return audited(self.url, self.run_id, self.policy, mode, processes)

    def both(self) -> Audit:
        """The audit, after a look whether both modes say the same."""
        out, other = (self.audit(mode) for mode in MODES)
        assert said(other) == said(out)
        return out

    def find(self, topic: str, kind: type[Any], step: int) -> Record:
        return next(
            r for r in self.log.records(topic)
            if isinstance(e := decode_unverified(topic, r.value).event, kind) and e.step == step
        )  # fmt: skip


@pytest.fixture
def copy(written: tuple[Path, bytes, Policy], tmp_path: Path) -> Long:
    path, run_id, policy = written
    (tmp_path / "log.db").write_bytes(path.read_bytes())
    return Long(tmp_path / "log.db", run_id, policy)


@pytest.fixture
def short(tmp_path: Path) -> Long:
    path = tmp_path / "short.db"
    return Long(path, *write(f"sqlite:///{path}", CIRCUIT, 60, 256))


def unsigned(record: Record, signature: bytes = JUNK, **changes: Any) -> bytes:
    """The record's event, changed, under the same key's id and with a signature that is none."""
    opened = decode_unverified(record.topic, record.value)
    return encode(Signed(encode(replace(opened.event, **changes)), opened.key_id, signature))


def doubted(out: Audit) -> str:
    """What the audit cannot call sound, nothing being wrong; without anchors check 9 never is."""
    assert out.exit_code == 2
    assert not out.violations
    return out.checks[1].detail


# One verdict


def test_modes_and_processes_agree(copy: Long) -> None:
    """Everything but the anchors, which this log has not got, is sound."""
    reports = [said(copy.audit(mode, processes)) for mode in MODES for processes in (1, 2, 3)]
    assert all(report == reports[0] for report in reports)
    assert reports[0]["steps_proven"] == STEPS
    assert [c["number"] for c in reports[0]["checks"] if c["status"] != "passed"] == [9, 10]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_false_signature_is_found_by_every_number_of_processes(copy: Long, mode: str, processes: int) -> None:
    """At the end of the chain nothing names the record, so its own signature counts in both modes."""
    (end,) = [
        r
        for r in copy.log.records("steps")
        if decode_unverified("steps", r.value).event.__class__.__name__ == "RunFinished"
    ]
    copy.log.replace(end, unsigned(end))
    out = copy.audit(mode, processes)
    assert out.exit_code == 1
    assert "expected a signature by" in out.checks[1].findings[0]


def test_the_verdict_does_not_depend_on_where_records_stand(short: Long) -> None:
    """Steps and proofs in any order and any partition, with copies of all of them: each event counts once."""
    before = said(short.both())
    rng = random.Random(7)
    for topic in ("steps", "proofs"):
        records = short.log.records(topic)
        short.log.clear(topic)
        again = [(r.value, rng.randrange(4)) for r in records for _ in range(2)]
        rng.shuffle(again)
        for value, partition in again:
            short.log.append(topic, value, partition=partition)
    after = said(short.both())
    for report in (before, after):
        del report["checks"][0]  # counts records and repetitions
    assert after == before


@pytest.mark.parametrize("mode", MODES)
def test_findings_come_in_one_order_wherever_records_stand(short: Long, mode: str) -> None:
    """A reader comes to the partitions in any order: what it finds is told by place."""
    for partition in (3, 1, 0, 2):
        short.log.append("proofs", b"garbage %d" % partition, partition=partition)
    places = [text.split(":")[0] for text in short.audit(mode).noise]
    assert places == sorted(places)
    assert [place.split("@")[0] for place in places] == [f"proofs/{i}" for i in range(4)]


# Noise under somebody's key id


def floods(long: Long) -> Iterator[tuple[str, Callable[[], Any]]]:
    step, proof = long.find("steps", StepCommitted, 30), long.find("proofs", ProofAttached, 30)
    entry, log = long.find("ledger", StepProven, 30), long.log
    head = decode_unverified("steps", long.find("steps", StepCommitted, 60).value).event_id
    yield "another step 30", lambda: log.append("steps", unsigned(step, saturated=7))
    yield "steps after the end", lambda: log.append(
        "steps", *(unsigned(step, step=61 + i, previous=head) for i in range(40)))  # fmt: skip
    yield "a step that names the last", lambda: log.append("steps", unsigned(step, step=61, previous=head))
    yield "another proof of a slot", lambda: log.append("proofs", unsigned(proof, proof=bytes(256)))
    yield "proofs of no step", lambda: log.append("proofs", *(unsigned(proof, step=100 + i) for i in range(40)))
    yield "entries at the end", lambda: log.append("ledger", *(unsigned(entry, step=61 + i) for i in range(40)))
    yield "an entry for a step that has one", lambda: log.append("ledger", unsigned(entry, proofs_digest=bytes(32)))


@pytest.mark.parametrize("number", range(7))
def test_noise_under_an_accepted_key_id_is_noise_in_both_modes(short: Long, number: int) -> None:
    """Whoever can write to a topic can name any key: that leaves a doubt, as it always does, and accuses nobody."""
    name, flood = list(floods(short))[number]
    flood()
    assert "no accepted signature" in doubted(short.both()), name


def test_noise_in_the_middle_of_the_ledger_does_not_move_its_leaves(short: Long) -> None:
    """A stranger's record between two entries: the root does not fit, so that each is held to its own signature."""
    records = short.log.records("ledger")
    short.log.clear("ledger")
    entry = records[30]
    junk = [unsigned(entry, step=1000 + i) for i in range(5)]
    values = [r.value for r in records]
    for value in (*values[:20], *junk, *values[20:]):
        short.log.append("ledger", value)
    assert "5 record(s) that have no accepted signature" in doubted(short.both())


def test_an_entry_that_the_ledger_did_not_sign_is_taken_in_no_mode(short: Long) -> None:
    """The host puts another entry in the place of one: no checkpoint covers it, and its own signature is none."""
    entry = short.find("ledger", StepProven, 30)
    short.log.replace(entry, unsigned(entry, proofs_digest=bytes(32)))
    out = short.both()
    assert out.exit_code == 1
    assert any(c.number == 8 for c in out.checks if c.status.value == "violated")


def test_a_step_that_the_trainer_did_not_sign_is_taken_in_no_mode(short: Long) -> None:
    """The host replaces a step: its successor names another id."""
    step = short.find("steps", StepCommitted, 30)
    short.log.replace(step, unsigned(step, saturated=7))
    out = short.both()
    assert out.exit_code == 1
    assert any("leaves a gap" in text for text in out.checks[3].findings)


def test_a_chain_of_steps_of_which_nobody_signed_the_last_is_taken_in_no_mode(short: Long) -> None:
    """Every step from 31 on is made anew, each naming the one before it: consistent, and by nobody."""
    records = {decode_unverified("steps", r.value).event.step: r for r in short.log.records("steps")
               if isinstance(decode_unverified("steps", r.value).event, StepCommitted)}  # fmt: skip
    head = decode_unverified("steps", records[30].value).event_id
    for step in range(31, 61):
        value = unsigned(records[step], previous=head, saturated=7)
        head = decode_unverified("steps", value).event_id
        short.log.replace(records[step], value)
    out = short.both()
    assert out.exit_code == 1
    assert len(out.chain.steps) == 30 if out.chain else False


def test_a_copy_with_a_bad_signature_that_comes_first_hides_no_proof(short: Long) -> None:
    """Two records of one event: the one whose signature holds counts, wherever the other stands."""
    proof, second = short.find("proofs", ProofAttached, 30), short.find("proofs", ProofAttached, 31)
    records = short.log.records("proofs")
    short.log.clear("proofs")
    short.log.append("proofs", unsigned(second, proof=bytes(256)), unsigned(proof))
    for record in records:
        short.log.append("proofs", record.value)
    assert short.audit("all").proven == short.audit("chained").proven == 60


# What chained does not look at


@pytest.mark.parametrize(
    ("topic", "kind"), [("steps", StepCommitted), ("proofs", ProofAttached), ("ledger", StepProven)]
)
def test_a_signature_that_a_signed_record_stands_in_for_is_not_looked_at(
    short: Long, topic: str, kind: type[Any]
) -> None:
    """The price of ``chained``, and no more than that: what the record says is what the signed one names."""
    record = short.find(topic, kind, 30)
    short.log.replace(record, unsigned(record))
    assert short.audit("all").exit_code == 1
    out = short.audit("chained")
    assert (out.violations, out.proven, out.noise) == (False, 60, [])


# Memory


def test_a_flood_of_small_noise_is_counted_and_not_kept(short: Long) -> None:
    short.log.append("proofs", *(hashlib.sha256(b"%d" % i).digest() for i in range(12_000)))
    out = short.both()
    assert len(out.noise) == 10_001
    assert out.noise[-1] == "and 2000 more"
    assert "12000 record(s) that do not decode" in out.checks[0].detail


def test_a_gap_accuses_every_later_step_and_keeps_some_of_that(copy: Long) -> None:
    """Each later step is looked up among all before it, without reading them all again."""
    copy.log.delete(copy.find("steps", StepCommitted, 100))
    out = copy.both()
    assert out.exit_code == 1
    assert len(out.checks[3].findings) + out.checks[3].more == STEPS - 100 + 1


def _peak(url: str, run_id: bytes, policy: Policy, mode: str) -> int:
    out = audited(url, run_id, policy, mode)
    assert out.chain is not None
    assert out.proven == len(out.chain.steps)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_memory_grows_by_no_more_than_a_few_numbers_a_step(tmp_path: Path) -> None:
    """Peaks of processes of their own, over runs of 9,000 and of 21,000 steps; the values alone are 1 kB a step.

    Kept as objects they took 6,900 bytes; ``make big-audit`` measures closer, over longer runs.
    """
    sizes, peaks = (9000, 21_000), []
    for steps in sizes:
        url = f"sqlite:///{tmp_path}/{steps}.db"
        log = url, *write(url, CIRCUIT, steps, 256)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peaks.append(pool.submit(_peak, *log, "all").result())
    assert (peaks[1] - peaks[0]) * 1024 < 400 * (sizes[1] - sizes[0])
