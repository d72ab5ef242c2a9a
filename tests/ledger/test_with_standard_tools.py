"""The shell lines of docs/proofs-and-receipts.md check a proof file, with openssl and without this project."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import VerifierKey
from tests.ledger.signing import LEAVES, TREE, VERIFIER, checkpoint, cosigned_by, proof

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proofs-and-receipts.md"


@pytest.fixture(scope="module")
def lines() -> str:
    for tool in ("bash", "openssl", "sed", "base64"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on this machine")
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(block)


def holds(lines: str, folder: Path, text: str, key: VerifierKey = VERIFIER) -> bool:
    (folder / "p").write_text(text)
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", lines], cwd=folder, capture_output=True, text=True, timeout=60,
        env={"proof": "p", "key": str(key), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    said = done.returncode == 0 and done.stdout.endswith("the entry is in the log\n")
    assert said == (done.returncode == 0), done.stdout + done.stderr
    return said


@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (4, 5), (3, 5), (63, 64), (64, 65), (17, 70), (69, 70)])
def test_the_shell_takes_our_proofs(lines: str, tmp_path: Path, index: int, size: int) -> None:
    assert holds(lines, tmp_path, proof(index, size, LEAVES[index]).encode())


def test_the_shell_takes_a_proof_with_cosignatures(lines: str, tmp_path: Path) -> None:
    assert holds(lines, tmp_path, proof(3, 70, LEAVES[3], cosigned_by(checkpoint(), 0, 1, 2)).encode())


def test_the_shell_refuses_forgeries(lines: str, tmp_path: Path) -> None:
    good = proof(3, 5, LEAVES[3])
    for forged in (
        replace(good, extra=LEAVES[4]),
        replace(good, index=2),
        replace(good, path=good.path[::-1]),
        replace(good, path=good.path[:-1]),
        replace(good, path=(*good.path, TREE.root())),
    ):
        assert not holds(lines, tmp_path, forged.encode())
    assert not holds(lines, tmp_path, good.encode().replace("\n5\n", "\n4\n"))
    assert not holds(lines, tmp_path, good.encode(), VerifierKey(VERIFIER.name, bytes(31) + b"\x01"))
