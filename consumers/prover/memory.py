"""How many provers fit into memory: the machine's and, in a container, its cgroups'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zk_autograd.errors import UsageError

PEAK_OF_KEY, PEAK_BASE = 3.0, 256 << 20
"""A proof's peak is at most 3 times the size of its proving key (2.5 to 2.7 were measured, see docs/proving.md); the
rest is for the prover's own process, which waits meanwhile. Bytes."""

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def peak(key_bytes: int) -> int:
    """Bytes to set aside for one prover with a proving key of this size; 0 without one."""
    return int(PEAK_OF_KEY * key_bytes) + PEAK_BASE if key_bytes else 0


def available(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that new processes may use: the least of the machine's and its cgroups'; None if nobody says."""
    found = [*_machine(proc), *_cgroups(proc, cgroup)]
    return max(0, min(found)) if found else None


def _machine(proc: Path) -> Iterator[int]:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _cgroups(proc: Path, root: Path) -> Iterator[int]:
    """What is left below every limit from this process's own cgroup up to the root; versions 2 and 1."""
    for line in _lines(proc / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base, limit, used, cache = root, "memory.max", "memory.current", "inactive_file "
        elif "memory" in controllers.split(","):
            base, limit, used, cache = (
                root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
            )  # fmt: skip
        else:
            continue
        # In a container the path may be the host's: what is not there is skipped, and the mounted root is its own.
        inside = Path(path.strip().lstrip("/"))
        above = [inside, *inside.parents] if ".." not in inside.parts else [Path()]
        for at in above:
            yield from _left(base / at, limit, used, cache)


def _left(at: Path, limit: str, used: str, cache: str) -> Iterator[int]:
    most, now = _number(at / limit), _number(at / used)
    if most is None or now is None:  # "max", or no such cgroup here
        return
    # Cached file content counts as used, but goes when memory is short.
    freed = [int(line.split()[1]) for line in _lines(at / "memory.stat") if line.startswith(cache)]
    yield most - now + sum(freed)


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").splitlines()
    except OSError:
        return []


def workers(asked: str, cores: int, each: int, room: int | None) -> int:
    """The number of provers to start.

    Args:
        asked: a number, or ``auto``: as many as there are cores and as fit.
        cores: that may be used.
        each: bytes of one prover; 0 if there is no key to tell by.
        room: bytes that are available; None if unknown.
    Raises:
        UsageError: it is no such number, or not so many fit.
    """
    fit = max(0, room // each) if each and room is not None else None
    sizes = f"one needs {each / 2**30:.1f} GiB, {(room or 0) / 2**30:.1f} GiB are available"
    if asked == "auto":
        return max(1, cores if fit is None else min(cores, fit))
    if not (asked.isdecimal() and asked.isascii() and 1 <= int(asked) <= 1024):
        raise UsageError(f"--workers: expected a number from 1 to 1024, or auto, got {asked[:40]!r}")
    if int(asked) > 1 and fit is not None and int(asked) > fit:
        raise UsageError(f"--workers {asked}: at most {max(1, fit)} fit into memory ({sizes})")
    return int(asked)
