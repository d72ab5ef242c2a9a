"""The installed commands, as people run them: exit codes, one line for a wrong use, and nothing changed by an audit."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.audit.cli import main as audit_main
from schemas.events import StepCommitted
from schemas.wire import open_event_log
from tests.support.forge import Case, flipped
from tests.support.pipeline import ORIGIN

BIN = Path(sys.executable).parent
COMMANDS = ("zk-setup", "zk-train", "zk-prove", "zk-ledger", "zk-anchor", "zk-audit", "zk-receipt")


def run(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    command = [str(BIN / str(args[0])), *(str(a) for a in args[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.fixture
def policy(case: Case) -> Path:
    """The pinned policy as a file."""
    path = case.folder / "policy.json"
    path.write_text(case.policy.to_json())
    return path


def audit(case: Case, *args: object) -> subprocess.CompletedProcess[str]:
    return run("zk-audit", "--home", case.sound.home.path, "--log", case.log.url, "--origin", ORIGIN, *args)


def listing(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


# zk-audit


def test_a_sound_run_is_audited_from_its_name(case: Case, policy: Path) -> None:
    before = listing(case.folder)
    done = audit(case, "--run", "run", "--policy", policy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "verdict: SOUND: 3 steps, every one proven, logged and anchored"
    assert "Not proven: that the gradients came from the declared data" in done.stdout
    assert "trusted on first use" not in done.stdout
    assert listing(case.folder) == before, "an audit leaves the log as it is, and no file beside it"


@pytest.mark.parametrize("digits", [8, 64])
def test_the_json_of_an_audit_is_one_object(case: Case, policy: Path, digits: int) -> None:
    done = audit(case, "--run", case.run_id.hex()[:digits].upper(), "--policy", policy, "--json", "--workers", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["verdict"], found["exit_code"], found["run_id"]) == ("sound", 0, case.run_id.hex())
    assert found["checks"][10]["status"] == "passed"
    assert done.stderr == ""


def test_first_use_prints_what_it_trusted(case: Case) -> None:
    done = audit(case, "--run", case.run_id.hex(), "--dev", "--anchor", case.anchor_uri)
    assert done.returncode == 0, done.stdout + done.stderr
    trusted = [line for line in done.stdout.splitlines() if "trusted on first use" in line]
    assert len(trusted) == 4
    assert "INSECURE development evidence: DEV SRS, SIMULATED" in done.stdout


def test_first_use_without_dev_does_not_take_development_evidence(case: Case) -> None:
    done = audit(case, "--run", "run")
    assert done.returncode == 2
    assert "verdict: COULD NOT BE CHECKED: check 11" in done.stdout
    assert "--dev" in done.stdout


def test_a_violated_run_says_where(case: Case, policy: Path) -> None:
    record = case.log.find("steps", StepCommitted, step=2)
    case.log.replace(record, flipped(record.value, len(record.value) - 1))
    done = audit(case, "--run", case.run_id.hex(), "--policy", policy, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [c["number"] for c in found["checks"] if c["status"] == "violated"] == [1, 3, 7]
    assert f"steps/{record.partition}@{record.offset}" in found["checks"][1]["findings"][0]


def test_a_run_that_could_not_be_checked_says_why(case: Case, policy: Path) -> None:
    case.log.delete(case.log.records("anchors")[1])
    done = audit(case, "--run", "run", "--policy", policy)
    assert done.returncode == 2
    assert "verdict: COULD NOT BE CHECKED: check 9" in done.stdout


@pytest.mark.parametrize("wanted", ["no-such-run", "0" * 64, "zz"])
def test_an_unknown_run_ends_in_2_and_lists_those_there_are(case: Case, policy: Path, wanted: str) -> None:
    done = audit(case, "--run", wanted, "--policy", policy)
    assert done.returncode == 2
    assert f"no run '{wanted}'" in done.stderr
    assert f"{case.run_id.hex()}  run" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_audit_makes_no_log(tmp_path: Path, case: Case, policy: Path) -> None:
    done = run("zk-audit", "--log", f"sqlite:///{tmp_path}/none.db", "--run", "x", "--policy", policy)
    assert done.returncode == 2
    assert "there is no event log" in done.stderr
    assert not (tmp_path / "none.db").exists()
    done = run("zk-audit", "--home", tmp_path / "no-home", "--run", "x", "--dev")
    assert done.returncode == 2
    assert not (tmp_path / "no-home").exists()


def test_an_audit_works_on_a_folder_that_cannot_be_written_to(case: Case, policy: Path) -> None:
    case.log.path.chmod(0o444)
    case.folder.chmod(0o555)
    try:
        done = audit(case, "--run", "run", "--policy", policy)
    finally:
        case.folder.chmod(0o755)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_audit_reads_while_others_write(case: Case, policy: Path) -> None:
    with open_event_log(case.log.url) as log, log.producer("someone"):
        done = audit(case, "--run", "run", "--policy", policy)
    assert done.returncode == 0, done.stdout + done.stderr


# Wrong use


def wrong_uses() -> dict[str, tuple[list[str], str]]:
    """By name: the command, and what it must say. ``{home}`` and ``{log}`` are the sound run's, ``{tmp}`` is empty."""
    audit_ = ["zk-audit", "--home", "{home}", "--run", "run"]
    good = [*audit_, "--log", "{log}", "--dev"]
    return {
        "an unknown scheme": ([*audit_, "--log", "redis://localhost"], "starts with one of kafka://, sqlite://"),
        "no scheme": ([*audit_, "--log", "log.db"], "starts with one of"),
        "two slashes": ([*audit_, "--log", "sqlite://log.db"], "three or four slashes"),
        "a log in no folder": ([*audit_, "--log", "sqlite:///{tmp}/none/log.db"], "none"),
        "a log that is a folder": ([*audit_, "--log", "sqlite:///{tmp}"], "is a directory"),
        "a log that is none": ([*audit_, "--log", "sqlite:///{text}"], "not an SQLite file"),
        "no policy file": ([*audit_, "--log", "{log}", "--policy", "{tmp}/none.json"], "No such file"),
        "a policy that is a folder": ([*audit_, "--log", "{log}", "--policy", "{tmp}"], "directory"),
        "a policy that is no JSON": ([*audit_, "--log", "{log}", "--policy", "{text}"], "not JSON"),
        "dev with a policy": ([*good, "--policy", "{home}/policy.json"], "--dev goes without --policy"),
        "no workers": ([*good, "--workers", "0"], "--workers: expected at least 1"),
        "fewer workers": ([*good, "--workers", "-3"], "--workers: expected at least 1"),
        "an unknown anchor": ([*good, "--anchor", "smtp:somewhere"], "expected one of the schemes"),
        "an anchor without scheme": ([*good, "--anchor", "somewhere"], "expected one that begins with"),
        "a prover without policy": (["zk-prove", "--home", "{tmp}"], "run zk-setup first"),
        "a ledger without policy": (["zk-ledger", "--home", "{tmp}"], "run zk-setup first"),
        "an anchor without policy": (["zk-anchor", "--home", "{tmp}"], "run zk-setup first"),
        "a home that is a file": (["zk-ledger", "--home", "{text}"], "run zk-setup first"),
        "a name that is a path": (
            ["zk-prove", "--home", "{home}", "--log", "{log}", "--name", "../x"],
            "expected letters, digits",
        ),
        "an origin with a space": (
            ["zk-ledger", "--home", "{home}", "--log", "{log}", "--origin", "a b"],
            "expected characters other than spaces",
        ),
        "no origin": (["zk-ledger", "--home", "{home}", "--log", "{log}", "--origin", ""], "expected characters"),
        "an anchor of no scheme": (
            ["zk-anchor", "--home", "{home}", "--log", "{log}", "--anchor", "gopher:x"],
            "expected one of the schemes",
        ),
        "tiles over the secret keys": (
            ["zk-ledger", "--home", "{home}", "--log", "{log}", "--tiles", "{home}/.."],
            "with its secret keys is in there",
        ),
        "tiles made anew over the secret keys": (
            ["zk-ledger", "rebuild", "--home", "{home}", "--log", "{log}", "--tiles", "{home}"],
            "with its secret keys is in there",
        ),
        "another ledger's origin": (
            ["zk-ledger", "--home", "{home}", "--log", "{log}", "--origin", "other.example/log", "--idle-exit", "0"],
            "not this ledger's",
        ),
    }


@pytest.mark.parametrize("name", wrong_uses())
def test_a_wrong_use_is_one_line_and_no_traceback(case: Case, tmp_path: Path, name: str) -> None:
    args, message = wrong_uses()[name]
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.mkdir()
    text.write_text("hello\n" * 100)
    places = {"home": case.sound.home.path, "log": case.log.url, "tmp": empty, "text": text}
    done = run(*(a.format(**places) for a in args))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"{args[0]}: ")
    assert done.stdout == ""


@pytest.mark.parametrize(
    "entry",
    [
        '{"version": 2}',
        '{"version": 1, "root": {}}',
        '{"version": 1, "circuits": ["ab"]}',
        '{"version": 1, "evidence_classes": ["TRUSTED"]}',
        '{"version": 1, "srs_classes": "DEV"}',
        "[]",
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_policy_with_a_mistake_in_it_is_refused(case: Case, tmp_path: Path, entry: str) -> None:
    """A misspelt entry is no weaker policy."""
    path = tmp_path / "policy.json"
    path.write_bytes(entry.encode("latin-1"))
    done = audit(case, "--run", "run", "--policy", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"zk-audit: policy {path}: ")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_shows_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert done.stdout.count(f"\n  {command}") >= 2


@pytest.mark.parametrize("command", ["zk-prove", "zk-ledger", "zk-anchor", "zk-audit"])
def test_an_option_that_does_not_exist_is_named(command: str) -> None:
    done = run(command, "--no-such-option")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# Services


@pytest.fixture
def own_home(case: Case, tmp_path: Path) -> Path:
    """A copy of the sound run's home, to be written to."""
    home = tmp_path / "own-home"
    shutil.copytree(case.sound.home.path, home, symlinks=True)
    return home


@pytest.mark.parametrize("command", ["zk-prove", "zk-ledger", "zk-anchor"])
def test_a_service_that_finds_nothing_to_do_changes_nothing_but_its_introduction(
    case: Case, own_home: Path, command: str
) -> None:
    """The run is complete: provers, ledger and anchor come up, look, and end. The audit is as before."""
    before = {t: case.log.records(t) for t in ("proofs", "ledger", "checkpoints", "anchors", "dead-letters")}
    done = run(command, "--home", own_home, "--log", case.log.url, "--idle-exit", 0.5, "--json")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert "message" in json.loads(line)
    assert {t: case.log.records(t) for t in before} == before
    found = case.audit(replace(case.policy, anchors=None))
    assert found.exit_code == 0


def test_an_anchor_can_be_made_before_there_is_a_log_and_says_who_it_is(tmp_path: Path) -> None:
    """What a sampled run names, and a policy pins, is known before anything is anchored."""
    words = ("zk-anchor", "--home", tmp_path, "--init")
    first, again, other = run(*words), run(*words), run(*words, "--anchor", f"file:{tmp_path}/other", "--json")
    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 0), first.stderr
    assert first.stdout == again.stdout
    assert re.fullmatch(r"file:[0-9a-f]{64}\n", first.stdout)
    assert json.loads(other.stdout)["identity"] not in first.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["anchor", "other"]


def test_a_sampled_run_is_audited_by_those_who_say_that_it_will_do(
    sampled_case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    case, words = sampled_case, ["--run", "run", "--dev", "--anchor", sampled_case.anchor_uri]
    done = audit(case, *words)
    assert done.returncode == 2
    assert "the policy does not say that fewer than all will do (min_sampled)" in done.stdout
    done = audit(case, *words, "--min-sampled", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 4 shards of every one proven" in done.stdout
    assert "which draws (pin it: anchors)" in done.stdout
    for wrong in (["--policy", "x", "--min-sampled", "1"], ["--dev", "--min-sampled", "0"]):
        assert audit_main(["--run", "run", *wrong]) == 2
        assert capsys.readouterr().err.startswith("zk-audit: --min-sampled")


def test_an_anchor_service_ends_with_an_alarm_at_a_log_that_was_rolled_back(case: Case, own_home: Path) -> None:
    case.log.delete(case.log.records("ledger")[-1], case.log.records("checkpoints")[-1])
    done = run("zk-anchor", "--home", own_home, "--log", case.log.url, "--idle-exit", 0.5)
    assert done.returncode == 2
    assert "rolled back or forked" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ledger_service_refuses_a_log_that_does_not_match_its_checkpoint(case: Case, own_home: Path) -> None:
    case.log.delete(case.log.records("ledger")[-1])
    done = run("zk-ledger", "--home", own_home, "--log", case.log.url, "--idle-exit", 0.5)
    assert done.returncode == 2
    assert "audit the log before anything is added to it" in done.stderr
