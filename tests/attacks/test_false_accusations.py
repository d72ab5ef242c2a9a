"""Verdict 1 ("violated") for runs in which everything holds, by records that others can write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consumers.audit.checks import audit
from consumers.audit.cli import main
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit
from consumers.audit.proofs import Verdict
from ledger.entries import leaf_data
from schemas.events import ProofAttached, Role, RunOpened, RunStarted, StepCommitted, StepProven
from schemas.signing import seal
from schemas.wire import open_event_log
from tests.consumers.test_anchor_runner import run
from tests.support.events import digest, point
from tests.support.forge import Case, explain
from tests.support.pipeline import ORIGIN
from zk_autograd.eventlog.base import EventLog, Reader
from zk_autograd.merkle import all_paths
from zk_autograd.proofs.base import Commitments
from zk_autograd.tee.keys import new_signing_key

# Copies of proofs


def wide(case: Case, shards: int) -> tuple[list[ProofAttached], list[ProofAttached]]:
    """An honest run of one step and many shards, and two good proofs of each shard, in two lots.

    Verification is stood in for by the case's table of outcomes: what is tested is what the audit makes of them.
    """
    story = case.story()
    story.events = [
        e for e in story.events if isinstance(e, RunStarted) or (isinstance(e, StepCommitted) and e.step == 1)
    ]
    points = {n: [point(f"{n} {i}") for i in range(shards)] for n in ("pre", "post", "work")}
    rows = {n: all_paths(found) for n, found in points.items()}
    block = replace(story.start.blocks[0], shards=shards)
    story.edit(RunStarted, blocks=(block,), shards=shards, state_root=rows["pre"][0])
    story.edit(StepCommitted, 1, state_root=rows["post"][0], work_root=rows["work"][0])
    old = story.proofs[1, 0]
    public = story.step(1).public
    lots: list[list[ProofAttached]] = [[], []]
    for shard in range(shards):
        for lot, name in zip(lots, ("first", "second"), strict=True):
            proof = digest(f"{name} {shard}") * 4
            paths = {f"{n}_path": tuple(rows[n][1][shard]) for n in rows}
            lot.append(replace(old, step=1, shard=shard, proof=proof, **paths))
            made = Commitments(points["pre"][shard], points["post"][shard], points["work"][shard], bytes(64))
            case.verdicts[case.sound.circuit.id, proof, public] = Verdict(made)
    story.proofs = {(1, p.shard): p for p in lots[0]}
    case.retell(story)
    for topic in ("proofs", "ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    return tuple([replace(p, run_id=case.run_id) for p in lot] for lot in lots)  # type: ignore[return-value]


def accused(case: Case) -> Audit:
    found = case.audit(replace(case.policy, anchors=None), live=False)
    assert found.exit_code != 1, explain(found)
    return found


@pytest.mark.parametrize("shards", [12, 13])
def test_copies_of_proofs_in_another_partition_are_no_violation(case: Case, shards: int) -> None:
    """Two groups of provers, so two good proofs of each shard, in one partition, where the ledger takes the first.

    A stranger copies the second lot to a partition that an audit reads before. There are 2^13 ways to pick one
    proof for each shard: too many to try, in an order that the stranger chose.
    """
    first, second = wide(case, shards)
    sealed = [[case.insider.seal("proofs", p) for p in lot] for lot in (first, second)]
    case.log.append("proofs", *sealed[0], *sealed[1], partition=2)
    case.run_ledger()
    assert sum(isinstance(o.event, StepProven) for _, o in case.log.opened("ledger")) == 1
    accused(case)  # so far it is fine
    case.log.append("proofs", *sealed[1], partition=0)  # copies, byte for byte: no key is needed
    accused(case)


def test_proofs_that_came_too_early_and_were_refused_are_no_violation(case: Case) -> None:
    """A prover's key alone is enough where the ledger itself refused the first lot, and published that it did."""
    first, second = wide(case, 13)
    steps = case.log.records("steps")
    committed = case.log.find("steps", StepCommitted)
    case.log.delete(committed)
    with open_event_log(case.log.url) as log:
        runner = case.ledger(log)
        case.log.append("proofs", *(case.insider.seal("proofs", p) for p in first))
        runner.run_once(timeout=0.0)  # refuses all: no step is committed yet
        case.log.append("steps", committed.value, partition=committed.partition)
        case.log.append("proofs", *(case.insider.seal("proofs", p) for p in second))
        runner.run_once(timeout=0.0)
        runner.close()
    assert len(case.log.records("dead-letters")) >= 13
    assert len(steps) == len(case.log.records("steps"))
    assert sum(isinstance(o.event, StepProven) for _, o in case.log.opened("ledger")) == 1
    accused(case)


# Copies of ledger entries, while the log grows


class Growing:
    """A log to which ledger and anchor append while an audit reads it: between ``ledger`` and ``checkpoints``."""

    def __init__(self, log: EventLog, grow: Any) -> None:
        self._log, self._grow = log, grow

    def reader(self, topics: list[str]) -> Reader:
        if topics == ["checkpoints"]:
            self._grow()
        return self._log.reader(topics)


@pytest.mark.parametrize("copies", [0, 1, 5])
def test_copies_of_entries_in_a_log_that_grows_are_no_violation(case: Case, copies: int) -> None:
    """Where the reading of entries ends is counted in leaves, and copies are none."""
    ledger, checkpoints = case.log.records("ledger"), case.log.records("checkpoints")
    tail, newest = ledger[-1], checkpoints[-1]
    case.log.delete(tail, newest)
    case.log.append("ledger", *[ledger[0].value] * copies)

    def grow() -> None:
        case.log.append("ledger", tail.value)
        case.log.append("checkpoints", newest.value)

    # Before it grew the log ended with a checkpoint of all that it had, as a ledger's always does.
    case.log.append(
        "checkpoints", case.insider.checkpoint([o.body for _, o in case.log.opened("ledger")][: len(ledger) - 1])
    )
    policy = replace(case.policy, anchors=None)
    with open_event_log(case.log.url, create=False) as log:
        found = collect(Growing(log, grow), case.run_id, policy)  # type: ignore[arg-type]
    out = audit(found, case.run_id, policy, case.circuits, case._verify, [], ORIGIN)
    assert out.exit_code != 1, explain(out)


# A run that is not there


def test_garbage_does_not_accuse_a_run_that_is_not_in_the_log(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked for an id that nobody has used (one wrong digit), an audit says so, whatever a stranger has written."""
    policy = case.folder / "policy.json"
    policy.write_text(case.policy.to_json())
    wrong = bytes([case.run_id[0] ^ 1]) + case.run_id[1:]
    command = [
        "--home",
        str(case.sound.home.path),
        "--log",
        case.log.url,
        "--run",
        wrong.hex(),
        "--policy",
        str(policy),
    ]
    assert main(command) == 2
    assert "no run" in capsys.readouterr().err
    case.log.append("proofs", b"\0")
    assert main(command) == 2, capsys.readouterr().out


# Keys that the policy does not name


def test_an_entry_by_a_ledger_key_that_is_not_pinned_is_no_violation(case: Case) -> None:
    """Any attested key of the role LEDGER, another log's say, must not make a pinned ledger's sound log look truncated.

    ``ledger_keys`` (docs/auditing.md): "public keys that may sign entries and checkpoints".
    """
    other = new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.LEDGER, other))
    case.log.append("ledger", seal("ledger", RunOpened(bytes(32)), other))
    found = case.audit()
    assert found.exit_code != 1, explain(found)


def test_a_policy_that_does_not_name_the_trainers_root_is_no_violation_by_the_run(case: Case) -> None:
    """docs/auditing.md: 2 is for "evidence that no policy names"."""
    policy = replace(case.policy, roots={"SIMULATED": frozenset({new_signing_key().public_key})})
    found = case.audit(policy)
    assert found.exit_code == 2, explain(found)


def test_an_entry_by_a_ledger_key_that_is_not_pinned_does_not_stop_the_anchor(case: Case) -> None:
    """Nor the anchor consumer of the pinned ledger."""
    other = new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.LEDGER, other))
    case.log.append("ledger", seal("ledger", RunOpened(bytes(32)), other))
    honest = [o.body for _, o in case.log.opened("ledger") if o.key_id != other.key_id]
    entry = RunOpened(b"\1" * 32)
    case.log.append("ledger", case.insider.seal("ledger", entry))
    case.log.append("checkpoints", case.insider.checkpoint([*honest, leaf_data(entry)]))
    assert run(case) == [True]


def test_a_receipt_of_a_kind_that_this_release_cannot_read_is_no_violation(case: Case) -> None:
    """Anchors of other kinds are announced (``tpm:``, ``evm:``); what could not be checked is 2."""
    (event,) = [o.event for _, o in case.log.opened("anchors")][-1:]
    case.log.append("anchors", case.insider.seal("anchors", replace(event, anchor="tpm:0x1500010")))  # type: ignore[type-var]
    found = case.audit(replace(case.policy, anchors=None))
    assert found.exit_code != 1, explain(found)
