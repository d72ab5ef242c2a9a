"""Opening the event log with this project's topics in it."""

from __future__ import annotations

from schemas.topics import TOPICS
from zk_autograd.eventlog import open_log
from zk_autograd.eventlog.base import EventLog, TopicSpec


def open_event_log(url: str, *, create: bool = True) -> EventLog:
    """The event log at ``url``; with ``create`` the topics that are not there yet are made.

    Raises:
        UsageError: unknown scheme or option.
        EventLogError: not reachable, or not a log.
    """
    log = open_log(url)
    if create:
        log.create_topics(TopicSpec(t.name, t.partitions, t.retention_ms) for t in TOPICS.values())
    return log
