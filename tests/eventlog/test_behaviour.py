"""What every event log does, whatever carries it: each test runs on SQLite and on Kafka."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.eventlog.conftest import Worker
from tests.eventlog.worker import RECORDS
from tests.support.broker import SESSION_TIMEOUT
from zk_autograd.errors import EventLogError, FencedError, UsageError
from zk_autograd.eventlog import (
    MAX_KEY_BYTES,
    MAX_RECORD_BYTES,
    EventLog,
    Group,
    PartitionLostError,
    Producer,
    Record,
    TopicSpec,
    Transaction,
    open_log,
)


class Interrupted(Exception):
    """Ends a transaction from inside."""


@contextmanager
def interrupted(producer: Producer) -> Iterator[Transaction]:
    """A transaction that an exception ends after the caller's last statement."""
    with suppress(Interrupted), producer.transaction() as transaction:
        yield transaction
        raise Interrupted


def commit(producer: Producer, topic: str, value: bytes, group: Group | None = None, *records: Record) -> None:
    with producer.transaction() as transaction:
        transaction.send(topic, b"", value)
        if group:
            transaction.consumed(group, records)


def write(log: EventLog, topic: str, *values: bytes, partition: int | None = None) -> None:
    with log.producer(f"writer-of-{topic}") as producer, producer.transaction() as transaction:
        for value in values:
            transaction.send(topic, b"", value, partition)


def read(log: EventLog, *topics: str) -> list[bytes]:
    with log.reader(topics) as reader:
        return [record.value for record in reader.read_to_end()]


def collect(group: Group, count: int, seconds: float = 20.0) -> list[Record]:
    """What the group returns until there are ``count`` records."""
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += group.poll(0.5, max_records=count - len(records))
    return records


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# Reading and writing


def test_a_partition_is_read_in_the_order_it_was_written(log: EventLog) -> None:
    values = [b"%d" % number for number in range(200)]
    write(log, "one", *values[:120])
    write(log, "one", *values[120:])
    with log.reader(["one"]) as reader:
        records = list(reader.read_to_end())
    assert [record.value for record in records] == values
    offsets = [record.offset for record in records]
    assert offsets == sorted(set(offsets))


def test_a_record_carries_its_place_key_value_and_the_time_it_was_appended(log: EventLog) -> None:
    before = time.time() * 1000
    with log.producer("p") as producer, producer.transaction() as transaction:
        transaction.send("many", b"key", b"value", partition=3)
        transaction.send("many", b"", b"", partition=2)
    with log.reader(["many"]) as reader:
        empty, record = sorted(reader.read_to_end(), key=lambda record: record.partition)
    assert (record.topic, record.partition, record.offset) == ("many", 3, 0)
    assert (record.key, record.value, empty.key, empty.value) == (b"key", b"value", b"", b"")
    assert before - 2000 <= record.timestamp_ms <= time.time() * 1000 + 2000


def test_equal_keys_go_to_one_partition_and_different_keys_are_spread(log: EventLog) -> None:
    with log.producer("p") as producer:
        for _ in range(2):
            with producer.transaction() as transaction:
                for number in range(40):
                    transaction.send("many", b"key %d" % number, b"")
    places = defaultdict(set)
    with log.reader(["many"]) as reader:
        for record in reader.read_to_end():
            places[record.key].add(record.partition)
    assert len(places) == 40
    assert all(len(partitions) == 1 for partitions in places.values())
    assert set.union(*places.values()) == {0, 1, 2, 3}


def test_the_largest_record_goes_through(log: EventLog) -> None:
    with log.producer("p") as producer, producer.transaction() as transaction:
        transaction.send("one", b"k" * MAX_KEY_BYTES, b"v" * MAX_RECORD_BYTES)
    assert read(log, "one") == [b"v" * MAX_RECORD_BYTES]


def test_a_record_that_is_too_large_is_refused_and_the_transaction_goes_on(log: EventLog) -> None:
    with log.producer("p") as producer:
        with producer.transaction() as transaction:
            with pytest.raises(UsageError, match="at most 900000 bytes"):
                transaction.send("one", b"", b"v" * (MAX_RECORD_BYTES + 1))
            with pytest.raises(UsageError, match="at most 1024 bytes"):
                transaction.send("one", b"k" * (MAX_KEY_BYTES + 1), b"")
            transaction.send("one", b"", b"small")
        with producer.transaction() as transaction:
            transaction.send("one", b"", b"next")
    assert read(log, "one") == [b"small", b"next"]


def test_poll_returns_nothing_after_its_timeout(log: EventLog) -> None:
    with log.reader(["one"]) as reader:
        reader.poll(0)
        start = time.monotonic()
        assert reader.poll(0.4) == []
        assert 0.3 <= time.monotonic() - start < 3


def test_poll_returns_no_more_than_was_asked_for_and_the_rest_later(log: EventLog) -> None:
    write(log, "one", *(b"%d" % number for number in range(25)))
    got: list[bytes] = []
    with log.reader(["one"]) as reader:
        while len(got) < 25:
            batch = reader.poll(20, max_records=10)
            assert 0 < len(batch) <= 10
            got += [record.value for record in batch]
    assert got == [b"%d" % number for number in range(25)]


def test_a_reader_sees_what_is_written_while_it_waits(log: EventLog, worker: Worker) -> None:
    with log.reader(["one"]) as reader:
        assert reader.poll(0.1) == []
        worker("write", "w", "1")
        assert [record.value for record in reader.poll(20)][:1] == [b"w 0 0"]


def test_read_to_end_stops_at_what_was_committed_when_it_was_called(log: EventLog) -> None:
    write(log, "one", b"1", b"2")
    with log.reader(["one"]) as reader:
        first = reader.read_to_end()
        write(log, "one", b"3")
        assert [record.value for record in first] == [b"1", b"2"]
        assert [record.value for record in reader.read_to_end()] == [b"3"]
        assert list(reader.read_to_end()) == []


def test_read_to_end_misses_no_transaction_whose_commit_has_returned(log: EventLog) -> None:
    with log.producer("p") as producer, log.reader(["one", "many"]) as reader:
        for number in range(20):
            with producer.transaction() as transaction:
                transaction.send("one", b"", b"%d" % number)
                transaction.send("many", b"%d" % number, b"%d" % number)
            assert [record.value for record in reader.read_to_end()] == [b"%d" % number] * 2


def test_what_read_to_end_did_not_yield_comes_from_the_next_poll(log: EventLog) -> None:
    write(log, "one", b"1", b"2", b"3", b"4")
    with log.reader(["one"]) as reader:
        for record in reader.read_to_end():
            if record.value == b"2":
                break
        assert [record.value for record in reader.poll(5)] == [b"3", b"4"]


def test_a_reader_resumes_at_the_offset_it_is_given(log: EventLog) -> None:
    write(log, "one", b"1", b"2", b"3")
    write(log, "other", b"x")
    with log.reader(["one"]) as reader:
        second = list(reader.read_to_end())[1]
    with log.reader(["one", "other"], {("one", 0): second.offset + 1}) as reader:
        assert sorted(record.value for record in reader.read_to_end()) == [b"3", b"x"]


def test_a_reader_refuses_to_start_after_the_end(log: EventLog) -> None:
    """A monitor that remembers an offset must notice when the log behind it was replaced by a shorter one."""
    write(log, "one", b"1")
    with pytest.raises(EventLogError, match="rolled back"):
        log.reader(["one"], {("one", 0): 1000})


def test_a_start_that_is_not_of_the_readers_topics_is_refused(log: EventLog) -> None:
    for start in ({("other", 0): 0}, {("one", 7): 0}, {("one", 0): -1}):
        with pytest.raises(UsageError, match="cannot start"):
            log.reader(["one"], start)


# Topics


def test_creating_topics_again_leaves_them_as_they_are(log: EventLog, log_url: str) -> None:
    write(log, "many", b"kept")
    log.create_topics([TopicSpec("many", 9), TopicSpec("new", 2)])
    with open_log(log_url) as again:
        assert (again.partitions("many"), again.partitions("new")) == (4, 2)
        assert read(again, "many") == [b"kept"]


def test_a_topic_that_is_not_there_is_named_and_not_made(log: EventLog, log_url: str) -> None:
    with log.producer("p") as producer, producer.transaction() as transaction:
        for attempt in (
            lambda: log.partitions("absent"),
            lambda: log.reader(["absent"]),
            lambda: log.group("g", ["absent"]),
            lambda: transaction.send("absent", b"", b""),
        ):
            with pytest.raises(UsageError, match="no topic 'absent'"):
                attempt()
    with open_log(log_url) as again, pytest.raises(UsageError, match="no topic 'absent'"):
        again.partitions("absent")


def test_a_name_that_kafka_would_not_take_is_refused_everywhere(log: EventLog) -> None:
    for name in ("", "..", "a/b", "a b", "ä", "x" * 201):
        for attempt in (
            lambda name: log.create_topics([TopicSpec(name, 1)]),
            log.partitions,
            lambda name: log.group(name, ["one"]),
            log.producer,
        ):
            with pytest.raises(UsageError, match="1 to 200 letters"):
                attempt(name)


def test_a_topic_that_cannot_be_is_refused(log: EventLog) -> None:
    for spec in (TopicSpec("t", 0), TopicSpec("t", 10_001), TopicSpec("t", 1, retention_ms=-2)):
        with pytest.raises(UsageError, match="topic t"):
            log.create_topics([spec])


# Transactions


def test_a_transaction_appears_whole_over_topics_when_it_commits_and_not_before(log: EventLog) -> None:
    with log.producer("p") as producer, log.reader(["one", "other"]) as reader:
        with producer.transaction() as transaction:
            transaction.send("one", b"", b"a")
            transaction.send("other", b"", b"b")
            assert list(reader.read_to_end()) == []
        assert sorted(record.value for record in reader.read_to_end()) == [b"a", b"b"]


def test_an_exception_inside_a_transaction_leaves_nothing_and_the_producer_works_on(log: EventLog) -> None:
    with log.producer("p") as producer:
        with interrupted(producer) as transaction:
            transaction.send("one", b"", b"dropped")
        with producer.transaction() as transaction:
            transaction.send("one", b"", b"kept")
    assert read(log, "one") == [b"kept"]


def test_an_older_producer_with_the_same_id_is_fenced_off_for_good(log: EventLog) -> None:
    with log.producer("same") as old:
        with old.transaction() as transaction:
            transaction.send("one", b"", b"old")
        with log.producer("same") as new:
            for _ in range(2):
                with pytest.raises(FencedError) as caught, old.transaction() as transaction:
                    transaction.send("one", b"", b"stale")
                assert not isinstance(caught.value, PartitionLostError)
                with new.transaction() as transaction:
                    transaction.send("one", b"", b"new")
    assert read(log, "one") == [b"old", b"new", b"new"]


def test_a_producer_is_fenced_in_the_middle_of_its_transaction(log: EventLog) -> None:
    def overtaken(producer: Producer) -> None:
        with producer.transaction() as transaction:
            transaction.send("one", b"", b"stale")
            log.producer("same").close()

    with log.producer("same") as old, pytest.raises(FencedError):
        overtaken(old)
    assert read(log, "one") == []


def test_producers_with_different_ids_leave_each_other_alone(log: EventLog) -> None:
    with log.producer("a") as a, log.producer("b") as b, a.transaction() as first, b.transaction() as second:
        first.send("one", b"", b"a")
        second.send("one", b"", b"b")
    assert sorted(read(log, "one")) == [b"a", b"b"]


def test_a_transaction_is_used_only_while_it_is_open(log: EventLog) -> None:
    producer = log.producer("p")
    with producer.transaction() as transaction:
        with pytest.raises(UsageError, match="do not nest"), producer.transaction():
            pass
        with pytest.raises(UsageError, match="partitions 0 to 3"):
            transaction.send("many", b"", b"", partition=4)
        with pytest.raises(UsageError, match="are bytes"):
            transaction.send("many", b"", "text")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has ended"):
        transaction.send("one", b"", b"late")
    producer.close()
    producer.close()
    with pytest.raises(UsageError, match="is closed"), producer.transaction():
        pass


def test_two_processes_write_at_once_and_nothing_is_lost_or_mixed_up(log: EventLog, worker: Worker) -> None:
    writers = [worker("write", name, "12") for name in ("a", "b")]
    for writer in writers:
        assert writer.wait(60) == 0
    for topic in ("one", "other"):
        values = [value.split() for value in read(log, topic)]
        for name in (b"a", b"b"):
            mine = [(int(number), int(index)) for writer, number, index in values if writer == name]
            assert mine == [(number, index) for number in range(12) for index in range(RECORDS)]


def test_a_process_killed_in_the_middle_leaves_only_whole_transactions(log: EventLog, worker: Worker) -> None:
    acknowledged = 0
    for delay in (0.05, 0.11, 0.17):
        writer = worker("write", "killed", "0")
        wait_for(writer, "0")
        time.sleep(delay)
        writer.kill()
        assert writer.stdout is not None
        acknowledged += 1 + len(writer.stdout.read().splitlines())
    log.producer("killed").close()  # settles what the last one left open
    one, other = read(log, "one"), read(log, "other")
    assert len(one) % RECORDS == 0
    assert len(one) >= acknowledged * RECORDS
    assert one == other
    assert [int(value.split()[2]) for value in one] == list(range(RECORDS)) * (len(one) // RECORDS)


# Groups


def test_a_group_goes_on_where_its_last_commit_was_and_groups_are_independent(log: EventLog) -> None:
    write(log, "one", b"1", b"2", b"3")
    with log.producer("p") as producer, log.group("g", ["one"]) as group:
        records = collect(group, 3)
        with producer.transaction() as transaction:
            transaction.consumed(group, records[:2])
    with log.group("g", ["one"]) as group:
        assert [record.value for record in collect(group, 1)] == [b"3"]
    with log.group("h", ["one"]) as group:
        assert [record.value for record in collect(group, 3)] == [b"1", b"2", b"3"]


def test_offsets_and_records_are_committed_together(log: EventLog) -> None:
    write(log, "one", b"1", b"2")
    with log.producer("p") as producer:
        with log.group("g", ["one"]) as group, interrupted(producer) as transaction:
            transaction.send("other", b"", b"from 1")
            transaction.consumed(group, collect(group, 1))
        with log.group("g", ["one"]) as group, producer.transaction() as transaction:
            (record,) = collect(group, 1)
            transaction.send("other", b"", b"from " + record.value)
            transaction.consumed(group, [record])
        with log.group("g", ["one"]) as group:
            assert [record.value for record in collect(group, 1)] == [b"2"]
    assert read(log, "other") == [b"from 1"]


def test_after_an_abort_rewind_returns_the_records_again(log: EventLog) -> None:
    write(log, "one", b"1", b"2", b"3")
    with log.producer("p") as producer, log.group("g", ["one"]) as group:
        with producer.transaction() as transaction:
            transaction.consumed(group, collect(group, 1))
        with interrupted(producer) as transaction:
            transaction.consumed(group, collect(group, 2))
        group.rewind()
        records = collect(group, 2)
        assert [record.value for record in records] == [b"2", b"3"]
        with producer.transaction() as transaction:
            transaction.consumed(group, records)
        group.rewind()
        assert group.poll(0.5) == []


def test_of_paused_partitions_nothing_is_returned_until_they_are_not_paused(log: EventLog) -> None:
    """Their records come later, in order, from where they were; the others' go on meanwhile."""
    for number in range(4):
        write(log, "many", b"a%d" % number, b"b%d" % number, partition=number)
    with log.producer("p") as producer, log.group("g", ["many"]) as group:
        seen = collect(group, 1)
        held = (seen[0].topic, seen[0].partition)
        deadline = time.monotonic() + 20
        while len(seen) < 7 and time.monotonic() < deadline:
            seen += group.poll(0.5, max_records=1, paused=[held])
        assert len(seen) == 7
        assert [(r.topic, r.partition) for r in seen].count(held) == 1
        assert group.poll(0.3, max_records=10, paused=[held]) == []
        commit(producer, "one", b"", group, *seen)
        (last,) = collect(group, 1)
        assert (last.topic, last.partition) == held
        assert last.value == b"b%d" % held[1]
        # Paused for one poll only; what is not assigned may be named, too.
        write(log, "many", b"c", partition=held[1])
        assert group.poll(0.3, paused=[held, ("many", 99), ("one", 0)]) == []
        assert [r.value for r in collect(group, 1)] == [b"c"]


def test_records_that_the_group_did_not_return_cannot_be_committed(log: EventLog) -> None:
    write(log, "one", b"1", b"2")
    with log.reader(["one"]) as reader:
        foreign = list(reader.read_to_end())
    with log.producer("p") as producer, log.group("g", ["one"]) as group:
        with producer.transaction() as transaction:
            with pytest.raises(UsageError, match="has not returned one/0 offset"):
                transaction.consumed(group, foreign)
            transaction.consumed(group, collect(group, 1))
        with producer.transaction() as transaction, pytest.raises(UsageError, match="committed already"):
            transaction.consumed(group, foreign[:1])


def test_members_share_the_partitions_and_each_record_comes_to_one_of_them(log: EventLog) -> None:
    with log.group("g", ["many"]) as first, log.group("g", ["many"]) as second:
        deadline = time.monotonic() + 20
        got: dict[str, set[int]] = {"first": set(), "second": set()}
        values: list[bytes] = []
        with log.producer("p") as producer, log.producer("q") as writer:
            number = 0
            while not (got["first"] and got["second"]) or number < 8:
                assert time.monotonic() < deadline
                with writer.transaction() as transaction:
                    for partition in range(4):
                        transaction.send("many", b"", b"%d %d" % (number, partition), partition)
                number += 1
                for name, group in (("first", first), ("second", second)):
                    if records := group.poll(0.2, max_records=100):
                        with producer.transaction() as transaction:
                            transaction.consumed(group, records)
                        values += [record.value for record in records]
                        if number > 4:
                            got[name] |= {record.partition for record in records}
            for group in (first, second):
                while records := group.poll(0.7, max_records=100):
                    with producer.transaction() as transaction:
                        transaction.consumed(group, records)
                    values += [record.value for record in records]
    assert sorted(values) == sorted(b"%d %d" % (n, partition) for n in range(number) for partition in range(4))
    with log.group("g", ["many"]) as group:
        assert group.poll(1) == []


def test_a_member_that_leaves_hands_over_at_once(log: EventLog) -> None:
    write(log, "many", b"0", partition=0)
    write(log, "many", b"3", partition=3)
    first = log.group("g", ["many"])
    assert collect(first, 1)
    second = log.group("g", ["many"])
    second.poll(0)
    first.close()
    first.close()
    start = time.monotonic()
    assert sorted(record.value for record in collect(second, 2)) == [b"0", b"3"]
    assert time.monotonic() - start < 2.5  # less than any session timeout
    second.close()


def test_work_between_two_polls_is_not_lost_when_another_member_joins(log: EventLog) -> None:
    write(log, "one", b"1", b"2")
    with log.producer("p") as producer, log.group("g", ["one"]) as first, log.group("g", ["one"]) as second:
        records = collect(first, 1)
        assert second.poll(1) == []
        commit(producer, "other", b"done", first, *records)
        first.close()
        assert [record.value for record in collect(second, 1)] == [b"2"]
    assert read(log, "other") == [b"done"]


def test_keepalive_keeps_a_working_member_and_all_its_partitions(log: EventLog, log_url: str) -> None:
    for partition in range(4):
        write(log, "many", b"%d" % partition, partition=partition)
    with log.producer("p") as producer, log.group("g", ["many"]) as working:
        records = collect(working, 4)
        with log.group("g", ["many"]) as other:
            until = time.monotonic() + 1.4 * (1.0 if log_url.startswith("sqlite") else SESSION_TIMEOUT)
            while time.monotonic() < until:
                working.keepalive()
                assert other.poll(0.2) == []
            with producer.transaction() as transaction:
                transaction.consumed(working, records)
            working.close()


def test_a_dead_members_records_go_to_a_living_one(log: EventLog, worker: Worker) -> None:
    write(log, "one", b"1")
    holder = worker("hold", "one")
    wait_for(holder, "holds 1")
    with log.group("group", ["one"]) as living:
        assert living.poll(0.5) == []
        holder.kill()
        assert [record.value for record in collect(living, 1)] == [b"1"]


def test_a_member_that_was_frozen_cannot_commit_what_another_has_taken_over(log: EventLog, worker: Worker) -> None:
    """The zombie: stopped past its session timeout, it wakes up and believes that it still owns the record."""
    write(log, "one", b"1")
    holder = worker("hold", "one")
    wait_for(holder, "holds 1")
    holder.send_signal(signal.SIGSTOP)
    with log.group("group", ["one"]) as living, log.producer("p") as producer:
        records = collect(living, 1)
        commit(producer, "other", b"written by the living", living, *records)
        holder.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # for the client's own thread to learn that it was expelled
        tell(holder)
        wait_for(holder, "PartitionLostError")
        wait_for(holder, "rewound")
        tell(holder)
    assert read(log, "other") == [b"written by the living"]


def test_a_member_that_polls_on_while_its_partition_moves_cannot_commit_what_it_held(log: EventLog) -> None:
    for partition in range(4):
        write(log, "many", b"%d" % partition, partition=partition)
    with log.producer("p") as producer, log.group("g", ["many"]) as first:
        records = collect(first, 4)
        assert len(records) == 4
        with log.group("g", ["many"]) as second:
            taken: list[Record] = []
            deadline = time.monotonic() + 20
            while not taken and time.monotonic() < deadline:
                taken = second.poll(0.3, max_records=10)
                first.poll(0.3, max_records=10)
            assert taken
            with pytest.raises(PartitionLostError, match="rewind"):
                commit(producer, "other", b"refused", first, *records)
            with producer.transaction() as transaction:
                transaction.consumed(second, taken)
            # The same producer goes on, and nothing of the refused transaction comes with it.
            first.rewind()
            rest = collect(first, 4 - len(taken))
            assert sorted(record.value for record in taken + rest) == [b"0", b"1", b"2", b"3"]
            commit(producer, "other", b"accepted", first, *rest)
    assert read(log, "other") == [b"accepted"]
    with log.group("g", ["many"]) as group:
        assert group.poll(1) == []


def test_each_record_is_processed_once_though_processes_are_killed(log: EventLog, worker: Worker) -> None:
    values = [b"%03d" % number for number in range(60)]
    with log.producer("p") as producer, producer.transaction() as transaction:
        for number, value in enumerate(values):
            transaction.send("many", b"", value, number % 4)
    first, second = worker("copy", "first"), worker("copy", "second")
    assert first.stdout is not None
    for _ in range(5):
        assert first.stdout.readline()
    first.kill()
    worker("copy", "third")
    time.sleep(1)
    second.kill()
    deadline = time.monotonic() + 40
    while len(copied := read(log, "one")) < len(values) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert sorted(copied) == values
