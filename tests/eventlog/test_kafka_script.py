"""scripts/kafka.sh touches only what it started, and says what is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.broker import SCRIPT


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("bash") or "bash", SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def tools(directory: Path, *names: str) -> dict[str, str]:
    """An environment in which only the named programs are found."""
    directory.mkdir()
    for name in names:
        (directory / name).symlink_to(shutil.which(name) or name)
    return {"PATH": str(directory)}


def test_without_java_it_says_what_to_install(tmp_path: Path) -> None:
    environment = tools(tmp_path / "bin", "dirname", "cat", "ps")
    done = run("up", "--dir", tmp_path / "broker", env=environment)
    assert done.returncode == 2
    assert "install a Java runtime, 17 or later" in done.stderr


def test_an_old_java_is_refused(tmp_path: Path) -> None:
    environment = tools(tmp_path / "bin", "dirname", "cat", "ps", "sed", "head", "bash")
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    done = run("up", "--dir", tmp_path / "broker", env=environment)
    assert done.returncode == 2
    assert "needs Java 17 or later, java on the PATH is 11" in done.stderr


def test_without_maven_and_without_jars_it_says_what_to_install(tmp_path: Path) -> None:
    environment = tools(tmp_path / "bin", "dirname", "cat", "ps", "sed", "head", "bash")
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.2\" 2022-01-18' >&2\n")
    java.chmod(0o755)
    done = run("up", "--dir", tmp_path / "broker", env={**environment, "KAFKA_LIB": str(tmp_path / "lib")})
    assert done.returncode == 2
    assert "install Maven" in done.stderr


def test_down_leaves_a_process_alone_that_it_did_not_start(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "pid").write_text(f"{stranger.pid}\n")
        assert run("status", "--dir", tmp_path).returncode == 1
        assert run("down", "--dir", tmp_path).returncode == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_wrong_arguments_show_how_to_call_it(tmp_path: Path) -> None:
    for arguments in ((), ("sideways",), ("up", "--port"), ("up", "--colour", "red")):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "kafka.sh up" in done.stderr
    assert "ports are numbers" in run("up", "--port", "x").stderr
    assert "cannot read" in run("up", "--extra", tmp_path / "absent").stderr
