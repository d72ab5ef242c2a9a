"""What could not be taken, and why: published instead of dropped, so that one bad message blocks nothing."""

from __future__ import annotations

import hashlib

from schemas.events import DeadLetter, Role
from schemas.signing import seal
from schemas.text import one_line
from zk_autograd.eventlog.base import Record
from zk_autograd.tee.keys import SigningKey

MAX_VALUE = 4 << 10
"""Larger values are named by their digest only."""

SHORT_LIVED = frozenset({"witness"})
"""Topics whose records are to be gone after hours: they are not copied to where they would stay for weeks."""


def dead_letter(record: Record, role: Role, reason: object, key: SigningKey) -> bytes:
    """A sealed DeadLetter for ``record``."""
    event = DeadLetter(
        source_topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        role=role.value.lower(),
        reason=one_line(str(reason), 1000) or "no reason given",
        digest=hashlib.sha256(record.value).digest(),
        value=record.value if len(record.value) <= MAX_VALUE and record.topic not in SHORT_LIVED else b"",
    )
    return seal("dead-letters", event, key)
