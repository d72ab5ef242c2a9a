"""``zk-receipt``: what it makes from a log, a stranger checks with a file and a key."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.receipt.cli import main
from ledger.checkpoint import parse_checkpoint
from ledger.note import VerifierKey, add_signatures
from ledger.proof import parse_proof
from schemas.events import CheckpointIssued
from tests.support.forge import Case
from tests.support.pipeline import ORIGIN
from tests.support.witness import cosignature
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Witnesses
from zk_autograd.tee.keys import new_signing_key

KEYS = {name: new_signing_key() for name in ("w0", "w1", "w2")}
WITNESSES = [WitnessKey(name, key.public_key) for name, key in KEYS.items()]

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(case: Case, capsys: pytest.CaptureFixture[str]) -> Run:
    """One command; exit code and all that it said."""

    def go(command: str, *words: object, made: bool = True) -> tuple[int, str]:
        where = ["--home", case.sound.home.path, "--log", f"{case.log.url}?mode=ro", "--out", case.folder / "proofs"]
        code = main([command, *map(str, words), *(map(str, where) if made and command != "check" else ())])
        said = capsys.readouterr()
        return code, said.out + said.err

    return go


@pytest.fixture
def key(case: Case) -> str:
    return str(VerifierKey(ORIGIN, case.insider.key("ledger").public_key))


def path(case: Case, name: str) -> Path:
    return case.folder / "proofs" / name


def test_a_steps_proof_is_made_from_the_log_and_checked_without_it(case: Case, run: Run, key: str) -> None:
    code, said = run("make", 2, "--run", "run")
    assert code == 0, said
    assert "entry-2.tlog-proof" in said
    assert key in said
    case.log.path.unlink()
    code, said = run("check", path(case, "entry-2.tlog-proof"), "--key", key)
    assert code == 0, said
    assert said.startswith("HOLDS: entry 2 of 5 of zk-autograd/ledger: StepProven (run_id ")
    assert ", step 2, " in said
    code, said = run("check", path(case, "entry-2.tlog-proof"), "--key", key, "--json")
    facts: dict[str, Any] = json.loads(said)
    assert (code, facts["holds"], facts["index"], facts["size"]) == (0, True, 2, 5)
    assert facts["entry"]["run_id"] == case.run_id.hex()


def test_all_entries_can_be_proven_at_once_and_by_a_policy(case: Case, run: Run) -> None:
    policy = case.folder / "policy.json"
    policy.write_text(case.policy.to_json())
    code, said = run("make", 0, 1, 2, 3, 4, "--json")
    assert code == 0
    assert [json.loads(line)["index"] for line in said.splitlines()] == [0, 1, 2, 3, 4]
    kinds = ["RunOpened", "StepProven", "StepProven", "StepProven", "RunClosed"]
    for index, kind in enumerate(kinds):
        code, said = run("check", path(case, f"entry-{index}.tlog-proof"), "--policy", policy)
        assert code == 0
        assert kind in said


def test_a_proof_that_is_altered_does_not_hold(case: Case, run: Run, key: str) -> None:
    run("make", 2)
    good = path(case, "entry-2.tlog-proof")
    proof = parse_proof(good.read_text())
    assert proof.extra is not None
    for number, bad in enumerate(
        (
            replace(proof, extra=proof.extra[:-1] + bytes([proof.extra[-1] ^ 1])),
            replace(proof, index=3),
            replace(proof, path=proof.path[::-1]),
        )
    ):
        good.write_text(bad.encode())
        code, said = run("check", good, "--key", key)
        assert (code, said.split(":")[0]) == (1, "DOES NOT HOLD"), number
    good.write_text(proof.encode() + "\n")
    assert run("check", good, "--key", key)[0] == 1
    good.write_text(proof.encode())
    other = str(VerifierKey(ORIGIN, new_signing_key().public_key))
    code, said = run("check", good, "--key", other, "--json")
    assert (code, json.loads(said)["holds"]) == (1, False)
    assert run("check", good, "--key", key, "--origin", "another.example/log")[0] == 1
    assert run("check", good, "--key", key)[0] == 0


def test_extra_data_of_ones_own_goes_beside_the_entry(case: Case, run: Run, key: str) -> None:
    (case.folder / "mine").write_bytes(b"model card")
    run("make", 2, "--extra", case.folder / "mine")
    proof = path(case, "entry-2.tlog-proof")
    assert parse_proof(proof.read_text()).extra == b"model card"
    assert run("check", proof, "--key", key)[0] == 1, "it is not the entry"
    assert run("check", proof, "--key", key, "--entry", path(case, "entry-2.entry"))[0] == 0


def test_cose_receipts_are_made_in_the_ledgers_home_and_checked_anywhere(case: Case, run: Run, key: str) -> None:
    code, said = run("make", 1, 4, "--format", "cose")
    assert code == 0, said
    for index in (1, 4):
        words = (path(case, f"entry-{index}.cose"), "--key", key)
        assert run("check", *words)[0] == 2, "the entry has to be given"
        code, said = run("check", *words, "--entry", path(case, f"entry-{index}.entry"))
        assert (code, said.startswith(f"HOLDS: entry {index} of 5")) == (0, True)
    code, said = run("check", path(case, "entry-1.cose"), "--key", key, "--entry", path(case, "entry-4.entry"))
    assert code == 1


def test_a_cose_receipt_needs_the_ledgers_key(case: Case, run: Run, tmp_path: Path) -> None:
    home = tmp_path / "other"
    (home / "keys").mkdir(parents=True)
    policy = case.folder / "policy.json"
    policy.write_text(case.policy.to_json())
    words = ("--policy", str(policy), "--home", str(home), "--log", case.log.url, "--format", "cose")
    code, said = run("make", 1, *words, made=False)
    assert code == 2
    assert "--format tlog-proof, which needs no key" in said
    assert not list((home / "keys").iterdir()), "and none is made"


def test_the_log_is_shown_to_begin_with_what_one_knows(case: Case, run: Run, key: str) -> None:
    records = case.log.records("checkpoints")
    old = case.log.opened("checkpoints")[0][1].event
    assert isinstance(old, CheckpointIssued)
    assert parse_checkpoint(old.note).size == 2
    (case.folder / "old").write_text(old.note)
    code, said = run("extend", 2)
    assert code == 0, said
    words = (path(case, "from-2-to-5.cose"), "--key", key)
    assert run("check", *words)[0] == 2
    code, said = run("check", *words, "--since", case.folder / "old")
    assert (code, said.strip()) == (0, f"HOLDS: the log {ORIGIN} of 5 entries begins with its first 2 as you know them")
    newest = case.log.opened("checkpoints")[-1][1].event
    assert isinstance(newest, CheckpointIssued)
    (case.folder / "newer").write_text(newest.note)
    code, said = run("check", *words, "--since", case.folder / "newer")
    assert code == 2
    assert "its checkpoint is of 5 entries, and the receipt goes on from 2" in said
    forked = case.insider.checkpoint([b"a", b"b"])
    case.log.replace(records[0], forked)
    event = case.log.opened("checkpoints")[0][1].event
    assert isinstance(event, CheckpointIssued)
    (case.folder / "old").write_text(event.note)
    assert run("check", *words, "--since", case.folder / "old")[0] == 1


def test_a_proof_carries_its_quorum(case: Case, run: Run, key: str) -> None:
    event = case.log.opened("checkpoints")[-1][1].event
    assert isinstance(event, CheckpointIssued)
    text = parse_checkpoint(event.note).note.text
    policy = case.folder / "policy.json"
    policy.write_text(replace(case.policy, witnesses=Witnesses(2, dict.fromkeys(WITNESSES, ""))).to_json())
    code, said = run("make", 2, "--policy", policy)
    assert code == 2
    assert "2 of 3 witnesses" in said
    note = add_signatures(event.note, [cosignature(KEYS[name], name, text) for name in ("w0", "w1")])
    case.log.append("checkpoints", case.insider.seal("checkpoints", CheckpointIssued(note)))
    assert run("make", 2, "--policy", policy)[0] == 0
    proof = path(case, "entry-2.tlog-proof")
    code, said = run("check", proof, "--policy", policy)
    assert code == 0
    assert "cosigned by at least 2 of your witnesses" in said
    words = [word for w in WITNESSES for word in ("--witness", str(w))]
    assert run("check", proof, "--key", key, *words, "--quorum", 2)[0] == 0
    assert run("check", proof, "--key", key, *words, "--quorum", 3)[0] == 1
    itself = WitnessKey("itself", case.insider.key("ledger").public_key)
    code, said = run("check", proof, "--key", key, "--witness", itself, "--quorum", 1)
    assert code == 2
    assert "itself has the key of a ledger" in said
    run("make", 2, "--policy", policy, "--format", "cose")
    cose = ("check", path(case, "entry-2.cose"), "--entry", path(case, "entry-2.entry"), "--policy", policy)
    code, said = run(*cose)
    assert code == 2
    assert "has no cosignatures" in said


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("make", 5), "covers 5 entries"),
        (("make", 9, "--run", "run"), "no entry for step 9"),
        (("make", 1, "--origin", "x"), "no checkpoint of x"),
        (("extend", 5), "expected an older size from 1 to 4, got 5"),
        (("extend", 0), "expected an older size from 1 to 4, got 0"),
        (("check", "nowhere", "--key", "KEY"), "nowhere: No such file"),
        (("check", "x"), "either --policy FILE"),
        (("check", "x", "--key", "nonsense"), "verifier key: expected"),
        (("check", "x", "--key", "KEY", "--quorum", 1), "--witness and --quorum go together"),
        (("check", "x", "--key", "KEY", "--quorum", 1, "--witness", "KEY"), "witness key"),
    ],
)
def test_a_wrong_use_is_said_in_a_line(case: Case, run: Run, key: str, words: tuple[object, ...], reason: str) -> None:
    code, said = run(*(key if word == "KEY" else word for word in words))
    assert code == 2
    assert reason in said
    assert len(said.splitlines()) == 1


def test_a_run_that_is_not_there_is_said_with_those_that_are(case: Case, run: Run) -> None:
    code, said = run("make", 1, "--run", "nobody")
    assert code == 2
    assert said.splitlines() == [
        "zk-receipt: no run 'nobody' in this log; it holds:",
        f"  {case.run_id.hex()}  run",
    ]


def test_help_shows_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "consumers.receipt.cli", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "zk-receipt make 3 --run my-run" in done.stdout
