"""Members of a consumer group on a Kafka cluster.

The client gives signs of life from a thread of its own, and lets the group share its partitions out anew only inside
poll: what a member works on between two polls stays its own.
"""

from __future__ import annotations

from collections import deque
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
# More records than the client ever holds.
_ALL = 100_000


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """Told by the client, on its thread, when partitions go away."""

    def __init__(self, progress: Progress, kept: dict[TopicPartition, deque[Record]], prefix: str) -> None:
        self._progress = progress
        self._kept = kept
        self._prefix = prefix

    def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        places = [(p.topic.removeprefix(self._prefix), p.partition) for p in revoked]
        self._progress.revoked(places)
        for place in places:
            self._kept.pop(place, None)

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
        self._paused: frozenset[TopicPartition] = frozenset()
        # What the client has given while partitions were paused, and poll has not returned.
        self._kept: dict[TopicPartition, deque[Record]] = {}
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
        self._consumer.subscribe(names, listener=_Listener(self.progress, self._kept, config.topic_prefix))

    def poll(self, timeout: float, max_records: int = 1, paused: Collection[TopicPartition] = ()) -> list[Record]:
        if not paused and not self._kept:
            self._pause(frozenset())
            records = self._poll(timeout, max_records)
        else:
            wanted = frozenset(paused)
            if wanted - self._paused:
                # The client never hands out again what it had begun to of a partition that is paused and resumed.
                self._keep(self._poll(0.0, _ALL))
            self._pause(wanted)
            records = self._take_kept(max_records)
            if not records:
                self._keep(self._poll(timeout, _ALL))
                records = self._take_kept(max_records)
        self.progress.returned(records)
        return records

    def _poll(self, timeout: float, max_records: int) -> list[Record]:
        with explained("polling as a group's member"):
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
        return [as_record(message, self._prefix) for messages in batches.values() for message in messages]

    def _pause(self, paused: frozenset[TopicPartition]) -> None:
        if paused or self._paused:
            # Asked for anew each time: the client forgets it of a partition that is taken away and given back.
            wanted = {KafkaPartition(self._prefix + topic, number) for topic, number in paused}
            self._consumer.pause(*(wanted & (self._consumer.assignment() or set())))
            self._consumer.resume(*(self._consumer.paused() - wanted))
            self._paused = paused

    def _keep(self, records: list[Record]) -> None:
        for record in records:
            self._kept.setdefault((record.topic, record.partition), deque()).append(record)

    def _take_kept(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        for place in [p for p in self._kept if p not in self._paused]:
            while self._kept[place] and len(records) < max_records:
                records.append(self._kept[place].popleft())
            if not self._kept[place]:
                del self._kept[place]
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
        self._kept.clear()

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
