"""How every command ends: with a line, and with an exit code that is never an auditor's "violated" by accident."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zk_autograd.cli import run_command
from zk_autograd.errors import UsageError


def ended(error: BaseException) -> int:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run_command(argparse.ArgumentParser(prog="zk-test"), run, [])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("expected this, got that"), 2, "zk-test: expected this, got that"),
        (PermissionError(13, "Permission denied", "/some/where"), 2, "zk-test: /some/where: Permission denied"),
        (KeyboardInterrupt(), 130, "zk-test: stopped"),
        (KeyboardInterrupt("go on with the same options"), 130, "zk-test: stopped; go on with the same options"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert ended(error) == code
    assert capsys.readouterr().err == line + "\n"


def test_of_an_unforeseen_error_place_and_type_are_told_but_not_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZK_DEBUG", raising=False)
    assert ended(ValueError("a secret")) == 2
    said = capsys.readouterr().err
    assert "unexpected ValueError in test_cli.py:" in said
    assert "secret" not in said.replace("perhaps secrets", "")
    monkeypatch.setenv("ZK_DEBUG", "1")
    assert ended(ValueError("a secret")) == 2
    assert "a secret" in capsys.readouterr().err


def test_a_terminal_that_lacks_a_letter_changes_no_exit_code(tmp_path: Path) -> None:
    program = (
        "import argparse\nfrom zk_autograd.cli import run_command\n"
        "def run(_):\n    print('\\u2013')\n    return 0\n"
        "raise SystemExit(run_command(argparse.ArgumentParser(), run, []))\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"\\u2013\n")
