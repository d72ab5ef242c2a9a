"""Reading the topics for one run: what is kept, what is left alone, and a log that grows while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from anchor import open_anchor
from consumers.audit.anchor_checks import held_by
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit
from schemas.events import RunStarted
from schemas.wire import open_event_log
from tests.support.forge import Case, explain
from tests.support.pipeline import ORIGIN
from zk_autograd.eventlog.base import (
    MAX_RECORD_BYTES,
    EventLog,
    Group,
    Producer,
    Reader,
    Record,
    TopicPartition,
    TopicSpec,
)

WRITTEN = ("steps", "proofs", "ledger", "checkpoints", "anchors", "dead-letters")


@dataclass
class Growing(EventLog):
    """A log to which ``then`` adds something when it is read for the ``when``-th time."""

    inner: EventLog
    when: int
    then: Callable[[], None]
    reads: int = field(default=0, init=False)

    def read(self) -> None:
        if self.reads == self.when:
            self.then()
        self.reads += 1

    def reader(self, topics: Sequence[str], start: Mapping[TopicPartition, int] | None = None) -> Reader:
        return _GrowingReader(self, self.inner.reader(topics, start))

    def create_topics(self, topics: Iterable[TopicSpec]) -> None:
        raise AssertionError("an audit makes nothing")

    def partitions(self, topic: str) -> int:
        return self.inner.partitions(topic)

    def group(self, group_id: str, topics: Sequence[str]) -> Group:
        raise AssertionError("an audit joins no group")

    def producer(self, transactional_id: str) -> Producer:
        raise AssertionError("an audit writes nothing")

    def close(self) -> None:
        self.inner.close()


class _GrowingReader(Reader):
    def __init__(self, log: Growing, inner: Reader) -> None:
        self._log, self._inner = log, inner

    def poll(self, timeout: float, max_records: int = 500) -> list[Record]:
        raise AssertionError("an audit reads to the end, and no further")

    def read_to_end(self) -> Iterator[Record]:
        self._log.read()
        return self._inner.read_to_end()

    def close(self) -> None:
        self._inner.close()


def collected(case: Case, run_id: bytes | None = None) -> object:
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        return collect(log, run_id or case.run_id, case.policy)


def growing_audit(case: Case, when: int, then: Callable[[], None]) -> tuple[Audit, int]:
    policy, live = case.policy, [open_anchor(case.anchor_uri)]
    held = held_by(live)
    with open_event_log(case.log.url) as inner:
        log = Growing(inner, when, then)
        found = collect(log, case.run_id, policy)
    out = audit(found, case.run_id, policy, case.circuits, case._verify, live, ORIGIN, held)
    return out, log.reads


def cut_back(case: Case) -> Callable[[], None]:
    """The log as it was after the first anchoring; what comes later is added by the function that is returned."""
    rest: list[Record] = []
    for topic, keep in (("ledger", 2), ("checkpoints", 1), ("anchors", 1)):
        rest += case.log.records(topic)[keep:]
    proofs = case.proofs()
    later = [r for r, o in case.log.opened("steps") if getattr(o.event, "step", 0) > 1 or hasattr(o.event, "steps")]
    rest = later + [proofs[slot] for slot in sorted(proofs) if slot[0] > 1] + rest
    content = case.anchor_path.read_bytes()
    case.log.delete(*rest)
    case.anchor_path.write_bytes(content[:-208])

    def go_on() -> None:
        for record in rest:
            case.log.append(record.topic, record.value, partition=record.partition)
        case.anchor_path.write_bytes(content)

    return go_on


@pytest.mark.parametrize("when", range(10))
def test_a_log_that_grows_while_it_is_read_is_never_called_violated(case: Case, when: int) -> None:
    """Two steps, their proofs, entries, checkpoint, receipt and the anchor itself, all between two reads."""
    found, reads = growing_audit(case, when, cut_back(case))
    assert found.exit_code in (0, 2), explain(found)
    assert reads <= 10


def test_every_moment_of_reading_is_tried_above(case: Case) -> None:
    _, reads = growing_audit(case, 99, lambda: None)
    assert reads <= 10


def test_before_and_after_the_growth_the_run_is_sound(case: Case) -> None:
    go_on = cut_back(case)
    assert case.audit().exit_code == 0
    go_on()
    assert case.audit().exit_code == 0


@pytest.mark.parametrize("when", range(10))
def test_a_log_that_is_cut_while_it_is_read_is_not_called_sound_with_its_old_anchor(case: Case, when: int) -> None:
    """The host takes everything back to the first anchoring, between two reads, but for the anchor."""
    content = case.anchor_path.read_bytes()

    def cut() -> None:
        cut_back(case)
        case.anchor_path.write_bytes(content)

    found, reads = growing_audit(case, when, cut)
    if when < reads:
        assert found.exit_code != 0 or found.size == 5, explain(found)
    assert growing_audit(case, 99, lambda: None)[0].exit_code == (1 if when < reads else 0)


def test_everything_about_the_run_is_collected(case: Case) -> None:
    found = collected(case)
    assert (len(found.chain), len(found.proofs), len(found.ledger)) == (4, 6, 5)
    assert (len(found.checkpoints), len(found.anchored), found.noise) == (2, 2, [])
    assert found.start is not None
    assert found.runs == {case.run_id: "run"}
    assert len(found.used_keys) == 4
    assert found.records == sum(len(case.log.records(topic)) for topic in WRITTEN)


def test_another_run_is_named_and_otherwise_left_alone(case: Case) -> None:
    story = case.story()
    story.edit(RunStarted, name="another")
    told, ids = story.linked()
    case.log.append("steps", *(case.insider.seal("steps", e) for e in told))
    proofs = [replace(p, run_id=ids[0]) for p in story.proofs.values()]
    case.log.append("proofs", *(case.insider.seal("proofs", p) for p in proofs))
    found, other = collected(case), collected(case, ids[0])
    assert found.runs == other.runs == {case.run_id: "run", ids[0]: "another"}
    assert (len(found.chain), len(found.proofs)) == (len(other.chain), len(other.proofs)) == (4, 6)
    assert found.chain != other.chain


def test_of_large_garbage_no_more_is_kept_than_where_it_is(case: Case) -> None:
    """A hostile peer fills the disk, if anything, but not the auditor's memory."""
    import tracemalloc

    for topic in ("steps", "proofs", "ledger", "dead-letters"):
        case.log.append(topic, *(bytes([i]) * MAX_RECORD_BYTES for i in range(40)))
    tracemalloc.start()
    found = collected(case)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.noise) == 120
    # One fetch of the log's reader holds 32 MiB; together the garbage is 144 MB.
    assert peak < 80_000_000


def test_a_finding_says_where_the_record_is(case: Case) -> None:
    (record,) = case.log.append("proofs", b"garbage", partition=3)
    (finding,) = collected(case).noise
    assert finding.check == 0
    assert finding.text.startswith(f"proofs/3@{record.offset}: ")
