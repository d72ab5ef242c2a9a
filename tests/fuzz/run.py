"""Runs fuzz targets under atheris, one after the other, each in a process of its own.

    python -m tests.fuzz.run                          every target, a minute each
    python -m tests.fuzz.run receipts cbor --minutes 5

Ends with 1 if a target broke; the input is then in ``.fuzz/TARGET/``: give it a name that says what it is, and move it
to ``tests/fuzz/kept/TARGET/``. Inputs that reached new code stay in ``.fuzz/TARGET/corpus`` for the next time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_CHILD = "--in-this-process"
_LONGEST = {"events": 20_000, "envelopes": 20_000, "verifying-keys": 1 << 20, "zk-proofs": 20_000}


def fuzz(name: str, seconds: int, folder: Path) -> tuple[int, str]:
    """One target for so long; exit code, and what libFuzzer counted."""
    from tests.fuzz.seeds import write_corpus

    seeds = folder / "seeds"
    write_corpus(name, seeds)
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    words = [
        sys.executable, "-m", "tests.fuzz.run", _CHILD, name, str(folder / "corpus"), str(seeds),
        f"-max_total_time={seconds}", f"-max_len={_LONGEST.get(name, 8192)}", f"-artifact_prefix={folder}/",
        "-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 300)
    output = done.stdout + done.stderr
    (folder / "output").write_text(output)
    counted = re.findall(r"stat::number_of_executed_units:\s*(\d+)", output)
    covered = re.findall(r"cov: (\d+)", output)
    return done.returncode, f"{counted[-1] if counted else '?'} inputs, {covered[-1] if covered else '?'} branches"


def _in_this_process(words: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(
        include=["schemas", "ledger", "anchor", "consumers.audit.container", "zk_autograd", "json"]
    ):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *words[1:]], TARGETS[words[0]])
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    if arguments[:1] == [_CHILD]:
        _in_this_process(arguments[1:])
        return 0
    from tests.fuzz.circuit import NoCircuit
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Fuzz the parsers, with atheris.")
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=0, help="for all of them together (default: 1 each)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="where inputs are kept (default: .fuzz)")
    options = parser.parse_args(arguments)
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {sorted(unknown)[0]!r}: expected some of {', '.join(TARGETS)}")
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed: pip install '.[fuzz]' (Linux, x86-64)", file=sys.stderr)
        return 2
    seconds = max(1, round(60 * options.minutes / len(names))) if options.minutes else 60
    broken = []
    for name in names:
        began = time.monotonic()
        try:
            code, counted = fuzz(name, seconds, options.folder / name)
        except NoCircuit as error:
            print(f"{name:16} skipped: {error}", flush=True)
            continue
        state = "ok" if code == 0 else f"BROKEN: see {options.folder / name}"
        print(f"{name:16} {time.monotonic() - began:6.0f} s, {counted}: {state}", flush=True)
        broken += [name] if code else []
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
