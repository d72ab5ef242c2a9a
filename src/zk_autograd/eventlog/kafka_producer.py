"""Transactions on a Kafka cluster, with kafka-python's traps closed.

* A record that could not be delivered is dropped and the commit succeeds without it: every future is asked first.
* ``send`` never holds back: a bounded part of the transaction is on its way at a time.
* Commit and abort wait for ever for brokers that have gone: they are given a time.
* A commit is acknowledged before it is carried out. Should all replicas of a partition be down just then, brokers
  (4.3.1) skip the partition as if it were deleted, and the transaction's records there are lost: a commit counts
  only once the coordinator has carried it out everywhere.
* After a refused offset commit the client keeps the offsets and commits them with the *next* transaction: they are
  taken away from it.
* After any other failure the client's state cannot be trusted: it is closed, and the caller opens a new producer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import CommitFailedError, FencedInstanceIdError, KafkaError, KafkaTimeoutError

from zk_autograd.errors import EventLogError, FencedError, UsageError
from zk_autograd.eventlog.base import MAX_KEY_BYTES, MAX_RECORD_BYTES, Group, PartitionLostError, Record, TopicPartition
from zk_autograd.eventlog.buffered import BufferedProducer, BufferedTransaction
from zk_autograd.eventlog.kafka_client import bounded, meaning, open_client
from zk_autograd.eventlog.kafka_config import KafkaConfig
from zk_autograd.eventlog.kafka_group import KafkaGroup
from zk_autograd.eventlog.progress import lost_error

_MAX_BYTES_UNDER_WAY = 8 * 1024 * 1024
_MAX_RECORDS_UNDER_WAY = 5000


class KafkaTransactions(BufferedProducer):
    """Opening one fences off every older producer with the same transactional id."""

    def __init__(
        self,
        config: KafkaConfig,
        transactional_id: str,
        partitions: Callable[[str], int],
        state: Callable[[str], str],
    ) -> None:
        """``partitions`` counts a topic's partitions; ``state`` asks for a transactional id's state on the cluster."""
        super().__init__(transactional_id)
        self._state = state
        self._prefix = config.topic_prefix
        self._cluster = (config.servers, config.topic_prefix)
        self._count = partitions
        self._patience = 2 * config.request_timeout
        self._transaction_timeout = max(60.0, 2 * self._patience)
        self._failure: EventLogError | None = None
        patience_ms = int(self._patience * 1000)
        self._client = open_client(
            KafkaProducer,
            config,
            transactional_id=config.topic_prefix + transactional_id,
            transaction_timeout_ms=int(self._transaction_timeout * 1000),
            delivery_timeout_ms=patience_ms,
            max_block_ms=patience_ms,
            max_request_size=MAX_RECORD_BYTES + MAX_KEY_BYTES + 1024,
            batch_size=128 * 1024,
            linger_ms=5,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            self._client.init_transactions()
        except KafkaError as error:
            self._dispose()
            raise EventLogError(f"cannot open the transactional id {transactional_id}: {meaning(error)}") from None

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._dispose()

    def _partitions(self, topic: str) -> int:
        return self._count(topic)

    def _claim(self, group: Group, records: Sequence[Record]) -> dict[TopicPartition, int]:
        if not isinstance(group, KafkaGroup) or group.cluster != self._cluster:
            raise UsageError("a transaction takes only the offsets of groups of its own event log")
        return group.progress.claim(records)

    def _commit(self, transaction: BufferedTransaction) -> None:
        if self._failure is not None:
            raise self._failure
        groups = [(group, offsets) for group, offsets in transaction.offsets.items() if isinstance(group, KafkaGroup)]
        for group, _ in groups:
            group.progress.check()
        outcome = "nothing of it will become visible"
        try:
            self._client.begin_transaction()
            self._send(transaction)
            for group, offsets in groups:
                self._move(group, offsets)
            outcome = "whether it was committed is not known"
            bounded(self._client.commit_transaction, self._patience)
            self._await_completion()
        except PartitionLostError:
            raise
        except (KafkaError, EventLogError, ValueError, AttributeError) as error:
            raise self._failed(error, outcome) from None
        except BaseException as error:
            self._failed(error, outcome)
            raise
        for group, offsets in groups:
            group.progress.committed(offsets)

    def _move(self, group: KafkaGroup, offsets: Mapping[TopicPartition, int]) -> None:
        named, membership = group.offsets_to_send(offsets)
        try:
            bounded(lambda: self._client.send_offsets_to_transaction(named, membership), self._patience)
        except (CommitFailedError, FencedInstanceIdError):
            bounded(self._client.abort_transaction, self._patience)
            self._client._transaction_manager._pending_txn_offset_commits.clear()
            raise lost_error(group.group_id, offsets) from None

    def _send(self, transaction: BufferedTransaction) -> None:
        under_way: list[Any] = []
        room = _MAX_BYTES_UNDER_WAY
        for topic, key, value, partition in transaction.records:
            under_way.append(self._client.send(self._prefix + topic, key=key, value=value, partition=partition))
            room -= len(value)
            if room <= 0 or len(under_way) >= _MAX_RECORDS_UNDER_WAY:
                self._await(under_way)
                under_way, room = [], _MAX_BYTES_UNDER_WAY
        self._await(under_way)

    def _await(self, futures: Sequence[Any]) -> None:
        # Within the delivery time limit every future gets its outcome, unless the client hangs for lack of a broker.
        self._client.flush(timeout=self._patience + 1)
        for future in futures:
            future.get(timeout=self._patience)

    def _await_completion(self) -> None:
        deadline = time.monotonic() + self._patience
        # Any other state comes after ours: completed, or a newer producer's.
        while self._state(self._prefix + self._id) == "PREPARE_COMMIT":
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"the coordinator has not carried out the commit within {self._patience:g} s")
            time.sleep(0.003)

    def _failed(self, error: BaseException, outcome: str) -> EventLogError:
        """Ends this producer; the error to raise now and for every later transaction."""
        text = f"{type(error).__name__}: {error}"
        if "ProducerFenced" in text or "InvalidProducerEpoch" in text:
            self._failure = FencedError(
                f"producer {self._id}: a newer one was opened with this transactional id, or this one's transaction "
                f"took more than {self._transaction_timeout:g} s; {outcome}: stop this one"
            )
        else:
            self._failure = EventLogError(
                f"producer {self._id}: the transaction failed, {outcome}: {meaning(error)}; "
                "open a new producer, then read the log again"
            )
        self._dispose(abort=not isinstance(self._failure, FencedError))
        return self._failure

    def _dispose(self, abort: bool = False) -> None:
        def end() -> None:
            if abort:
                # So that readers need not wait until the brokers give the transaction up.
                with suppress(KafkaError):
                    bounded(self._client.abort_transaction, 5.0)
            self._client.close(timeout=2 * self._patience)

        # What takes longer, because records are still under way, goes on in its own thread.
        with suppress(KafkaError):
            bounded(end, 3.0)
