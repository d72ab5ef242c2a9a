"""The event log on a Kafka cluster. The URL's parameters are in :mod:`.kafka_config`.

Only committed records are read (``read_committed``); topics are never made by the way, and are made so that nothing
acknowledged is lost: replicated, kept for their time, no unclean election, the broker's clock on every record.
Brokers of Kafka 3.0 or later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec
from kafka import TopicPartition as KafkaPartition
from kafka.errors import (
    CoordinatorNotAvailableError,
    KafkaError,
    NoError,
    NotCoordinatorError,
    RetriableError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from zk_autograd.errors import EventLogError, UsageError
from zk_autograd.eventlog.base import (
    MAX_KEY_BYTES,
    MAX_RECORD_BYTES,
    EventLog,
    Group,
    Producer,
    Reader,
    TopicPartition,
    TopicSpec,
)
from zk_autograd.eventlog.kafka_client import bounded, explained, open_client
from zk_autograd.eventlog.kafka_config import KafkaConfig
from zk_autograd.eventlog.kafka_group import KafkaGroup
from zk_autograd.eventlog.kafka_producer import KafkaTransactions
from zk_autograd.eventlog.kafka_reader import KafkaReader
from zk_autograd.eventlog.topics import check_name, check_spec, no_such_topic

# A batch of one largest record: key, value, and what Kafka adds.
_MAX_BATCH_BYTES = MAX_RECORD_BYTES + MAX_KEY_BYTES + 1024


class KafkaLog(EventLog):
    """An event log on a cluster; topics, groups and transactional ids carry the URL's prefix there, not here."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._config = KafkaConfig.parse(url)
        self._admin = open_client(KafkaAdminClient, self._config)
        self._counts: dict[str, int] = {}

    def create_topics(self, topics: Iterable[TopicSpec]) -> None:
        specs = list(topics)
        for spec in specs:
            check_spec(spec)
        with explained("creating topics"):
            missing = [spec for spec in specs if self._count(spec.name) is None]
            if not missing:
                return
            brokers = self._ask(self._admin.describe_cluster)["brokers"]
            replicas = self._config.replication or min(3, len(brokers))
            wanted = {self._config.topic_prefix + spec.name: _settings(spec, replicas) for spec in missing}
            made = self._ask(lambda: self._admin.create_topics(wanted, raise_errors=False))
            for topic in made["topics"]:
                error = for_code(topic["error_code"])
                if error not in (NoError, TopicAlreadyExistsError):
                    raise EventLogError(
                        f"the cluster did not create the topic {topic['name']} with {replicas} replicas "
                        f"({len(brokers)} brokers): {error.__name__}: {topic['error_message']}"
                    )
            self._ask(lambda: self._admin.wait_for_topics(list(wanted)))

    def partitions(self, topic: str) -> int:
        if topic not in self._counts:
            check_name(topic, "topic name")
            with explained(f"looking for the topic {topic}"):
                count = self._count(topic)
            if count is None:
                raise no_such_topic(topic, f"the cluster at {','.join(self._config.servers)} (with the URL's prefix)")
            self._counts[topic] = count
        return self._counts[topic]

    def reader(self, topics: Sequence[str], start: Mapping[TopicPartition, int] | None = None) -> Reader:
        if not topics:
            raise UsageError("name at least one topic to read")
        partitions = [(topic, number) for topic in sorted(set(topics)) for number in range(self.partitions(topic))]
        for partition, offset in (start or {}).items():
            if partition not in partitions or offset < 0:
                raise UsageError(f"cannot start at offset {offset} of {partition}: the reader is of {sorted(topics)}")
        consumer = open_client(
            KafkaConsumer,
            self._config,
            isolation_level="read_committed",
            enable_auto_commit=False,
            # An offset that is not there is an error, never a silent start from the beginning.
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            return KafkaReader(consumer, self._config, partitions, start or {}, self._ends)
        except BaseException:
            with suppress(KafkaError):
                consumer.close(autocommit=False, timeout_ms=2000)
            raise

    def group(self, group_id: str, topics: Sequence[str]) -> Group:
        check_name(group_id, "group id")
        if not topics:
            raise UsageError("name at least one topic to read")
        for topic in topics:
            self.partitions(topic)
        return KafkaGroup(self._config, group_id, sorted(set(topics)))

    def producer(self, transactional_id: str) -> Producer:
        check_name(transactional_id, "transactional id")
        return KafkaTransactions(self._config, transactional_id, self.partitions, self._transaction_state)

    def close(self) -> None:
        with suppress(KafkaError):
            self._admin.close()

    def _count(self, topic: str) -> int | None:
        """The number of partitions of a topic, or None if there is no such topic."""
        name = self._config.topic_prefix + topic
        (found,) = self._ask(lambda: self._admin.describe_topics([name]))
        error = for_code(found["error_code"])
        if error is UnknownTopicOrPartitionError:
            return None
        if error is not NoError:
            raise error(name)
        return len(found["partitions"])

    def _transaction_state(self, name: str) -> str:
        """The coordinator's word on the transactional id's last transaction: ``ONGOING``, ``COMPLETE_COMMIT``, ..."""

        def ask() -> str:
            try:
                return str(self._admin.describe_transactions([name])[name].state.name)
            except (NotCoordinatorError, CoordinatorNotAvailableError):
                # The client remembers the first coordinator for ever: another client finds the new one.
                old, self._admin = self._admin, open_client(KafkaAdminClient, self._config)
                old.close()
                raise

        return str(self._ask(ask))

    def _ends(self, partitions: Sequence[KafkaPartition]) -> dict[KafkaPartition, int]:
        """Where each partition ends, records of transactions that are not finished yet included."""
        wanted = dict.fromkeys(partitions, OffsetSpec.LATEST)
        with explained("asking for the end of the log"):
            found = self._ask(
                lambda: self._admin.list_partition_offsets(wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            )
        return {partition: found[partition].offset for partition in partitions}

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The cluster's answer; asked again while brokers come and go, for as long as a request may take."""
        deadline = time.monotonic() + self._config.request_timeout
        while True:
            try:
                return bounded(question, self._config.request_timeout)
            except RetriableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _settings(spec: TopicSpec, replicas: int) -> dict[str, Any]:
    return {
        "num_partitions": spec.partitions,
        "replication_factor": replicas,
        "configs": {
            "cleanup.policy": "delete",
            "retention.ms": str(spec.retention_ms),
            "retention.bytes": "-1",
            "min.insync.replicas": str(max(1, replicas - 1)),
            "unclean.leader.election.enable": "false",
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(_MAX_BATCH_BYTES),
            # What is signed and encrypted does not shrink; and so nobody can store a small batch that unpacks to a
            # huge one in every reader.
            "compression.type": "uncompressed",
        },
    }
