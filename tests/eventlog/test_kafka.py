"""What is particular to Kafka: holes in the offsets, the client's traps, topics, and brokers that go away."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import MessageSizeTooLargeError

from tests.support.broker import SESSION_TIMEOUT, free_ports, missing_tools, running_broker, unique_prefix
from zk_autograd.errors import EventLogError, UsageError
from zk_autograd.eventlog import EventLog, Group, PartitionLostError, Producer, Reader, Record, TopicSpec, open_log
from zk_autograd.eventlog.kafka_group import KafkaGroup

pytestmark = pytest.mark.kafka


@pytest.fixture
def prefix() -> str:
    return unique_prefix("kafka")


@pytest.fixture
def url(kafka_broker: str, prefix: str) -> str:
    return f"kafka://{kafka_broker}?topic_prefix={prefix}&session_timeout={SESSION_TIMEOUT}&request_timeout=5"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    with open_log(url) as log:
        log.create_topics([TopicSpec("t", 1), TopicSpec("out", 1)])
        yield log


@pytest.fixture
def raw(kafka_broker: str, prefix: str) -> Iterator[Any]:
    """A transactional producer of the client library's own, to do what ours does not."""
    producer = KafkaProducer(bootstrap_servers=kafka_broker, transactional_id=f"{prefix}raw", retry_backoff_ms=20)
    producer.init_transactions()
    yield producer
    producer.close(timeout=2)


def send(raw: Any, prefix: str, value: bytes) -> None:
    raw.send(f"{prefix}t", key=b"", value=value)
    raw.flush()


def write(log: EventLog, *values: bytes) -> None:
    with log.producer("writer") as producer, producer.transaction() as transaction:
        for value in values:
            transaction.send("t", b"", value)


# Holes


def test_aborted_records_are_never_seen_and_reading_to_the_end_ends(log: EventLog, raw: Any, prefix: str) -> None:
    write(log, b"1")
    for end in (raw.abort_transaction, raw.commit_transaction, raw.abort_transaction):
        raw.begin_transaction()
        send(raw, prefix, b"committed" if end == raw.commit_transaction else b"aborted")
        end()
    with log.reader(["t"]) as reader:
        records = list(reader.read_to_end())
        assert [record.value for record in records] == [b"1", b"committed"]
        assert records[1].offset > records[0].offset + 2
        assert list(reader.read_to_end()) == []
    with log.reader(["t"], {("t", 0): records[0].offset + 1}) as reader:
        assert [record.value for record in reader.poll(5)] == [b"committed"]


def test_records_of_an_open_transaction_are_waited_for_and_not_seen_before(
    log: EventLog, raw: Any, prefix: str
) -> None:
    raw.begin_transaction()
    send(raw, prefix, b"open")
    write(log, b"behind it")
    with log.reader(["t"]) as reader:
        assert reader.poll(0.5) == []
        timer = threading.Timer(1, raw.commit_transaction)
        timer.daemon = True
        timer.start()
        assert [record.value for record in reader.read_to_end()] == [b"open", b"behind it"]
        timer.join()


def test_a_group_skips_holes_and_goes_on_behind_them(log: EventLog, raw: Any, prefix: str) -> None:
    with log.producer("p") as producer:
        for value in (b"1", b"2"):
            write(log, value)
            raw.begin_transaction()
            send(raw, prefix, b"aborted")
            raw.abort_transaction()
            with log.group("g", ["t"]) as group:
                (record,) = group.poll(20)
                assert record.value == value
                with producer.transaction() as transaction:
                    transaction.consumed(group, [record])


# The client's traps


def test_refused_offsets_do_not_come_along_with_the_next_transaction(log: EventLog) -> None:
    """kafka-python 3.0.12 keeps the offsets of a refused commit and sends them with the one after."""
    log.create_topics([TopicSpec("two", 2)])
    with log.producer("p") as producer, log.group("g", ["two"]) as group:
        with producer.transaction() as transaction:
            for partition in (0, 1):
                transaction.send("two", b"", b"%d" % partition, partition)
        refused, accepted = group.poll(20) + group.poll(20)
        assert isinstance(group, KafkaGroup)
        genuine: Any = group._membership
        group._membership = genuine._replace(generation_id=genuine.generation_id + 7)
        with pytest.raises(PartitionLostError, match="two/"), producer.transaction() as transaction:
            transaction.consumed(group, [refused])
        group._membership = genuine
        with producer.transaction() as transaction:
            transaction.consumed(group, [accepted])
    with log.group("g", ["two"]) as group:
        assert group.poll(20, max_records=10) == [refused]


def test_the_groups_new_generation_does_not_let_a_moved_partitions_records_pass(log: EventLog) -> None:
    """The broker checks who commits, not whose the partition is: a member of the new generation could commit any."""
    log.create_topics([TopicSpec("two", 2)])

    def write_to_both(producer: Producer) -> None:
        with producer.transaction() as transaction:
            for partition in (0, 1):
                transaction.send("two", b"", b"", partition)

    def poll_until(wanted: Group, other: Group) -> list[Record]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if records := wanted.poll(0.3):
                return records
            other.poll(0.3)
        return []

    with log.producer("p") as producer, log.group("g", ["two"]) as first, log.group("g", ["two"]) as second:
        write_to_both(producer)
        before = first.poll(20) + first.poll(20)
        assert len(before) == 2
        assert poll_until(second, first)
        write_to_both(producer)
        assert poll_until(first, second)
        with pytest.raises(PartitionLostError), producer.transaction() as transaction:
            transaction.consumed(first, before)


def test_a_commit_returns_only_when_it_is_carried_out_on_every_partition(
    log: EventLog, kafka_broker: str, prefix: str
) -> None:
    """Until then a crash of all replicas can still lose it, and readers might not see it."""
    partitions = [KafkaPartition(f"{prefix}t", 0), KafkaPartition(f"{prefix}out", 0)]
    stable = KafkaConsumer(bootstrap_servers=kafka_broker, isolation_level="read_committed")
    latest = KafkaConsumer(bootstrap_servers=kafka_broker)
    try:
        with log.producer("p") as producer:
            for number in range(30):
                with producer.transaction() as transaction:
                    for topic in ("t", "out"):
                        transaction.send(topic, b"", b"%d" % number)
                assert stable.end_offsets(partitions) == latest.end_offsets(partitions)
    finally:
        stable.close()
        latest.close()


def test_a_large_transaction_is_sent_in_bounded_parts_and_arrives_in_order(log: EventLog) -> None:
    values = [b"%d " % number + b"x" * 400_000 for number in range(60)]
    write(log, *values)
    with log.reader(["t"]) as reader:
        assert [record.value[:3].split()[0] for record in reader.read_to_end()] == [b"%d" % n for n in range(60)]


def test_groups_and_producers_of_another_log_are_refused(log: EventLog, kafka_broker: str, tmp_path: Path) -> None:
    write(log, b"1")
    with (
        open_log(f"kafka://{kafka_broker}?topic_prefix={unique_prefix('else')}") as other,
        open_log(f"sqlite:///{tmp_path}/log.db") as file,
    ):
        file.create_topics([TopicSpec("t", 1)])
        other.create_topics([TopicSpec("t", 1)])
        with log.group("g", ["t"]) as group:
            records = group.poll(20)
            for place in (other, file):
                with (
                    place.producer("p") as producer,
                    producer.transaction() as transaction,
                    pytest.raises(UsageError, match="groups of its own event log"),
                ):
                    transaction.consumed(group, records)


def test_logs_with_different_prefixes_share_nothing(log: EventLog, kafka_broker: str) -> None:
    with open_log(f"kafka://{kafka_broker}?topic_prefix={unique_prefix('else')}") as other:
        with pytest.raises(UsageError, match="no topic 't'"):
            other.reader(["t"])
        other.create_topics([TopicSpec("t", 1)])
        with log.producer("same") as producer, other.producer("same"), producer.transaction() as transaction:
            transaction.send("t", b"", b"1")
        with other.reader(["t"]) as reader:
            assert list(reader.read_to_end()) == []


# Topics


def test_topics_are_made_so_that_nothing_acknowledged_is_lost(log: EventLog, kafka_broker: str, prefix: str) -> None:
    log.create_topics([TopicSpec("hours", 2, retention_ms=7_200_000)])
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker)
    try:
        resources = [ConfigResource(ConfigResourceType.TOPIC, prefix + name) for name in ("t", "hours")]
        found = admin.describe_configs(resources)
        brokers = len(admin.describe_cluster()["brokers"])
        (topic,) = admin.describe_topics([f"{prefix}t"])
    finally:
        admin.close()
    settings = {
        name: {key: entry["value"] for key, entry in found["topic"][prefix + name].items()} for name in ("t", "hours")
    }
    expected = {
        "cleanup.policy": "delete",
        "compression.type": "uncompressed",
        "max.message.bytes": "902048",
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(max(1, min(3, brokers) - 1)),
        "retention.bytes": "-1",
        "retention.ms": "-1",
        "unclean.leader.election.enable": "false",
    }
    assert {name: settings["t"][name] for name in expected} == expected
    assert settings["hours"]["retention.ms"] == "7200000"
    assert len(topic["partitions"][0]["replica_nodes"]) == min(3, brokers)


def test_more_replicas_than_brokers_are_refused_by_name(url: str) -> None:
    with open_log(f"{url}&replication=99") as log, pytest.raises(EventLogError, match="with 99 replicas"):
        log.create_topics([TopicSpec("t", 1)])


def test_asking_for_an_unknown_topic_does_not_make_it(log: EventLog, kafka_broker: str, prefix: str) -> None:
    with pytest.raises(UsageError):
        log.reader(["absent"])
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker)
    try:
        assert f"{prefix}absent" not in admin.list_topics()
        assert f"{prefix}t" in admin.list_topics()
    finally:
        admin.close()


def test_the_broker_takes_no_batch_that_unpacks_to_more_than_a_record(
    log: EventLog, kafka_broker: str, prefix: str
) -> None:
    """Any client may write to a topic: 50 MB of zeros are 50 kB on the wire."""

    def send_zeros(count: int) -> None:
        other = KafkaProducer(bootstrap_servers=kafka_broker, compression_type="gzip", max_request_size=10**8)
        try:
            other.send(f"{prefix}t", value=bytes(count)).get(20)
        finally:
            other.close(timeout=2)

    with pytest.raises(MessageSizeTooLargeError):
        send_zeros(50_000_000)
    send_zeros(800_000)
    with log.reader(["t"]) as reader:
        assert [len(record.value) for record in reader.read_to_end()] == [800_000]


def test_a_record_without_key_or_value_reads_as_empty(log: EventLog, kafka_broker: str, prefix: str) -> None:
    other = KafkaProducer(bootstrap_servers=kafka_broker)
    other.send(f"{prefix}t", key=b"tombstone").get(20)
    other.send(f"{prefix}t", value=b"keyless").get(20)
    other.close(timeout=2)
    with log.reader(["t"]) as reader:
        assert [(record.key, record.value) for record in reader.read_to_end()] == [
            (b"tombstone", b""),
            (b"", b"keyless"),
        ]


# Brokers that go away


def silence_broken(reader: Reader) -> str:
    """What a reader says after a while when its cluster has gone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            assert reader.poll(1) == []
        except EventLogError as error:
            return str(error)
    return "nothing"


def test_nothing_but_the_error_is_printed_when_the_broker_is_not_there() -> None:
    code = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from zk_autograd.errors import EventLogError
from zk_autograd.eventlog import open_log
try:
    open_log(sys.argv[1])
except EventLogError as error:
    print(error)
"""
    (port,) = free_ports(1)
    parameters = "connect_timeout=1&security_protocol=SASL_PLAINTEXT&sasl_mechanism=PLAIN&sasl_plain_username=alice"
    done = subprocess.run(
        [sys.executable, "-c", code, f"kafka://127.0.0.1:{port}?{parameters}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "ZK_KAFKA_SASL_PASSWORD": "hunter2",
        },
    )
    assert f"cannot use the Kafka cluster at 127.0.0.1:{port}" in done.stdout
    assert done.stderr == ""
    assert "hunter2" not in done.stdout


def test_a_cluster_that_dies_is_told_as_such_and_nothing_is_lost_when_it_comes_back(tmp_path: Path) -> None:
    if reason := missing_tools():
        pytest.skip(reason)
    directory, (port,) = tmp_path / "broker", free_ports(1)
    url = f"kafka://127.0.0.1:{port}?request_timeout=2&connect_timeout=2"
    # A killed broker comes back only after its own old session has run out.
    extra = "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n"
    with running_broker(directory, extra, port):
        log = open_log(url)
        log.create_topics([TopicSpec("t", 1), TopicSpec("out", 1)])
        write(log, b"before")
        reader = log.reader(["t"])
        assert [record.value for record in reader.poll(20)] == [b"before"]
        producer = log.producer("p")
        with producer.transaction() as transaction:
            transaction.send("out", b"", b"warm")
        pid = int((directory / "pid").read_text())
        os.kill(pid, 9)
        start = time.monotonic()
        with pytest.raises(EventLogError, match="open a new producer"), producer.transaction() as transaction:
            transaction.send("out", b"", b"lost")
        assert time.monotonic() - start < 30
        with pytest.raises(EventLogError, match="open a new producer"), producer.transaction() as transaction:
            transaction.send("out", b"", b"not even tried")
        assert "no answer from the cluster" in silence_broken(reader)
        with pytest.raises(EventLogError, match="nothing listens there"):
            open_log(url)
    with running_broker(directory, extra, port):
        write(log, b"after")
        deadline = time.monotonic() + 30
        while True:  # the reader that lived through it goes on where it was
            try:
                if records := reader.poll(1):
                    break
            except EventLogError:
                assert time.monotonic() < deadline
        assert [record.value for record in records] == [b"after"]
        with log.reader(["out"]) as out:
            assert [record.value for record in out.read_to_end()] == [b"warm"]
        for part in (reader, producer, log):
            part.close()
