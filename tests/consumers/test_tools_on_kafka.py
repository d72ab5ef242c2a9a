"""The ledger's files and the auditor's tools on a real broker, where offsets have holes and topics have partitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.audit.cli import main as audit
from consumers.ledger.cli import main as ledger
from schemas.events import StepProven
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.support.broker import unique_prefix
from tests.support.forge import Case
from tests.tiles.logs import files
from tiles import open_store
from zk_autograd.eventlog.base import Record

pytestmark = pytest.mark.kafka


def published(url: str, records: list[Record]) -> None:
    """The records in the same order, in one transaction a topic."""
    with open_event_log(url) as log, log.producer("copy") as producer:
        for topic in ("steps", "proofs"):
            with producer.transaction() as transaction:
                for record in (r for r in records if r.topic == topic):
                    transaction.send(topic, record.key, record.value)


def test_files_snapshot_bundle_comparison_watch_and_rebuild(
    case: Case, kafka_broker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"kafka://{kafka_broker}?topic_prefix={unique_prefix('tools')}"
    home, tiles, snapshot = str(case.sound.home.path), tmp_path / "tiles", tmp_path / "snapshot"
    steps, proofs = case.log.records("steps"), case.proofs()
    taken: list[int] = []

    def said(command: Callable[[list[str]], int], *words: str) -> tuple[int, list[dict[str, Any]]]:
        capsys.readouterr()
        code = command([*words, "--home", home, "--json"])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def folded(size: int) -> list[dict[str, Any]]:
        """What a new instance of the ledger says until the log has so many entries."""
        capsys.readouterr()
        with open_event_log(url) as log, open_store(str(tiles)) as store:
            runner = case.ledger(log, store, snapshot)
            for _ in range(60):
                runner.run_once(timeout=0.5)
                if runner.tree.size == size:
                    break
            taken.append(runner.taken)
            runner.close()
        assert runner.tree.size == size
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    # The first step, a bundle of it; then a new instance, which takes up the snapshot and reads only what is new.
    published(url, [*steps, *(record for (step, _), record in proofs.items() if step == 1)])
    folded(2)
    assert said(audit, "bundle", "--log", url, "--run", "run", "-o", str(tmp_path / "old.zkb"))[0] == 0
    published(url, [record for (step, _), record in proofs.items() if step > 1])
    assert {"snapshot": 2} in [{k: v for k, v in line.items() if k == "snapshot"} for line in folded(5)]
    assert taken == [len(steps) + 2, 4]
    with open_event_log(url, create=False) as log, log.reader(["ledger"]) as reader:
        found = [decode_unverified("ledger", record.value).event for record in reader.read_to_end()]
    assert [e.step for e in found if isinstance(e, StepProven)] == [1, 2, 3]

    # What is published is what the topics say, to the byte.
    assert said(ledger, "rebuild", "--log", url, "--tiles", str(tmp_path / "again"))[0] == 0
    assert files(tmp_path / "again") == files(tiles) != {}
    assert said(ledger, "fsck", str(tiles))[0] == 0

    # The auditor's tools, with real verification.
    new = str(tmp_path / "new.zkb")
    assert said(audit, "bundle", "--log", url, "--run", "run", "-o", new)[0] == 0
    code, (verdict,) = said(audit, new, "--dev")
    assert (code, verdict["steps_proven"], verdict["proofs_verified"]) == (2, 3, 6), "nothing is anchored"
    assert [c["number"] for c in verdict["checks"] if c["status"] != "passed"] == [9, 10]
    code, (compared,) = said(audit, "compare", str(tmp_path / "old.zkb"), url, "--dev")
    assert (code, compared["verdict"]) == (0, "older")
    code, (compared,) = said(audit, "compare", new, url, "--dev")
    assert (code, compared["verdict"]) == (0, "agree")
    code, (line,) = said(audit, "watch", "--log", url, "--run", "run", "--dev", "--seconds", "0")
    assert (code, line["alarms"], line["proven"], line["entries"]) == (2, [], 3, 5)
