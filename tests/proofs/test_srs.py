"""The structured reference string: which file it is, and whether it is one at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from zk_autograd.errors import UsageError, VerificationError
from zk_autograd.proofs.base import PROFILES, Circuit, Limits
from zk_autograd.proofs.ezkl import srs
from zk_autograd.proofs.ezkl.process import run_child
from zk_autograd.proofs.ezkl.srs import FIELD_MODULUS
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.statement import STATEMENTS

ROWS = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("srs") / "srs"
    run_child({"verb": "gen_srs", "srs": str(path), "logrows": ROWS}, Limits(), secret=False)
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path, made: bytes) -> Path:
    path = tmp_path / "kzg.srs"
    path.write_bytes(made)
    return path


def test_a_file_made_here_is_known_by_its_hash_and_is_of_the_class_dev(file: Path, made: bytes) -> None:
    assert srs.identify(file, ROWS) == (hashlib.sha256(made).digest(), "DEV")


def test_two_files_made_here_differ(file: Path, tmp_path: Path) -> None:
    run_child({"verb": "gen_srs", "srs": str(tmp_path / "other"), "logrows": ROWS}, Limits(), secret=False)
    assert srs.identify(file, ROWS)[0] != srs.identify(tmp_path / "other", ROWS)[0]


def test_the_ceremonys_files_are_pinned_for_every_profile() -> None:
    for profile in PROFILES.values():
        assert len(bytes.fromhex(srs.CEREMONY_DIGESTS[profile.logrows])) == 32


def test_a_file_for_other_rows_is_refused_with_what_to_do(file: Path) -> None:
    with pytest.raises(
        UsageError, match=r"expected an SRS for 2\^16 rows .* got one for 2\^10 rows .* take the ceremony"
    ):
        srs.identify(file, 16)


@pytest.mark.parametrize("length", [0, 3, 4, 100, -1])
def test_a_truncated_file_is_refused(file: Path, made: bytes, length: int) -> None:
    file.write_bytes(made[:length])
    with pytest.raises(UsageError, match=rf"expected an SRS for 2\^10 rows \({len(made)} bytes\)"):
        srs.identify(file, ROWS)


def test_a_file_with_trailing_bytes_is_refused(file: Path, made: bytes) -> None:
    file.write_bytes(made + b"\0")
    with pytest.raises(UsageError, match="expected an SRS"):
        srs.identify(file, ROWS)


def test_a_file_that_is_none_is_refused(file: Path, made: bytes) -> None:
    file.write_bytes(b"\xff" * len(made))
    with pytest.raises(UsageError, match="bytes that are none"):
        srs.identify(file, ROWS)


def test_a_missing_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file.* give one with --srs, or --dev"):
        srs.identify(tmp_path / "none", ROWS)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SRS"):
        srs.identify(tmp_path, ROWS)


def test_set_up_refuses_a_file_for_other_rows_before_it_builds_anything(file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(UsageError, match="expected an SRS"):
        Ezkl().set_up(STATEMENTS["sgd"], PROFILES["small"], file, home)
    assert not home.exists()


def test_a_point_off_the_curve_is_refused(file: Path, made: bytes) -> None:
    at = 4 + 64 * (2**ROWS + 2) + 40  # y of the third Lagrange point
    file.write_bytes(made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :])
    with pytest.raises(VerificationError, match="Lagrange point 2 is not on the curve"):
        srs.lagrange_points(file, ROWS, 5, 2)


def test_points_are_read_from_both_ends(file: Path) -> None:
    first, last = srs.lagrange_points(file, ROWS, 2**ROWS, 3)
    assert last == first[-3:]
    assert all((y * y - x**3 - 3) % FIELD_MODULUS == 0 for x, y in first)


def test_a_circuits_srs_is_checked_again_when_it_is_loaded(
    fresh_home: Callable[..., object], real_circuit: Callable[[str], Circuit], made: bytes
) -> None:
    circuit = real_circuit("sgd")
    home = fresh_home("sgd")
    path = home.path / "srs" / circuit.srs_path.name  # type: ignore[attr-defined]
    path.unlink()
    with pytest.raises(UsageError, match="No such file"):
        Ezkl().load(circuit.id, home.path)  # type: ignore[attr-defined]
    path.write_bytes(made)
    with pytest.raises(UsageError, match=r"expected an SRS for 2\^15 rows"):
        Ezkl().load(circuit.id, home.path)  # type: ignore[attr-defined]
