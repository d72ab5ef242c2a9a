"""``zk-audit bundle`` and the audit of its file, as people run them; the audit with neither network nor torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.audit.bundle import write_bundle
from consumers.audit.bundle_log import BundleLog
from consumers.audit.collect import collect
from consumers.audit.container import PARTS
from ledger.tree import Tree
from schemas.events import RunOpened
from schemas.wire import open_event_log
from tests.consumers.test_audit_collect import Growing
from tests.support.forge import Case
from tests.support.pipeline import ORIGIN
from zk_autograd.proofs.store import CircuitStore

ROOT = Path(__file__).resolve().parents[2]

FENCE = """
import socket, sys
class _Fence:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not to be had here")
sys.meta_path.insert(0, _Fence())
class _NoSocket(socket.socket):
    def __init__(self, family=-1, *args, **words):
        if family != socket.AF_UNIX:
            raise OSError("no network here")
        super().__init__(family, *args, **words)
socket.socket = _NoSocket
"""
"""Python's start-up code for a process, and those that it starts, without network and torch."""


def fenced(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    fence = folder / "fence"
    fence.mkdir(exist_ok=True)
    (fence / "sitecustomize.py").write_text(FENCE)
    path = os.pathsep.join([str(fence), str(ROOT), str(ROOT / "src")])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": str(folder), "TMPDIR": str(folder)}
    command = [sys.executable, *(str(a) for a in args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment)


def command(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    return fenced(folder, "-m", "consumers.audit.cli", *args)


@pytest.fixture
def policy(case: Case) -> Path:
    path = case.folder / "policy.json"
    path.write_text(case.policy.to_json().replace(case.anchor_uri, ""))
    return path


def test_the_fence_holds(tmp_path: Path) -> None:
    assert (
        "no network here" in fenced(tmp_path, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))").stderr
    )
    assert "not to be had" in fenced(tmp_path, "-c", "import torch").stderr


def test_a_bundle_is_made_and_audited_elsewhere_without_network_or_torch(case: Case, policy: Path) -> None:
    home, folder = case.sound.home.path, case.folder
    made = command(folder, "bundle", "--home", home, "--log", case.log.url, "--run", "run", "-o", "run.zkb", "--json")
    assert made.returncode == 0, made.stderr
    facts = json.loads(made.stdout)
    assert (facts["run_id"], facts["records"]) == (case.run_id.hex(), 27)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    words = ("--policy", policy, "--origin", ORIGIN, "--json")
    done = command(elsewhere, folder / "run.zkb", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    log = command(folder, "--home", home, "--log", case.log.url, "--run", "run", *words)
    assert json.loads(done.stdout) == json.loads(log.stdout)
    assert sorted(p.name for p in elsewhere.iterdir()) == ["fence"], "nothing is left behind"


def test_the_circuit_of_a_bundle_can_be_unpacked_to_be_rebuilt(case: Case) -> None:
    home, folder = case.sound.home.path, case.folder
    made = command(folder, "bundle", "--home", home, "--log", case.log.url, "--run", "run", "-o", "run.zkb")
    assert made.returncode == 0, made.stderr
    done = command(folder, "unpack", "run.zkb", "auditor-home")
    assert done.returncode == 0, done.stderr
    assert f"zk-setup --check {case.sound.circuit.id.hex()}" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}/log.db"], "expected an audit bundle"),
        (["{folder}/none"], "No such file"),
        (["{folder}/none", "--log", "sqlite:///x"], "not both"),
        ([], "give --run ID"),
        (["bundle", "--log", "{log}", "--run", "none", "-o", "x"], "no run 'none'"),
        (["bundle", "--log", "{log}", "--run", "run", "-o", "x"], "no circuit"),
        (["bundle", "--log", "{log}", "--run", "run", "-o", "log.db", "--no-circuit"], "is there already"),
        (["bundle", "--log", "{log}", "--run", "run", "-o", "none/x", "--no-circuit"], "cannot write"),
        (["unpack", "{folder}/log.db", "x"], "expected an audit bundle"),
    ],
)
def test_a_wrong_use_is_one_line(case: Case, words: list[str], message: str) -> None:
    (case.folder / ".zk-autograd").mkdir()
    (case.folder / ".zk-autograd" / "log.db").write_bytes(case.log.path.read_bytes())
    done = command(case.folder, *(w.format(folder=case.folder, log=case.log.url) for w in words))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("when", range(10))
def test_a_bundle_of_a_log_that_grows_meanwhile_is_never_called_violated(case: Case, when: int) -> None:
    """An entry, its checkpoint and its receipt come while the bundle is being written."""

    def grow() -> None:
        case.log.append("ledger", case.insider.seal("ledger", RunOpened(bytes(32))))
        case.sign_and_anchor(case.leaves())

    path = case.folder / "run.zkb"
    with open_event_log(case.log.url) as inner:
        write_bundle(Growing(inner, when, grow), case.run_id, None, path)
    with BundleLog(path) as log:
        found = collect(log, case.run_id, case.policy)
    tree = Tree(o.body for o in found.ledger)
    from consumers.audit.checks import audit

    out = audit(found, case.run_id, case.policy, CircuitStore(case.sound.home.path, None), case._verify, [], ORIGIN)
    assert out.exit_code == 0
    assert tree.size in (5, 6)


def test_the_parts_are_what_an_audit_reads_and_in_its_order() -> None:
    assert [topic for topic, _ in PARTS] == [
        "anchors", "ledger", "checkpoints", "ledger", "proofs", "steps", "dead-letters",
    ]  # fmt: skip
