"""What each topic carries and how it is kept: the contract with every consumer and with the log's operator."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from schemas.events import (
    Block,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    Event,
    Group,
    Hyper,
    ProofAttached,
    RunStarted,
    ScheduleKind,
    StepCommitted,
    StepProven,
    WitnessShard,
)
from schemas.signing import open_signed, seal
from schemas.topics import TOPICS, topic
from tests.support.events import TOPIC_OF, KeySigner, sample
from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import MAX_RECORD_BYTES

HOUR = 3_600_000


def test_partitions_retention_and_caps_are_the_agreed_ones() -> None:
    assert {t.name: (t.partitions, t.retention_ms, t.cap) for t in TOPICS.values()} == {
        "steps": (4, -1, 720_000),
        "witness": (8, 24 * HOUR, 900_000),
        "proofs": (4, -1, 65_536),
        "claims": (1, -1, 131_072),
        "ledger": (1, -1, 4_096),
        "checkpoints": (1, -1, 65_536),
        "anchors": (1, -1, 65_536),
        "dead-letters": (1, -1, 131_072),
    }


def test_topics_are_found_by_their_own_short_name() -> None:
    assert all(name == found.name and topic(name) is found for name, found in TOPICS.items())
    with pytest.raises(UsageError, match="expected one of steps, witness"):
        topic("zk.steps")


def test_the_log_knows_a_topic_under_the_deployments_prefix() -> None:
    assert TOPICS["steps"].log_name() == "zk.steps"
    assert TOPICS["dead-letters"].log_name("prod.eu.") == "prod.eu.dead-letters"


def test_every_event_has_exactly_one_topic_but_introductions() -> None:
    carried = [event for t in TOPICS.values() for event in t.events]
    assert [t.name for t in TOPICS.values() if EnclaveAttested in t.events] == ["steps", "claims"]
    assert len(carried) == len(set(carried)) + 1
    assert set(carried) == set(get_args(Event)) == set(TOPIC_OF)


def test_no_cap_is_beyond_what_the_event_log_takes() -> None:
    assert max(t.cap for t in TOPICS.values()) <= MAX_RECORD_BYTES


@pytest.mark.parametrize(
    ("kind", "largest"),
    [
        (
            RunStarted,
            {
                "name": "\U0001f600" * 128,
                "groups": (
                    Group(
                        tuple(Hyper(f"{n:02}" + "\U0001f600" * 126, 0.1) for n in range(16)),
                        0.1,
                        ScheduleKind.TABLE,
                        (0.1,) * 4096,
                    ),
                )
                * 16,
                "blocks": (Block(15, 1 << 20, 62, 62, 62, (1 << 31) - 1),) * 1024,
                "beacon": "\U0001f600" * 256,
            },
        ),
        (StepCommitted, {"public": (-(1 << 63),) * 8192, "rates": (0.1,) * 16, "shifts": (8,) * 1024}),
        (StepProven, {"step": (1 << 63) - 1}),
        (ProofAttached, {"proof": bytes(60_000), **{f"{c}_path": (bytes(32),) * 20 for c in ("pre", "post", "work")}}),
        (
            WitnessShard,
            {"ciphertext": bytes(890_000), **{f"{c}_path": (bytes(32),) * 20 for c in ("pre", "post", "work")}},
        ),
        (CheckpointIssued, {"note": "\u20ac" * 20_000}),
        (
            DeadLetter,
            {"source_topic": "t" * 249, "reason": "\U0001f600" * 1024, "role": "r" * 32, "value": bytes(65_536)},
        ),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else "",
)
def test_the_largest_event_that_the_ranges_allow_fits_its_topic(kind: type[Event], largest: dict[str, Any]) -> None:
    signer = KeySigner()
    event = sample(kind, **largest)
    value = seal(TOPIC_OF[kind], event, signer)
    assert open_signed(TOPIC_OF[kind], value, {signer.key_id: signer.public_key}).event == event
