"""A receipt is never taken before the key that it rests on."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.ledger.runner import LedgerRunner
from schemas.events import EnclaveAttested, Role, StepProven
from schemas.wire import open_event_log
from tests.support.forge import Case
from tests.support.sampled import Teller


@pytest.mark.parametrize("late", [False, True], ids=["before both", "between"])
def test_a_receipt_that_comes_with_its_anchors_introduction_is_not_lost(sampled_case: Case, late: bool) -> None:
    """Passed over, it would be a gap in the beacon's counter, and this ledger would draw nothing until its restart."""
    case, told = sampled_case, Teller(sampled_case)
    told.open().record(1, 2).anchor().tell()
    intro = [
        r for r, o in case.log.opened("steps") if isinstance(o.event, EnclaveAttested) and o.event.role is Role.ANCHOR
    ]
    receipts, proofs = case.log.records("anchors"), case.log.records("proofs")
    for records in (intro, receipts, proofs):
        case.log.delete(*records)

    class Late:
        """Between the two reads the anchor introduces itself and publishes."""

        def __init__(self, reader: Any) -> None:
            self._reader, self.armed = reader, True

        def read_to_end(self) -> Any:
            if late:
                yield from self._reader.read_to_end()
            if self.armed:
                self.armed = False
                case.log.append("steps", *(r.value for r in intro))
                case.log.append("anchors", *(r.value for r in receipts))
            if not late:
                yield from self._reader.read_to_end()

        def close(self) -> None:
            self._reader.close()

    with open_event_log(case.log.url) as log:
        runner: LedgerRunner = case.ledger(log)
        runner._steps = Late(runner._steps)  # type: ignore[assignment]
        runner.run_once(timeout=0.0)
        case.log.append("proofs", *(r.value for r in proofs))
        for _ in range(3):
            runner.run_once(timeout=0.0)
        runner.close()
    proven = [o.event for _, o in case.log.opened("ledger") if isinstance(o.event, StepProven)]
    assert proven, "drawn, proven, and not entered"
