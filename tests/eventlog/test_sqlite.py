"""What is particular to the event log in a file: its sharing, its limits, and hostile files."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zk_autograd.errors import EventLogError, UsageError
from zk_autograd.eventlog import EventLog, PartitionLostError, TopicSpec, open_log
from zk_autograd.eventlog.sqlite_group import spread
from zk_autograd.eventlog.sqlite_store import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def make(path: Path, *values: bytes) -> None:
    with open_log(f"sqlite:///{path}") as log:
        log.create_topics([TopicSpec("t", 1)])
        with log.producer("p") as producer, producer.transaction() as transaction:
            for value in values:
                transaction.send("t", b"", value)


def read(log: EventLog) -> list[bytes]:
    with log.reader(["t"]) as reader:
        return [record.value for record in reader.read_to_end()]


def listing(path: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in path.parent.iterdir()}


# Reading only


def test_reading_only_leaves_the_file_and_its_directory_as_they_are(path: Path) -> None:
    make(path, b"1", b"2")
    before = listing(path)
    with open_log(f"sqlite:///{path}?mode=ro") as log:
        assert read(log) == [b"1", b"2"]
        assert listing(path) == before
    assert listing(path) == before


def test_reading_only_makes_no_file(path: Path) -> None:
    with pytest.raises(EventLogError, match="there is no event log"):
        open_log(f"sqlite:///{path}?mode=ro")
    assert listing(path) == {}


def test_reading_only_refuses_everything_that_writes(path: Path) -> None:
    make(path)
    with open_log(f"sqlite:///{path}?mode=ro") as log:
        for attempt in (
            lambda: log.producer("p"),
            lambda: log.group("g", ["t"]),
            lambda: log.create_topics([TopicSpec("new", 1)]),
        ):
            with pytest.raises(UsageError, match="mode=ro"):
                attempt()


def test_a_reader_of_a_resting_log_follows_when_someone_begins_to_write(path: Path) -> None:
    make(path, b"1")
    with open_log(f"sqlite:///{path}?mode=ro") as log, log.reader(["t"]) as reader:
        assert [record.value for record in reader.poll(1)] == [b"1"]
        for value in (b"2", b"3"):  # twice: the writer goes away in between and its journal with it
            make(path, value)
            assert [record.value for record in reader.poll(5)] == [value]


def test_a_read_only_log_is_read_while_it_is_written(path: Path) -> None:
    with open_log(f"sqlite:///{path}") as writing:
        writing.create_topics([TopicSpec("t", 1)])
        with writing.producer("p") as producer, open_log(f"sqlite:///{path}?mode=ro") as log:
            for value in (b"1", b"2"):
                with producer.transaction() as transaction:
                    transaction.send("t", b"", value)
                assert read(log)[-1] == value


# Sharing


def test_a_writer_waits_for_another_processes_transaction(path: Path) -> None:
    make(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.5, other.execute, ["COMMIT"])
    timer.start()
    start = time.monotonic()
    make(path, b"1")
    assert time.monotonic() - start > 0.3
    timer.join()
    other.close()


def test_processes_that_create_the_file_at_once_agree(path: Path) -> None:
    code = "import sys; from zk_autograd.eventlog import *; open_log(sys.argv[1]).create_topics([TopicSpec('t', 1)])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, f"sqlite:///{path}"]
    processes = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4


def test_a_silent_member_loses_its_partition(path: Path) -> None:
    make(path, b"1")
    with (
        open_log(f"sqlite:///{path}?session_timeout=0.3") as log,
        log.producer("q") as producer,
        log.group("g", ["t"]) as silent,
        log.group("g", ["t"]) as other,
    ):
        records = silent.poll(1)
        time.sleep(0.5)
        taken = other.poll(2)
        assert taken == records
        with pytest.raises(PartitionLostError, match="t/0"), producer.transaction() as transaction:
            transaction.consumed(silent, records)
        with producer.transaction() as transaction:
            transaction.consumed(other, taken)


def test_a_partition_that_was_away_unnoticed_does_not_bring_its_old_records_back(path: Path) -> None:
    make(path, b"1")
    with (
        open_log(f"sqlite:///{path}?session_timeout=0.3") as log,
        log.producer("q") as producer,
        log.group("g", ["t"]) as silent,
    ):
        records = silent.poll(1)
        time.sleep(0.5)
        with log.group("g", ["t"]) as other, producer.transaction() as transaction:
            transaction.consumed(other, other.poll(2))
        assert silent.poll(0.2) == []
        with pytest.raises(PartitionLostError, match="t/0"), producer.transaction() as transaction:
            transaction.consumed(silent, records)


def test_what_is_read_together_is_of_one_moment(path: Path) -> None:
    """So that a poll over two topics never returns half a transaction."""
    make(path, b"1")
    database = Database(path, read_only=False)

    def count_around_a_commit(connection: sqlite3.Connection) -> list[int]:
        counts = [connection.execute("SELECT count(*) FROM records").fetchone()[0]]
        make(path, b"2")
        return [*counts, connection.execute("SELECT count(*) FROM records").fetchone()[0]]

    assert database.read(count_around_a_commit) == [1, 1]
    assert database.read(lambda connection: connection.execute("SELECT count(*) FROM records").fetchone()) == (2,)
    database.close()


def test_a_clock_that_is_set_back_does_not_keep_the_dead_alive(path: Path) -> None:
    make(path, b"1")
    with open_log(f"sqlite:///{path}?session_timeout=0.5") as log:
        dead = log.group("g", ["t"])
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("UPDATE members SET seen_ms = seen_ms + 3600000")
        connection.close()
        with log.group("g", ["t"]) as living:
            assert [record.value for record in living.poll(2)] == [b"1"]
        dead.close()


@given(
    count=st.integers(0, 20),
    members=st.integers(1, 6),
    owners=st.lists(st.one_of(st.none(), st.integers(0, 7)), min_size=20, max_size=20),
)
def test_partitions_are_spread_evenly(count: int, members: int, owners: list[int | None]) -> None:
    partitions = [("t", number) for number in range(count)]
    names = {f"m{number}": {"t"} for number in range(members)}
    owned = {p: f"m{owner}" for p, owner in zip(partitions, owners, strict=False) if owner is not None}
    chosen = spread(partitions, names, owned)
    loads = [list(chosen.values()).count(name) for name in names]
    assert set(chosen) == set(partitions)
    assert max(loads) - min(loads) <= 1
    # Who comes and goes moves no more than must be moved.
    assert spread(partitions, names, chosen) == chosen


def test_a_new_member_takes_its_share_and_the_others_keep_the_rest() -> None:
    partitions = [("t", number) for number in range(6)]
    owned = {p: f"m{p[1] // 2}" for p in partitions}
    chosen = spread(partitions, {f"m{number}": {"t"} for number in range(4)}, owned)
    assert list(chosen.values()).count("m3") == 1
    assert sum(chosen[p] != owned[p] for p in partitions) == 1


def test_a_member_gets_no_partition_of_a_topic_that_it_does_not_subscribe_to() -> None:
    chosen = spread([("a", 0), ("a", 1), ("b", 0), ("c", 0)], {"x": {"a"}, "y": {"b"}}, {("b", 0): "x"})
    assert chosen == {("a", 0): "x", ("a", 1): "x", ("b", 0): "y"}


# Retention


def test_records_past_their_time_are_deleted_and_offsets_are_not_used_again(path: Path) -> None:
    with open_log(f"sqlite:///{path}") as log:
        log.create_topics([TopicSpec("t", 1, retention_ms=50), TopicSpec("kept", 1)])
        with log.producer("p") as producer, producer.transaction() as transaction:
            transaction.send("t", b"", b"old")
            transaction.send("kept", b"", b"kept")
        time.sleep(0.1)
        with log.producer("p") as producer, producer.transaction() as transaction:
            transaction.send("t", b"", b"new")
        with log.reader(["t"]) as reader:
            assert [(record.offset, record.value) for record in reader.read_to_end()] == [(1, b"new")]
        with log.reader(["kept"]) as reader:
            assert [record.value for record in reader.read_to_end()] == [b"kept"]


def test_read_to_end_ends_though_the_last_records_were_deleted(path: Path) -> None:
    make(path, b"1", b"2", b"3")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM records WHERE offset > 0")
    connection.close()
    with open_log(f"sqlite:///{path}") as log:
        assert read(log) == [b"1"]


# A disk that takes no more

FILL = """
import sys
from zk_autograd.errors import EventLogError
from zk_autograd.eventlog import TopicSpec, open_log

log = open_log(sys.argv[1])
producer = log.producer("p")
for number in range(1000):
    try:
        with producer.transaction() as transaction:
            for index in range(4):
                transaction.send("t", b"", b"%d %d " % (number, index) + b"x" * 50_000)
    except EventLogError as error:
        print(error)
        break
    print(number, flush=True)
"""


def fill(path: Path, limit: Callable[[], None] | None = None) -> str:
    """Writes until the disk takes no more; checks that what was acknowledged is there, and nothing else.

    The error's message.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", FILL, f"sqlite:///{path}"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr
    *acknowledged, message = done.stdout.splitlines()
    assert "nothing written before is lost" in message
    with open_log(f"sqlite:///{path}?mode=ro") as log:
        numbers = [int(value.split()[0]) for value in read(log)]
    assert len(acknowledged) > 3
    assert numbers == [number for number in range(len(acknowledged)) for _ in range(4)]
    return message


def test_a_file_at_its_size_limit_loses_nothing_and_goes_on_when_there_is_room(path: Path) -> None:
    make(path)
    message = fill(path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000)))
    assert "make room, then repeat" in message
    make(path, b"later")
    with open_log(f"sqlite:///{path}") as log:
        assert read(log)[-1] == b"later"


def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root's rights")
    try:
        make(disk / "log.db")
        message = fill(disk / "log.db")
        assert "the disk is full" in message
    finally:
        subprocess.run(["umount", disk], check=True)


# Files that are not what they should be


def test_a_directory_and_a_file_in_no_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        open_log(f"sqlite:///{tmp_path}")
    with pytest.raises(UsageError, match="does not exist: create it"):
        open_log(f"sqlite:///{tmp_path}/absent/log.db")


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, mode: str) -> None:
    content = b"these are notes, not a log " * 100
    path.write_bytes(content)
    with pytest.raises(EventLogError, match="it is not an SQLite file"):
        open_log(f"sqlite:///{path}?mode={mode}")
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_another_programs_database_is_refused_and_left_alone(path: Path, mode: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(EventLogError, match="not an event log of this program"):
        open_log(f"sqlite:///{path}?mode={mode}")
    assert path.read_bytes() == content


def tampered(path: Path, *statements: str) -> None:
    make(path, b"1", b"2")
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_log_of_another_layout_is_refused(path: Path, mode: str) -> None:
    tampered(path, "PRAGMA user_version = 2")
    with pytest.raises(EventLogError, match="layout 2; this program knows 1"):
        open_log(f"sqlite:///{path}?mode={mode}")


def test_a_view_in_place_of_a_table_is_refused(path: Path) -> None:
    """A query that never ends, dressed as the records."""
    endless = "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c) SELECT 't', 0, n, x'', x'', 0 FROM c"
    tampered(
        path,
        "DROP TABLE records",
        f"CREATE VIEW records(topic, partition, offset, key, value, timestamp_ms) AS {endless}",
    )
    with pytest.raises(EventLogError, match="tables that this program did not make"):
        open_log(f"sqlite:///{path}?mode=ro")


def test_a_trigger_is_refused(path: Path) -> None:
    tampered(path, "CREATE TRIGGER quiet AFTER INSERT ON records BEGIN DELETE FROM records; END")
    with pytest.raises(EventLogError, match="tables that this program did not make"):
        open_log(f"sqlite:///{path}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET value = 'text' WHERE offset = 1",
        "UPDATE records SET key = zeroblob(1025) WHERE offset = 1",
        "UPDATE records SET value = zeroblob(900001) WHERE offset = 1",
        "UPDATE records SET value = zeroblob(100000000) WHERE offset = 1",
        "UPDATE records SET timestamp_ms = 'now' WHERE offset = 1",
        "UPDATE heads SET next_offset = 'many'",
        "DELETE FROM heads",
        "UPDATE topics SET partitions = 1000000000",
        "UPDATE topics SET partitions = -1",
    ],
)
def test_rows_that_this_program_would_not_write_are_refused(path: Path, statement: str) -> None:
    tampered(path, statement)
    with open_log(f"sqlite:///{path}?mode=ro") as log, pytest.raises(EventLogError, match="tampered"):
        read(log)


def test_a_damaged_file_is_told_as_such(path: Path) -> None:
    make(path, *(b"%d" % number * 500 for number in range(2000)))
    size = path.stat().st_size
    with path.open("r+b") as file:
        for place in range(8192, size, 4096):
            file.seek(place)
            file.write(os.urandom(4096))
    with pytest.raises(EventLogError, match=r"damaged|tampered"), open_log(f"sqlite:///{path}?mode=ro") as log:
        read(log)


def test_a_truncated_file_is_told_as_such(path: Path) -> None:
    make(path, *(b"%d" % number * 500 for number in range(2000)))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(EventLogError, match=r"damaged|tampered"), open_log(f"sqlite:///{path}?mode=ro") as log:
        read(log)
