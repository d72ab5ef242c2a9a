"""The event log: an interface (:mod:`.base`) and its adapters, chosen by the URL's scheme."""

from __future__ import annotations

from collections.abc import Callable

from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import (
    MAX_KEY_BYTES,
    MAX_RECORD_BYTES,
    EventLog,
    Group,
    PartitionLostError,
    Producer,
    Reader,
    Record,
    TopicPartition,
    TopicSpec,
    Transaction,
)

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_RECORD_BYTES",
    "EventLog",
    "Group",
    "PartitionLostError",
    "Producer",
    "Reader",
    "Record",
    "TopicPartition",
    "TopicSpec",
    "Transaction",
    "open_log",
]


def _kafka(url: str) -> EventLog:
    from zk_autograd.eventlog.kafka import KafkaLog

    return KafkaLog(url)


def _sqlite(url: str) -> EventLog:
    from zk_autograd.eventlog.sqlite import SqliteLog

    return SqliteLog(url)


# Each adapter is imported when it is first asked for: who keeps a log in a file needs no Kafka client.
_SCHEMES: dict[str, Callable[[str], EventLog]] = {"kafka": _kafka, "sqlite": _sqlite}


def open_log(url: str) -> EventLog:
    """Open an event log by its URL.

    ``sqlite:///relative/file`` or ``sqlite:////absolute/file`` with the parameters of :mod:`.sqlite`;
    ``kafka://host:port[,host:port]`` with the parameters of :mod:`.kafka_config`.

    Raises:
        UsageError: unknown scheme, malformed URL, or an option that does not exist.
        EventLogError: the log is not there, cannot be reached, or is not one of ours.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        # The rest of the URL stays out of the message: it might hold a password.
        given = f"the scheme {scheme[:20]!r}" if separator else "no scheme"
        known = ", ".join(f"{name}://" for name in sorted(_SCHEMES))
        raise UsageError(f"an event log's URL starts with one of {known}; this one has {given}")
    return _SCHEMES[scheme](url)
