"""Names of topics, groups and producers: what every adapter takes, so that a log can move from one to another."""

from __future__ import annotations

import re

from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import TopicSpec

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
MAX_PARTITIONS = 10_000


def check_name(name: str, what: str) -> None:
    """Raises UsageError unless ``name`` can be a Kafka topic's, with room for a prefix."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (".", ".."):
        raise UsageError(f"a {what} is 1 to 200 letters, digits, dots, underscores or hyphens; got {name!r:.220}")


def check_spec(spec: TopicSpec) -> None:
    """Raises UsageError unless ``spec`` can be made a topic."""
    check_name(spec.name, "topic name")
    if not 1 <= spec.partitions <= MAX_PARTITIONS:
        raise UsageError(f"topic {spec.name}: 1 to {MAX_PARTITIONS} partitions, got {spec.partitions}")
    if spec.retention_ms < -1:
        raise UsageError(f"topic {spec.name}: retention_ms is -1 (for ever) or more, got {spec.retention_ms}")


def no_such_topic(topic: str, where: str) -> UsageError:
    """The error for a topic that is not in the log called ``where``."""
    return UsageError(f"{where} has no topic {topic!r}: create the topics first (create_topics), or check the URL")
