"""Which of several proofs of a shard the ledger took."""

from __future__ import annotations

from itertools import islice, product

import pytest

from consumers.audit.accepted import Accepted
from ledger.entries import proofs_digest

SHARDS = 20


def proof(shard: int, name: str) -> bytes:
    return f"{name} {shard}".encode().ljust(32, b".")


@pytest.mark.parametrize("elsewhere", [[0], [1], [0, 1, 3]])
def test_later_proofs_in_other_partitions_do_not_hide_what_the_ledger_took(elsewhere: list[int]) -> None:
    """When the ledger is done, a prover adds proofs of every shard, wherever they come to stand; one was restarted."""
    accepted = Accepted()
    taken = [proof(shard, "taken") for shard in range(SHARDS)]
    rows = []
    for shard, first in enumerate(taken):
        row = [(2, first), *((2, proof(shard, "again")) for _ in range(shard % 2))]
        rows.append(sorted([*row, *((p, proof(shard, f"late {p}")) for p in elsewhere)], key=lambda placed: placed[0]))
    accepted.add(1, rows)
    tried = [proofs_digest(ids) for ids in islice(accepted.picks(1), len(elsewhere) + 1)]
    assert proofs_digest(taken) in tried
    assert len(set(tried)) == len(elsewhere) + 1


def test_every_way_to_pick_comes_in_the_end() -> None:
    accepted = Accepted()
    rows = [[(0, proof(0, "a")), (1, proof(0, "b"))], [(0, proof(1, "a"))], [(1, proof(2, "a")), (3, proof(2, "b"))]]
    accepted.add(5, rows)
    ways = set(product(*([i for _, i in row] for row in rows)))
    assert {tuple(ids) for ids in accepted.picks(5)} == ways
    assert not list(accepted.picks(4))


def test_one_proof_a_shard_needs_no_picks() -> None:
    accepted = Accepted()
    accepted.add(1, [[(0, proof(0, "a"))], [(3, proof(1, "a"))]])
    assert accepted.digest(1) == proofs_digest([proof(0, "a"), proof(1, "a")])
    assert not list(accepted.picks(1))
