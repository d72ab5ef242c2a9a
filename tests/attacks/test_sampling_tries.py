"""Grinding over run ids, unseen: trainer and ledger together draw as often as they like.

docs/sampling.md: "start again under another run id … works, one draw a try". The verdict counts the tries, and the
ledger that records them must not be able to talk them away.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from consumers.audit.report import as_json, as_text
from schemas.codec import encode
from schemas.events import RunOpened, StepProven, StepRecorded
from schemas.signing import event_id
from tests.attacks.test_sampling import honest
from tests.support.forge import Case, explain
from tests.support.sampled import Teller

TRIES = 200


@pytest.fixture
def told(sampled_case: Case) -> Teller:
    return Teller(sampled_case)


def test_tries_that_the_ledger_calls_proven_are_counted(told: Teller) -> None:
    """200 candidate runs (nothing of them but a record is in any topic) are drawn by one receipt; one is then shown.

    The chance printed for "one shard in one step", 25 %, is for one draw. With 200 it is 0.25**200.
    """
    tries = [number.to_bytes(32, "big") for number in range(1, TRIES + 1)]
    for run_id in tries:
        told.add(RunOpened(run_id), StepRecorded(run_id, 1, bytes(32)))
    honest(told)
    for run_id in tries:  # any time later; of runs that no one can audit, since their starts are not in the log
        told.add(StepProven(run_id, 1, bytes(32), bytes(32), bytes(32), bytes(32), bytes(32)))
    found = told.anchor().tell().audit()
    assert found.exit_code == 0, explain(found)
    facts = json.loads(json.dumps(as_json(found, "run")))
    assert "25.0000 %  one shard in one step" in as_text(found, "")
    assert facts["sampled"]["runs_not_proven"] == TRIES, "the verdict says that there was no other try"


def test_repeated_entries_of_one_try_do_not_pay_for_another_step(told: Teller) -> None:
    """The same by one run: two steps recorded, one proven twice with different digests counts as two."""
    run_id = b"\7" * 32
    told.add(RunOpened(run_id), StepRecorded(run_id, 1, bytes(32)), StepRecorded(run_id, 2, bytes(32)))
    for digest in (b"\1" * 32, b"\2" * 32):
        told.add(StepProven(run_id, 1, bytes(32), digest, bytes(32), bytes(32), bytes(32)))
    found = honest(told).tell().audit()
    assert found.exit_code == 0, explain(found)
    assert found.sampling is not None
    assert found.sampling.abandoned == 1


def test_tries_whose_start_is_there_are_counted_too(told: Teller) -> None:
    """The start is published with them, and the ledger calls every step proven: there is no proof, and no audit of it.

    Its own audit would say so; that of the run that is shown cannot, so it says that there is another run to audit.
    """
    start = replace(told.start, name="another try")
    run_id = event_id(encode(start))
    told.case.log.append("steps", told.case.insider.seal("steps", start))
    told.add(RunOpened(run_id), StepRecorded(run_id, 1, bytes(32)))
    told.add(StepProven(run_id, 1, bytes(32), bytes(32), bytes(32), bytes(32), bytes(32)))
    found = honest(told).tell().audit()
    assert found.exit_code == 0, explain(found)
    facts = as_json(found, "run")["sampled"]
    assert (facts["other_runs"], facts["runs_not_proven"]) == (1, 0)
    assert "1 other sampled run(s) in this log: each is one more try" in as_text(found, "")
