"""Records that end a prover, or that make two provers open one witness's columns too often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.prover.check import check_witness
from schemas.events import Block, RunStarted, WitnessShard
from schemas.signing import seal
from tests.consumers.test_prover_check import Witness
from tests.consumers.test_prover_worker import OWN, Bench
from tests.support.events import digest, point, sample
from tests.support.forge import Case
from zk_autograd.errors import ZkAutogradError
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl.selftest import sample as honest
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import place
from zk_autograd.statement import STATEMENTS
from zk_autograd.tee import sealing


def test_a_start_whose_blocks_have_fewer_shards_than_it_says_does_not_end_the_prover() -> None:
    """The ledger refuses such a start; provers have not looked at it. The witness becomes a dead letter."""
    st = STATEMENTS["lamb"]
    circuit = Circuit(digest("c"), "ezkl-23.0.5", st, 2**12 - 8, 10, 30, 4000, digest("s"), "DEV", Path(), Path())
    _, secret = honest(circuit, 1)
    start = sample(RunStarted, optimizer="lamb", circuit_id=circuit.id, shards=9, blocks=(Block(0, 1, 14, 10, 2, 1),))
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, circuit.P)
    public = tuple(st.public_vector(st.public_integers(st.defaults, 1e-3, 2, fmt, circuit.P)))
    points = {n: point(n) for n in ("pre", "post", "work")}
    carry = (point("in"), point("out"))
    at = place(digest("run"), 2, 5, *points.values(), *carry)
    event = sample(
        WitnessShard, run_id=digest("run"), step=2, shard=5, circuit_id=circuit.id, public=public, carry=carry,
        **points, ciphertext=sealing.seal(bytes(32), at, secret.to_bytes(st)),
    )  # fmt: skip
    with pytest.raises(ZkAutogradError):  # whichever: it becomes a dead letter
        check_witness(event, start, circuit, None, bytes(32))  # type: ignore[arg-type]


@pytest.fixture
def bench(case: Case, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(case, tmp_path / "bench.db", stack)


def test_two_groups_of_provers_do_not_prove_one_witness_twice(
    bench: Bench, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both begin while there is no proof. Each column would be opened in four proofs; three salts hide it in two."""
    witness = Witness(case.sound, 2, 1)
    bench.log.append("witness", seal("witness", witness.event, case.insider.key("steps")), partition=OWN)
    (one, first), (two, second) = bench.worker(name="b", group_name="a"), bench.worker(name="c", group_name="b")
    began: list[Any] = []
    honest_proof = case.story().proofs[2, 1].proof

    def prove(self: Ezkl, circuit: Circuit, columns: Any, limits: Any, tick: Any = None) -> bytes:
        began.append(columns)
        if len(began) == 1:  # the other group's prover takes it a moment later
            bench.run(two, second)
        return case.sound.twin_proof if len(began) == 1 else honest_proof

    monkeypatch.setattr(Ezkl, "prove", prove)
    bench.run(one, first)
    assert len(bench.proofs()) == 1, "two proofs of one witness are published"


def test_one_provers_garbage_does_not_stop_all_others_for_ever(bench: Bench, case: Case) -> None:
    """The ledger refuses it. Had the others taken it for a proof, the run would stay unproven for good."""
    witness = Witness(case.sound, 2, 1)
    garbage = next(o.event for _, o in case.log.opened("proofs"))
    bench.log.append("proofs", case.insider.seal("proofs", replace(garbage, step=2, shard=1, proof=b"\0")))
    bench.log.append("witness", seal("witness", witness.event, case.insider.key("steps")), partition=OWN)
    for name in ("b", "c"):
        bench.run(*bench.worker(name=name, group_name=f"group-{name}"))
    bad, good = (p.proof for p in bench.proofs())  # the second group finds the first one's real proof
    assert bad == b"\0"
    assert len(good) == case.sound.circuit.proof_bytes
