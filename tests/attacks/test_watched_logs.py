"""Attacks that only somebody who looked before can see: what was there is gone, or another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.audit import watch
from consumers.audit.cli import TOOLS, main
from consumers.audit.proofs import Job, Verdict
from consumers.audit.watch import Alarm, Watch
from schemas.events import ProofAttached, RunFinished, RunOpened, StepCommitted
from schemas.signing import decode_unverified
from tests.consumers.test_audit_collect import cut_back
from tests.support.forge import Case, flipped
from tests.support.pipeline import ORIGIN
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit


class Watching:
    """A watch over a case, and how many proofs it had verified in each round."""

    def __init__(
        self, case: Case, policy: Policy | None = None, live: bool = False, words: Sequence[str] = ()
    ) -> None:  # fmt: skip
        from anchor import open_anchor

        words = ["--home", str(case.sound.home.path), *words, "--log", case.log.url, "--origin", ORIGIN, "--run"]
        self.verified: list[int] = []

        def verify(circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict]:
            self.verified.append(len(jobs))
            return case._verify(circuit, jobs)

        args = TOOLS["watch"]().parse_args([*words, case.run_id.hex()])
        anchors = [open_anchor(case.anchor_uri)] if live else []
        self.watch = Watch(args, policy or case.policy, anchors, verify)

    def look(self) -> set[str]:
        return {alarm.kind for alarm in self.alarms()}

    def alarms(self) -> list[Alarm]:
        return self.watch.round()[1]


def test_a_log_that_only_grows_raises_no_alarm_and_proofs_are_verified_once(case: Case) -> None:
    go_on = cut_back(case)
    watching = Watching(case, live=True)
    assert watching.look() == set()
    go_on()
    assert watching.look() == set()
    assert watching.look() == set()
    assert watching.verified == [2, 4]


def test_a_ledger_that_grows_beside_the_run_raises_no_alarm(case: Case) -> None:
    watching = Watching(case)
    watching.look()
    case.log.append("ledger", case.insider.seal("ledger", RunOpened(bytes(32))))
    case.sign_and_anchor(case.leaves())
    assert watching.look() == set()


def test_a_log_that_is_rolled_back_to_an_older_sound_state(case: Case) -> None:
    """An audit of what is left finds nothing wrong: everything was taken back together, the file anchor, too."""
    watching = Watching(case)
    watching.look()
    cut_back(case)
    assert case.audit().exit_code == 0
    assert watching.look() == {"log rolled back", "checkpoint rolled back", "anchor rolled back"}


def test_a_log_that_is_told_anew(case: Case) -> None:
    """Insiders replace the ledger from its first entry on: sound by itself, and not what was seen."""
    watching = Watching(case, policy=replace(case.policy, anchors=None))
    watching.look()
    run_id = case.run_id
    leaves = case.log.records("ledger")
    for topic in ("ledger", "checkpoints", "anchors"):
        case.log.clear(topic)
    entries = [case.insider.seal("ledger", RunOpened(bytes(32))), *(r.value for r in leaves)]
    case.log.append("ledger", *entries)
    case.anchor_path = case.folder / "fresh"
    case.sign_and_anchor(case.leaves())
    assert case.run_id == run_id
    assert case.audit(replace(case.policy, anchors=None)).exit_code == 0
    assert "log forked" in watching.look()


def test_a_step_that_is_taken_back(case: Case) -> None:
    story = case.story()
    story.events = [e for e in story.events if not isinstance(e, RunFinished)]
    case.retell(story)
    policy = case.policy
    watching = Watching(case, policy)
    assert watching.look() == set()
    case.log.delete(case.log.find("steps", StepCommitted, step=3))
    assert {"log rolled back", "violated"} <= watching.look()


def test_a_gap_in_the_chain(case: Case) -> None:
    watching = Watching(case)
    watching.look()
    case.log.delete(case.log.find("steps", StepCommitted, step=2))
    alarms = watching.alarms()
    assert any(a.kind == "violated" and "leaves a gap" in a.text for a in alarms)


def test_a_fork_of_the_chain(case: Case) -> None:
    story = case.story()
    watching = Watching(case)
    watching.look()
    story.edit(StepCommitted, 3, saturated=7)
    told, _ = story.linked()
    (fork,) = (e for e in told if isinstance(e, StepCommitted) and e.step == 3)
    case.log.append("steps", case.insider.seal("steps", fork))
    alarms = watching.alarms()
    assert any(a.kind == "violated" and "forks the chain" in a.text for a in alarms)


def test_a_checkpoint_that_is_gone(case: Case) -> None:
    watching = Watching(case)
    watching.look()
    case.log.delete(case.log.records("checkpoints")[-1])
    assert "checkpoint rolled back" in watching.look()


def test_a_receipt_that_is_gone(case: Case) -> None:
    watching = Watching(case)
    watching.look()
    case.log.delete(case.log.records("anchors")[-1])
    assert watching.look() == {"anchor rolled back"}


@pytest.mark.parametrize("fresh", [False, True], ids=["same object", "new objects"])
def test_a_live_anchor_that_goes_back(case: Case, fresh: bool) -> None:
    from anchor import open_anchor

    watching = Watching(case, live=True)
    assert watching.look() == set()
    content = case.anchor_path.read_bytes()
    case.anchor_path.write_bytes(content[:-208])
    if fresh:  # as for an anchor that keeps nothing of what it said
        watching.watch._live = [open_anchor(case.anchor_uri)]
        assert {"anchor rolled back", "violated"} == watching.look()
    else:
        assert "violated" in watching.look()


def test_what_is_kept_between_rounds_does_not_grow_with_the_log(case: Case) -> None:
    watching = Watching(case)
    watching.look()
    seen = watching.watch._seen
    assert all(isinstance(value, int | bytes | dict) for value in vars(seen).values())
    assert len(seen.receipts) == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_ends_when_the_run_is_sound_and_with_an_alarm_when_it_is_not(
    case: Case, as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "verify_all", lambda circuit, jobs, *_: case._verify(circuit, jobs))
    words = ["watch", "--home", str(case.sound.home.path), "--log", case.log.url, "--run", "run", "--dev"]
    words += ["--interval", "0", *(["--json"] if as_json else [])]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "SOUND" in said if not as_json else json.loads(said)["exit_code"] == 0

    go_on = cut_back(case)
    rounds = 0

    def then(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            go_on()
            case.log.delete(case.log.find("steps", StepCommitted, step=2))

    monkeypatch.setattr(watch.time, "sleep", then)
    assert main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    if as_json:
        assert [json.loads(line)["exit_code"] for line in lines] == [0, 1]
        assert json.loads(lines[-1])["alarms"][0]["kind"] == "violated"
    else:
        assert any(line.startswith("ALARM violated: check 3") for line in lines)


def test_the_command_verifies_each_proof_once_and_a_false_one_is_an_alarm(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stands in for the verifier here: its processes, the batches and EZKL are the real ones."""
    asked: list[int] = []
    real = watch.verify_all

    def counting(circuit: Circuit, jobs: Sequence[Job], *more: Any) -> list[Verdict]:
        asked.append(len(jobs))
        return real(circuit, jobs, *more)

    go_on = cut_back(case)
    monkeypatch.setattr(watch, "verify_all", counting)
    monkeypatch.setattr(watch.time, "sleep", lambda _: go_on())
    words = ["watch", "--home", str(case.sound.home.path), "--log", case.log.url, "--run", "run", "--dev"]
    assert main([*words, "--interval", "0"]) == 0
    assert [n for n in asked if n] == [2, 4]
    record = case.proofs()[3, 0]
    event = decode_unverified("proofs", record.value).event
    assert isinstance(event, ProofAttached)
    forged = replace(event, proof=flipped(event.proof, len(event.proof) - 5))
    story = case.story()
    story.proofs[3, 0] = forged
    case.retell(story)
    capsys.readouterr()
    assert main([*words, "--interval", "0", "--json"]) == 1
    (alarm, *_) = json.loads(capsys.readouterr().out.splitlines()[-1])["alarms"]
    assert alarm["kind"] == "violated"
    assert "check 5" in alarm["text"]


def test_the_command_ends_in_time_and_says_what_a_wrong_use_is(
    case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["watch", "--home", str(tmp_path), "--log", case.log.url, "--run", "run", "--dev", "--seconds", "0"]
    assert main(words) == 2  # without a circuit nothing is sound
    assert main([*words, "--interval", "-1"]) == 2
    assert main([*words, "--interval", "nan"]) == 2
    shutil.rmtree(case.folder)
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err
