"""Members of a consumer group on a Kafka cluster.

The client gives signs of life from a thread of its own, and lets the group share its partitions out anew only inside
poll: what a member works on between two polls stays its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as KafkaPartition
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import KafkaError

from zk_autograd.eventlog.base import Group, Record, TopicPartition
from zk_autograd.eventlog.kafka_client import Lifeline, explained, open_client
from zk_autograd.eventlog.kafka_config import KafkaConfig
from zk_autograd.eventlog.kafka_reader import as_record
from zk_autograd.eventlog.progress import Progress

# The longest work between two polls; the others of the group wait for it when the membership changes meanwhile.
_MAX_WORK_SECONDS = 900


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """Told by the client, on its thread, when partitions go away."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress = progress
        self._prefix = prefix

    def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        self._progress.revoked([(p.topic.removeprefix(self._prefix), p.partition) for p in revoked])

    def on_partitions_assigned(self, assigned: Collection[KafkaPartition]) -> None:
        """Nothing to note: the client starts them at the committed offsets."""


class KafkaGroup(Group):
    """One member of a group."""

    def __init__(self, config: KafkaConfig, group_id: str, topics: Sequence[str]) -> None:
        self.group_id = group_id
        self.progress = Progress(group_id)
        self.cluster = (config.servers, config.topic_prefix)
        self._prefix = config.topic_prefix
        self._timeout_ms = int(config.request_timeout * 1000)
        # Who this member was when it got its records. Without it the broker would take offsets from anybody.
        self._membership: ConsumerGroupMetadata | None = None
        self._consumer = open_client(
            KafkaConsumer,
            config,
            group_id=config.topic_prefix + group_id,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            metrics_enabled=False,
            session_timeout_ms=int(config.session_timeout * 1000),
            heartbeat_interval_ms=int(config.session_timeout * 1000 / 5),
            max_poll_interval_ms=_MAX_WORK_SECONDS * 1000,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
        )
        asked = KafkaPartition(config.topic_prefix + topics[0], 0)
        self._lifeline = Lifeline(
            lambda: self._consumer.end_offsets([asked], timeout_ms=self._timeout_ms), config.request_timeout
        )
        names = [config.topic_prefix + topic for topic in topics]
        self._consumer.subscribe(names, listener=_Listener(self.progress, config.topic_prefix))

    def poll(self, timeout: float, max_records: int = 1, paused: Collection[TopicPartition] = ()) -> list[Record]:
        with explained("polling as a group's member"):
            # Asked for anew each time: the client forgets it of a partition that is taken away and given back.
            wanted = {KafkaPartition(self._prefix + topic, number) for topic, number in paused}
            assigned = self._consumer.assignment() or set()
            self._consumer.pause(*(wanted & assigned))
            self._consumer.resume(*(self._consumer.paused() - wanted))
            batches = self._consumer.poll(timeout_ms=int(timeout * 1000), max_records=max_records)
            membership = self._consumer.group_metadata()
        if not batches:
            self._lifeline.check()
            return []
        self._lifeline.heard()
        if membership.generation_id < 0 or not membership.member_id:
            # Expelled while the records were on their way: the next poll joins again, from the committed offsets.
            return []
        self._membership = membership
        records = [as_record(message, self._prefix) for messages in batches.values() for message in messages]
        self.progress.returned(records)
        return records

    def keepalive(self) -> None:
        """Nothing to do: the client's own thread gives the signs of life."""

    def rewind(self) -> None:
        with explained("going back to the committed offsets"):
            for partition in self._consumer.assignment():
                committed = self._consumer.committed(partition, timeout_ms=self._timeout_ms)
                if committed is None:
                    self._consumer.seek_to_beginning(partition)
                else:
                    self._consumer.seek(partition, committed)
        self.progress.rewound()

    def close(self) -> None:
        # A member that cannot say goodbye (it may still wait to be let in) is missed after its session timeout.
        with suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=2000)

    def offsets_to_send(
        self, offsets: Mapping[TopicPartition, int]
    ) -> tuple[dict[KafkaPartition, OffsetAndMetadata], ConsumerGroupMetadata]:
        """What a producer's transaction sends to move the committed offsets, and as whom."""
        named = {
            KafkaPartition(self._prefix + topic, number): OffsetAndMetadata(offset, "", -1)
            for (topic, number), offset in offsets.items()
        }
        return named, self._membership
