"""Attacks on what an audit does faster than record by record: hashes instead of signatures, batches of proofs, and what
a watch keeps between two starts."""

from __future__ import annotations

import errno
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchor.file_record import decode_record, identity_text
from consumers.audit import spill, step_proofs
from consumers.audit.collect import collect
from schemas.codec import encode
from schemas.events import (
    Anchored,
    EnclaveAttested,
    Event,
    EvidenceClass,
    ProofAttached,
    Role,
    RunOpened,
    Signed,
    StepCommitted,
)
from schemas.signing import decode_unverified, seal
from schemas.wire import open_event_log
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.attacks.test_watched_logs import Watching
from tests.consumers.test_audit_collect import cut_back
from tests.support.events import digest
from tests.support.forge import Case, explain, report
from zk_autograd.errors import UsageError
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import new_signing_key


def unsigned(case: Case, topic: str, event: Event, key_id: bytes | None = None) -> bytes:
    """A record that somebody without a key has written under the id of one that there is."""
    return encode(Signed(encode(event), key_id or case.insider.key(topic).key_id, bytes(64)))


def first_proof(case: Case) -> ProofAttached:
    event = decode_unverified("proofs", case.proofs()[1, 0].value).event
    assert isinstance(event, ProofAttached)
    return event


# Hashes instead of signatures


@pytest.mark.parametrize("partitions", [(0, 0), (0, 1, 2)])
def test_a_strangers_proof_that_is_there_twice(case: Case, partitions: tuple[int, ...]) -> None:
    """What: a stranger writes a proof under a prover's id, and the same bytes again. Why: where signatures come last,
    a copy was left out as one that says nothing before its original was refused, so two audits counted differently.
    Where: ``_repeat``."""
    value = unsigned(case, "proofs", replace(first_proof(case), proof=b"mine"))
    for partition in partitions:
        case.log.append("proofs", value, partition=partition)
    found = case.audit()
    assert_doubts(found, 1)
    assert len(found.checks[1].findings) == len(partitions), explain(found)
    assert "repeated" not in found.checks[0].detail


def test_a_strangers_entry_under_a_ledgers_key_that_is_not_pinned(case: Case) -> None:
    """What: an entry nobody signed, under a key that is introduced, but not the policy's. Why: two things are wrong
    with it, and two audits named another one. Where: ``ByCheckpoints.take``."""
    other = new_signing_key()
    case.log.append("steps", case.insider.introduce(Role.LEDGER, other))
    case.log.append("ledger", unsigned(case, "ledger", RunOpened(bytes(32)), other.key_id))
    assert_doubts(case.audit(), 1)


# What a watch keeps


@pytest.fixture
def watch(case: Case, auditor_home: Path) -> Callable[[], Watching]:
    """A new watch, of a home that remembers what the ones before saw."""
    return lambda: Watching(case, live=False, words=("--home", str(auditor_home), "--resume"))


def test_a_watch_that_saw_less_does_not_make_a_home_forget(case: Case, watch: Callable[[], Watching]) -> None:
    """What: two watches of one home overlap (a restart); the host shows the later one the whole log, then takes it back
    to what the earlier one knows. Why: the earlier one put its smaller log down over the larger. Where:
    ``Watch.round``."""
    go_on = cut_back(case)
    earlier, later = watch(), watch()
    assert earlier.look() == set()
    go_on()
    assert later.look() == set()
    cut_back(case)
    assert "log rolled back" in earlier.look()
    assert "log rolled back" in watch().look()


def test_a_disk_that_is_full_is_no_roll_back(
    case: Case, watch: Callable[[], Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What: a hostile prover fills the topic until the auditor's ``$TMPDIR`` has no room. Why: whatever went wrong in
    reading a run that had been there was the alarm that it is gone. Where: ``Watch.round``."""
    watching = watch()
    assert watching.look() == set()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spill, "_WRITE", 1)
    monkeypatch.setattr(spill.os, "pwrite", full)
    with pytest.raises(UsageError, match="No space left"):
        watching.look()


def test_anchors_without_number_do_not_blind_a_watch(case: Case, watch: Callable[[], Watching]) -> None:
    """What: who holds an anchoring key publishes true receipts of thousands of anchors that it made up. Why: where the
    policy names no anchors each is kept, and a file that had grown too large was not read again. Where:
    ``Seen.compare``."""
    policy = replace(case.policy, anchors=None)
    watching = watch()
    watching.watch._policy = policy
    *_, last = (o.event for _, o in case.log.opened("anchors"))
    assert isinstance(last, Anchored)
    key = case.insider.key("anchors")
    values, at = list[bytes](), decode_record(last.receipt)
    for number in range(7_200):
        name = digest(f"anchor {number}")
        receipt = replace(at, anchor_id=name, counter=1, previous=name)
        event = replace(last, anchor=identity_text(name), counter=1, receipt=receipt.encode())
        values.append(seal("anchors", event, key))
    case.log.append("anchors", *values)
    assert watching.look() == set()
    assert watching.look() == set()
    honest, found = case.log.opened("anchors")[0][1].event, watching.watch._seen.receipts
    assert isinstance(honest, Anchored)
    assert honest.anchor in found


# Batches of proofs


def test_large_proofs_are_not_held_in_thousands(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What: a prover attaches thousands of proofs as large as a record may be. Why: proofs were taken from the disk by
    number, 8,192 at a time, which is half a gigabyte of them. Where: ``check_proofs``."""
    key, event = case.insider.key("proofs"), first_proof(case)
    large = b"".join(digest(f"{i}") for i in range(1_900))
    other = replace(event, circuit_id=digest("another circuit"))
    values = (seal("proofs", replace(other, proof=digest(f"proof {n}") + large), key) for n in range(1_200))
    case.log.append("proofs", *values)
    held = 0
    judge = step_proofs._Rule.judge

    def watched(rule: Any, batch: Any) -> None:
        nonlocal held
        held = max(held, sum(len(opened.body) for _, _, opened, _ in batch))
        judge(rule, batch)

    monkeypatch.setattr(step_proofs._Rule, "judge", watched)
    found = case.audited("all", case.policy)
    assert found.exit_code == 0, explain(found)
    assert 60 << 20 < held < 66 << 20


# Memory


def peak(case: Case, policy: Policy) -> int:
    """The most that collecting the run held, in bytes."""
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        tracemalloc.start()
        collect(log, case.run_id, policy)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found


def test_copies_of_checkpoints_and_receipts_are_not_kept(case: Case) -> None:
    """What: a stranger plays one checkpoint and one receipt again and again. Why: all were kept until the end of the
    topic, and only then told from the first. Where: ``_listed``."""
    for topic in ("checkpoints", "anchors"):
        case.log.append(topic, *[case.log.records(topic)[-1].value] * 6_000)
    assert peak(case, case.policy) < 5 << 20
    found = case.audit()
    assert found.exit_code == 0, explain(found)
    assert "12000 repeated" in found.checks[0].detail


def test_introductions_of_nobody_are_not_kept_on_first_use(case: Case) -> None:
    """What: a stranger writes large introductions that nobody signed. Why: an auditor without a policy kept whatever
    decodes, and called its first bytes a root that is trusted. Where: ``_heads``."""
    honest = case.sound.home.policy().roots["SIMULATED"]
    policy = Policy(frozenset({"SIMULATED"}), srs_classes=frozenset({"DEV"}), first_use=True)
    key = new_signing_key()
    values = []
    for number in range(3_000):
        evidence = digest(f"root {number}") + bytes(20_000)
        event = EnclaveAttested(Role.PROVER, key.public_key, EvidenceClass.SIMULATED, evidence, 0)
        values.append(encode(Signed(encode(event), key.key_id, bytes(64))))
    case.log.append("steps", *values)
    assert peak(case, policy) < 45 << 20
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        found = collect(log, case.run_id, policy)
    assert found.policy.roots["SIMULATED"] == honest
    assert found.start is not None


# Numbers


def test_rates_that_add_up_to_no_number_leave_a_report_that_others_can_read(case: Case) -> None:
    """What: a trainer declares rates near the largest float. Why: their sum is none, and JSON has no word for it.
    Where: ``Rates.facts``."""
    story = case.story()
    story.edit(StepCommitted, rates=(1.7e308,))
    case.retell(story)
    found = case.audit()
    assert_violates(found, 4)
    json.dumps(report(found), allow_nan=False)
