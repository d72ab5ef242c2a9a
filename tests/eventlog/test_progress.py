"""What a group's member may commit, given what it was handed and what was taken from it."""

from __future__ import annotations

import pytest

from zk_autograd.errors import UsageError
from zk_autograd.eventlog import PartitionLostError, Record
from zk_autograd.eventlog.progress import Progress


def record(offset: int, partition: int = 0) -> Record:
    return Record("t", partition, offset, b"", b"", 0)


def returned(*records: Record) -> Progress:
    progress = Progress("g")
    progress.returned(records)
    return progress


def test_a_commit_moves_each_partition_past_its_last_record() -> None:
    records = [record(3), record(7), record(5, partition=1)]
    assert returned(*records).claim(records) == {("t", 0): 8, ("t", 1): 6}


def test_what_was_not_returned_is_not_committed() -> None:
    with pytest.raises(UsageError, match="t/0 offset 4"):
        returned(record(3)).claim([record(4)])


def test_what_is_committed_is_not_committed_again() -> None:
    progress = returned(record(3))
    progress.committed(progress.claim([record(3)]))
    with pytest.raises(UsageError, match="committed already"):
        progress.claim([record(3)])


def test_a_partition_that_goes_away_with_records_in_hand_makes_the_commit_fail() -> None:
    progress = returned(record(3))
    progress.revoked([("t", 0)])
    progress.claim([record(3)])
    with pytest.raises(PartitionLostError, match="t/0"):
        progress.check()


def test_a_partition_that_comes_back_does_not_bring_its_old_records_back() -> None:
    progress = returned(record(3))
    progress.revoked([("t", 0)])
    progress.returned([record(3)])
    progress.claim([record(3)])
    with pytest.raises(PartitionLostError):
        progress.check()


def test_a_partition_that_goes_away_with_everything_committed_is_no_loss() -> None:
    progress = returned(record(3), record(9, partition=1))
    progress.committed({("t", 0): 4})
    progress.revoked([("t", 0), ("t", 2)])
    progress.check()


def test_rewinding_forgets_a_loss_and_what_was_in_hand() -> None:
    progress = returned(record(3))
    progress.revoked([("t", 0)])
    progress.rewound()
    progress.check()
    with pytest.raises(UsageError, match="has not returned"):
        progress.claim([record(3)])
