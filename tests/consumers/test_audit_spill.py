"""Sequences on the disk read as those in memory do, and a full disk is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.audit.spill import Ids, Rows, SpilledTree, Spool
from ledger.tree import Tree
from zk_autograd.errors import UsageError


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 2047, 2048, 2049, 30_000])
def test_rows_are_read_as_they_were_written_in_any_order(count: int) -> None:
    rows = Rows(33)
    written = [i.to_bytes(33, "big") for i in range(count)]
    for number, row in enumerate(written):
        rows.append(row)
        assert rows[number // 2] == written[number // 2]
    assert len(rows) == count
    assert list(rows) == written
    assert [rows[i] for i in range(count - 1, -1, -7)] == written[::-1][::7]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 200_000), max_size=40), st.randoms())
def test_strings_of_any_length_are_read_as_they_were_written(sizes: list[int], rng: object) -> None:
    spool = Spool()
    written = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
    for value in written:
        spool.append(value)
    order = list(range(len(written)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    assert [spool[i] for i in order] == [written[i] for i in order]
    assert len(spool) == len(written)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 5000])
def test_the_tree_on_the_disk_is_the_tree(size: int) -> None:
    leaves = [i.to_bytes(4, "big") for i in range(size)]
    spilled, tree = SpilledTree(), Tree(leaves)
    for leaf in leaves:
        spilled.append(leaf)
    assert (spilled.size, spilled.root()) == (size, tree.root())
    assert (spilled.frontier().size, spilled.frontier().root()) == (size, tree.root())
    for at in range(0, size + 1, max(1, size // 50)):
        assert spilled.root_at(at) == tree.root_at(at)
    if size:
        assert spilled.inclusion_proof(size // 2) == tree.inclusion_proof(size // 2)
    with pytest.raises(UsageError, match="no full subtree"):
        spilled.node(0, size)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=3000))
def test_ids_are_new_once(numbers: list[int]) -> None:
    """Zero, which marks a free place in the table, is an id like any other."""
    ids, seen = Ids(), set[int]()
    for number in numbers:
        digest = number.to_bytes(16, "big") + b"whatever follows"
        assert (digest in ids) == (number in seen)
        assert ids.add(digest) == (number not in seen)
        seen.add(number)


def test_many_ids_are_all_remembered() -> None:
    ids = Ids()
    digests = [i.to_bytes(8, "big") * 4 for i in range(20_000)]
    assert all(ids.add(digest) for digest in digests)
    assert not any(ids.add(digest) for digest in digests)


def test_a_full_disk_ends_the_audit_with_what_to_do() -> None:
    """Files of this process may not grow beyond a megabyte: the system refuses, as it does when a disk is full."""
    code = (
        "import resource, signal\n"
        "from consumers.audit.spill import Spool\n"
        "from zk_autograd.errors import UsageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "spool = Spool()\n"
        "try:\n"
        "    for _ in range(100): spool.append(bytes(100_000))\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "set TMPDIR to another folder" in out
