"""Eight records must not keep every prover from every witness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.events import DeadLetter, Role, RunStarted, WitnessShard
from schemas.signing import event_id, seal
from schemas.wire import open_event_log
from tests.consumers.test_prover_sampled import Bench
from tests.support.events import sample
from tests.support.forge import Case
from tests.support.sampled import SHARDS, STEPS
from zk_autograd.tee.keys import new_signing_key


@pytest.fixture
def bench(sampled_case: Case) -> Iterator[Bench]:
    with ExitStack() as stack:
        log = stack.enter_context(open_event_log(sampled_case.log.url))
        yield Bench(sampled_case, log, stack)


def test_a_run_that_the_ledger_refused_is_not_waited_for(bench: Bench) -> None:
    """Its shards will never be drawn, as the ledger's dead letter says. The witnesses need not even decrypt.

    Held back for ``--draw-limit`` in all eight partitions, they would keep honest runs behind them from being proven.
    """
    case, trainer = bench.case, new_signing_key()
    honest = next(o.event for _, o in case.log.opened("steps") if isinstance(o.event, RunStarted))
    start = replace(honest, name="other", trainer_key_id=trainer.key_id, shards=8)
    case.log.append("steps", case.insider.introduce(Role.TRAINER, trainer), seal("steps", start, trainer))
    run_id = event_id(encode(start))
    for shard in range(8):
        event = sample(WitnessShard, run_id=run_id, step=1, shard=shard, circuit_id=honest.circuit_id)
        first = next(r for r in case.log.records("witness") if r.partition == shard)
        case.log.insert(first, seal("witness", event, trainer))
    case.run_ledger()
    letters = [o.event for _, o in case.log.opened("dead-letters") if isinstance(o.event, DeadLetter)]
    assert any("blocks have" in letter.reason for letter in letters)
    worker = bench.worker()
    assert bench.run(worker, rounds=200) >= STEPS * SHARDS, f"nothing is proven; held: {len(worker.held)} partitions"
