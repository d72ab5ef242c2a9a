"""Attacks on the quorum of witnesses that an auditor asks for. Here the ledger's own key holder is the adversary."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest

from consumers.audit.outcome import Audit
from consumers.ledger.runner import LedgerRunner
from consumers.ledger.witnesses import Cosigners
from consumers.options import Reporter
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.note import NoteSignature, VerifierKey, add_signatures
from schemas.events import CheckpointIssued, RunFinished
from schemas.signing import decode_unverified
from schemas.wire import open_event_log
from tests.attacks.conftest import assert_doubts, assert_violates
from tests.support.forge import Case, explain
from tests.support.pipeline import ORIGIN
from tests.support.witness import Response, Witness, cosignature, serving
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Policy, Witnesses
from zk_autograd.proofs.store import CircuitStore
from zk_autograd.tee.keys import SigningKey, new_signing_key

NAMES = ("w0.example", "w1.example", "w2.example")
KEYS = [new_signing_key() for _ in NAMES]
WITNESSES = [WitnessKey(name, key.public_key) for name, key in zip(NAMES, KEYS, strict=True)]


def policy(case: Case, quorum: int = 2, urls: Sequence[str] = ("", "", "")) -> Policy:
    """The careful auditor's, who wants so many of three witnesses."""
    return replace(case.policy, witnesses=Witnesses(quorum, dict(zip(WITNESSES, urls, strict=True))))


def last_note(case: Case) -> str:
    events = [o.event for _, o in case.log.opened("checkpoints") if isinstance(o.event, CheckpointIssued)]
    return events[-1].note


def by(number: int, note: str, key: SigningKey | None = None, text: str | None = None) -> NoteSignature:
    """A line under the name and id of witness ``number``."""
    line = cosignature(key or KEYS[number], NAMES[number], text or parse_checkpoint(note).note.text)
    return replace(line, key_id=WITNESSES[number].key_id)


def publish(case: Case, *lines: NoteSignature, note: str | None = None) -> None:
    """The ledger signs for its checkpoint with these lines."""
    longer = add_signatures(note or last_note(case), lines)
    case.log.append("checkpoints", case.insider.seal("checkpoints", CheckpointIssued(longer)))


def audit(case: Case, quorum: int = 2) -> Audit:
    return case.audit(policy(case, quorum))


def test_a_log_with_its_quorum_is_sound(case: Case) -> None:
    note = last_note(case)
    publish(case, by(0, note), by(2, note))
    found = audit(case)
    assert found.exit_code == 0, explain(found)
    assert found.cosigned == 5
    assert "5 of 5 entries cosigned by 2 of 3 witnesses" in found.checks[8].detail


def test_a_log_that_no_witness_has_seen_is_not_called_sound(case: Case) -> None:
    assert_doubts(audit(case, 1), 8)


def test_too_few_witnesses(case: Case) -> None:
    publish(case, by(1, last_note(case)))
    assert audit(case, 1).exit_code == 0
    assert_doubts(audit(case, 2), 8)


def test_one_witness_counted_twice(case: Case) -> None:
    """On one checkpoint twice, and on two copies of the checkpoint once each."""
    note = last_note(case)
    publish(case, by(0, note), cosignature(KEYS[0], NAMES[0], parse_checkpoint(note).note.text, 7))
    publish(case, by(0, note), note=note)
    assert_doubts(audit(case), 8)


def test_two_witnesses_on_two_copies_of_a_checkpoint(case: Case) -> None:
    """Each saw the same tree, but no note shows a quorum. The ledger collects them on one."""
    note = last_note(case)
    publish(case, by(0, note))
    publish(case, by(1, note), note=note)
    assert_doubts(audit(case), 8)
    publish(case, by(0, note), by(1, note), note=note)
    assert audit(case).exit_code == 0


def test_a_foreign_witness(case: Case) -> None:
    note, text = last_note(case), parse_checkpoint(last_note(case)).note.text
    publish(case, by(0, note), cosignature(new_signing_key(), "w9.example", text))
    assert_doubts(audit(case), 8)


def test_a_foreign_key_under_a_witnesss_name(case: Case) -> None:
    """Its key id is another: it is nobody's."""
    note, text = last_note(case), parse_checkpoint(last_note(case)).note.text
    publish(case, by(0, note), cosignature(new_signing_key(), NAMES[1], text))
    assert_doubts(audit(case), 8)


def test_a_forged_cosignature(case: Case) -> None:
    """Under a witness's name and key id, by the ledger."""
    note = last_note(case)
    publish(case, by(0, note), by(1, note, key=case.insider.key("ledger")), by(2, note))
    assert_violates(audit(case), 8, only=True)


def test_a_cosignature_of_another_size(case: Case) -> None:
    """Moved from the checkpoint of two entries, which the witnesses did cosign."""
    old = decode_unverified("checkpoints", case.log.records("checkpoints")[0].value).event
    assert isinstance(old, CheckpointIssued)
    text = parse_checkpoint(old.note).note.text
    assert parse_checkpoint(old.note).size == 2
    publish(case, by(0, last_note(case), text=text), by(1, last_note(case), text=text))
    assert_violates(audit(case), 8, only=True)


def test_a_quorum_on_an_older_tree_only(case: Case) -> None:
    records = case.log.records("checkpoints")
    old = decode_unverified("checkpoints", records[0].value).event
    assert isinstance(old, CheckpointIssued)
    longer = add_signatures(old.note, [by(0, old.note), by(1, old.note)])
    case.log.insert(records[1], case.insider.seal("checkpoints", CheckpointIssued(longer)))
    found = audit(case)
    assert_doubts(found, 8)
    assert found.cosigned == 2


def test_a_host_that_hides_the_cosigned_checkpoint(case: Case) -> None:
    note = last_note(case)
    publish(case, by(0, note), by(1, note))
    case.log.delete(case.log.records("checkpoints")[-1])
    assert_doubts(audit(case), 8)


# A split view, with witnesses that answer


def ledger(case: Case, witnesses: Sequence[Witness], said: list[str]) -> None:
    """Lets the real ledger go on with this log, and ask these witnesses."""

    class Said(Reporter):
        def __call__(self, line: str, **facts: object) -> None:
            said.append(line)

    home = case.sound.home
    chosen = replace(home.policy(), witnesses=policy(case, 2, [w.url for w in witnesses]).witnesses)
    assert chosen.witnesses is not None
    with open_event_log(case.log.url) as log:
        runner = LedgerRunner(
            log, chosen, case.insider.key("ledger"), ORIGIN, CircuitStore(home.path, chosen.circuits), case.verify,
            Said(True), cosigners=Cosigners(chosen.witnesses, Said(True)),
        )  # fmt: skip
        for _ in range(3):
            runner.run_once(timeout=0.0)
        runner.close()


@pytest.fixture
def asked(case: Case) -> list[Witness]:
    with ExitStack() as stack:
        log_key = VerifierKey(ORIGIN, case.insider.key("ledger").public_key)
        yield [  # type: ignore[misc]
            stack.enter_context(serving(Witness(name, {ORIGIN: log_key}, key)))
            for name, key in zip(NAMES, KEYS, strict=True)
        ]


def test_the_ledger_collects_its_quorum_and_the_audit_finds_it(case: Case, asked: list[Witness]) -> None:
    said: list[str] = []
    ledger(case, asked, said)
    assert said == ["cosigned at size 5"]
    assert audit(case, 3).exit_code == 0
    before = len(case.log.records("checkpoints"))
    ledger(case, asked, said)
    assert len(case.log.records("checkpoints")) == before, "nothing is said twice"


def test_a_witness_is_shown_only_what_is_published(case: Case, asked: list[Witness]) -> None:
    """Or a crash could leave it with a tree that never was: it would refuse the ledger's next one for ever."""
    missing: list[bytes] = []

    def bend(response: Response, checkpoint: Checkpoint | None) -> Response:
        body = asked[0].requests[-1]
        notes = [o.event.note for _, o in case.log.opened("checkpoints") if isinstance(o.event, CheckpointIssued)]
        missing.extend([body] if body.decode().partition("\n\n")[2] not in notes else [])
        return response

    case.log.delete(*case.log.records("ledger"), *case.log.records("checkpoints"), *case.log.records("anchors"))
    asked[0].bend = bend
    said: list[str] = []
    ledger(case, asked, said)
    assert said[-1] == "cosigned at size 5"
    assert asked[0].requests
    assert not missing


def test_a_ledger_with_a_witness_down_goes_on_and_says_so(case: Case, asked: list[Witness]) -> None:
    said: list[str] = []
    asked[1].url = "http://127.0.0.1:1/"
    case.log.delete(*case.log.records("ledger"), *case.log.records("checkpoints"), *case.log.records("anchors"))
    case.anchor_path.unlink()
    ledger(case, asked, said)
    assert [line for line in said if line.startswith("leaf")][-1].endswith("closed after 3 steps")
    assert any("witness w1.example: cannot be reached" in line for line in said)
    assert said[-1] == "cosigned at size 5, but not by w1.example"
    case.anchor(case.log.records("checkpoints")[-1].value, case.leaves())
    assert audit(case, 2).exit_code == 0
    assert_doubts(audit(case, 3), 8)


def test_a_split_view(case: Case, asked: list[Witness]) -> None:
    """The ledger shows the witnesses one history, and this auditor another, signed and anchored just as well."""
    said: list[str] = []
    ledger(case, asked, said)
    story = case.story()
    story.edit(RunFinished, steps=2)
    story.events = [e for e in story.events if getattr(e, "step", 0) != 3]
    story.edit(RunFinished, state_root=story.step(2).state_root)
    story.proofs = {slot: proof for slot, proof in story.proofs.items() if slot[0] != 3}
    case.retell(story)
    assert case.audit().exit_code == 0, "without witnesses nobody could tell"
    assert_doubts(audit(case), 8)
    said.clear()
    ledger(case, asked, said)
    assert sum("the ledger was rolled back, or another one runs" in line for line in said) == 3
    assert_doubts(audit(case), 8)
    held = next(iter(asked[0].heads.values()))
    assert held[0] == 5
