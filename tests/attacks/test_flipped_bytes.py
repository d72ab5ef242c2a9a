"""One bit turned over in one byte of one record, by whoever can write to the log's disk.

No flip leaves a sound log. Bytes that do not decode (0) or a signature that does not hold (1) are named in any case.
Where the record is missed, that is a violation; an introduction that was published twice, or a last receipt, is not.
With ``--signatures chained`` the same holds, but for signatures that a signed record stands in for.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.audit.outcome import Status
from ledger.entries import Entry
from schemas.events import EnclaveAttested, ProofAttached, StepCommitted
from schemas.signing import decode_unverified
from tests.support.forge import Case, explain, flipped, violated

COUNTS = {"steps": 12, "proofs": 6, "ledger": 5, "checkpoints": 2, "anchors": 2}
RECORDS = [(topic, index) for topic, count in COUNTS.items() for index in range(count)]
SPREAD = 16
SIGNATURE = 64


def flip_and_audit(case: Case, topic: str, index: int, positions: list[int], mask: int = 0x01) -> None:
    """Changes one byte at a time, and puts it back at the end."""
    record = case.log.records(topic)[index]
    event = decode_unverified(topic, record.value).event
    introduction = isinstance(event, EnclaveAttested)
    last_receipt = topic == "anchors" and index == COUNTS["anchors"] - 1
    case.agree = False
    for at in positions:
        case.log.replace(record, flipped(record.value, at, mask))
        found = case.audit(live=False)
        expected = {1, 2} if introduction or last_receipt else {1}
        assert found.exit_code in expected, f"{topic} record {index}, byte {at} of {len(record.value)}, mask {mask:#x}"
        named = [c for c in found.checks[:2] if c.status is not Status.PASSED]
        assert named or violated(found), explain(found)
        # Where a signed record names this one by its hash, its own signature is not looked at if the auditor says so.
        stands_in = isinstance(event, StepCommitted | ProofAttached | Entry) and at >= len(record.value) - SIGNATURE
        chained = case.audited("chained", case.policy, live=False)
        assert chained.exit_code in ({0} if stands_in else expected), explain(chained)
    case.log.replace(record, record.value)


def test_the_tests_below_reach_every_record(case: Case) -> None:
    """Otherwise a record type could be left out unnoticed."""
    assert {topic: len(case.log.records(topic)) for topic in COUNTS} == COUNTS


@pytest.mark.parametrize(("topic", "index"), RECORDS)
def test_a_flipped_byte_is_found_wherever_it_is(case: Case, topic: str, index: int) -> None:
    """At both ends, and at equal distances between: envelope, body, key id and signature are all hit."""
    size = len(case.log.records(topic)[index].value)
    flip_and_audit(case, topic, index, [0, 1, 9, 10, 11, 12, 13, *range(20, size, size // SPREAD), size - 2, size - 1])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=st.sampled_from(RECORDS), where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_change_of_any_byte_is_found(case: Case, record: tuple[str, int], where: float, mask: int) -> None:
    """The same at random positions with random changes."""
    topic, index = record
    size = len(case.log.records(topic)[index].value)
    flip_and_audit(case, topic, index, [int(where * size)], mask)


@pytest.mark.slow
@pytest.mark.parametrize(("topic", "index"), RECORDS)
def test_every_byte_counts(case: Case, topic: str, index: int) -> None:
    """Each byte of each record, one after the other."""
    flip_and_audit(case, topic, index, list(range(len(case.log.records(topic)[index].value))), 0x80)
