"""How many provers fit: the machine's memory, the cgroups' limits, and what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.prover.memory import PEAK_BASE, available, peak, workers
from zk_autograd.errors import UsageError
from zk_autograd.proofs.store import largest_key

GIB = 1 << 30


class System:
    """A made-up ``/proc`` and ``/sys/fs/cgroup``."""

    def __init__(self, folder: Path, free: int, cgroup: str) -> None:
        self.proc, self.root = folder / "proc", folder / "cgroup"
        self.write(self.proc / "meminfo", f"MemTotal: 99 kB\nMemAvailable:   {free // 1024} kB\nSwapFree: 5 kB\n")
        self.write(self.proc / "self" / "cgroup", cgroup)

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def limit(self, at: str, most: str, used: int, cached: int = 0) -> None:
        folder = self.root / at
        self.write(folder / "memory.max", f"{most}\n")
        self.write(folder / "memory.current", f"{used}\n")
        self.write(folder / "memory.stat", f"anon 1\ninactive_file {cached}\nactive_file 7\n")

    @property
    def available(self) -> int | None:
        return available(self.proc, self.root)


def test_without_a_cgroup_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    system = System(tmp_path, 8 * GIB, "0::/user/one\n")
    system.limit("user/one", "max", GIB)
    assert system.available == 8 * GIB


def test_the_tightest_limit_on_the_way_up_counts_and_cached_files_do_not(tmp_path: Path) -> None:
    system = System(tmp_path, 8 * GIB, "0::/user/one\n")
    system.limit("user/one", str(6 * GIB), GIB)
    system.limit("user", str(4 * GIB), 2 * GIB, cached=GIB)
    assert system.available == 3 * GIB
    system.limit("user", str(4 * GIB), 5 * GIB)
    assert system.available == 0, "more is used than is allowed"


def test_in_a_container_the_mounted_root_is_the_limit_whatever_the_path_says(tmp_path: Path) -> None:
    system = System(tmp_path, 8 * GIB, "0::/../../host/path\n")
    system.limit(".", str(2 * GIB), GIB)
    system.limit("..", str(1), 0)
    assert system.available == GIB


def test_version_1_is_understood(tmp_path: Path) -> None:
    system = System(tmp_path, 8 * GIB, "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n")
    folder = system.root / "memory" / "a"
    system.write(folder / "memory.limit_in_bytes", f"{3 * GIB}\n")
    system.write(folder / "memory.usage_in_bytes", f"{2 * GIB}\n")
    system.write(folder / "memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB}\n")
    assert system.available == 2 * GIB


def test_where_nobody_says_it_is_unknown(tmp_path: Path) -> None:
    assert available(tmp_path / "none", tmp_path / "none") is None


def test_the_machine_that_runs_this_says() -> None:
    found = available()
    assert found is not None
    assert 0 < found < 1 << 50


@pytest.mark.parametrize(
    ("asked", "cores", "room", "expected"),
    [
        ("1", 2, 0, 1),  # one is always tried: its own limit stops it
        ("3", 2, 6 * GIB, 3),
        ("3", 2, None, 3),
        ("auto", 8, 100 * GIB, 8),
        ("auto", 8, 5 * GIB, 2),
        ("auto", 8, GIB, 1),
        ("auto", 2, None, 2),
    ],
)
def test_as_many_as_are_asked_for_and_fit(asked: str, cores: int, room: int | None, expected: int) -> None:
    assert workers(asked, cores, 2 * GIB, room) == expected


def test_without_a_key_to_tell_by_the_number_asked_for_is_taken() -> None:
    assert workers("5", 2, 0, GIB) == 5


@pytest.mark.parametrize("asked", ["4", "1000"])
def test_more_than_fit_are_refused_with_the_sizes(asked: str) -> None:
    with pytest.raises(UsageError, match=r"at most 3 fit into memory \(one needs 2.0 GiB, 6.0 GiB are available\)"):
        workers(asked, 8, 2 * GIB, 6 * GIB)


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5", "", "1e3", "9999999", "²"])
def test_what_is_no_number_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match="--workers: expected"):
        workers(asked, 2, GIB, None)


def test_a_prover_is_measured_by_the_largest_key_that_may_be_used(tmp_path: Path) -> None:
    for byte, size in ((1, 100), (2, 300), (3, 200)):
        System.write(tmp_path / "circuits" / (bytes([byte]) * 32).hex() / "pk.key", "x" * size)
    assert largest_key(tmp_path, None) == 300
    assert largest_key(tmp_path, frozenset({b"\1" * 32, b"\3" * 32})) == 200
    assert largest_key(tmp_path / "elsewhere", None) == 0
    assert peak(1000) == 3000 + PEAK_BASE
