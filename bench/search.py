"""What a proof costs by rows and inner columns: ``python -m bench.search [--optimizer adam] 15x3 16x2 16x3 ...``.

Each shape is ``logrows x columns``. Keys are made first; then every shape is proven in turn, so that other load on the
machine falls on all of them alike. Prints a Markdown table; take the rates per second of all cores on a busy machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.circuits import bench_home, say
from bench.proving import Cost, prove
from zk_autograd.proofs.base import Circuit, Profile
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.statement import statement

NOISE = 270


def circuit_of(optimizer: str, shape: str) -> tuple[Profile, Circuit]:
    """A circuit of this shape, with keys."""
    logrows, columns = map(int, shape.split("x"))
    profile, home = Profile(shape, logrows, columns, NOISE), bench_home().path / "search"
    return profile, Ezkl().set_up(statement(optimizer), profile, Ezkl().dev_srs(home, logrows, say), home, say)


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m bench.search", description="Proving cost by rows and inner columns.")
    p.add_argument("--optimizer", default="adam")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("shapes", nargs="+", metavar="LOGROWSxCOLUMNS")
    args = p.parse_args()
    made = [circuit_of(args.optimizer, shape) for shape in args.shapes]
    costs: list[list[Cost]] = [[] for _ in made]
    with tempfile.TemporaryDirectory() as name:
        for _ in range(args.rounds):
            for (_, circuit), found in zip(made, costs, strict=True):
                job = Ezkl._job(circuit, sample(circuit, 7)[0], Path(name))
                found.append(prove(job, Path(name)))
    print("| rows | inner columns | parameters | cells each | proving key | seconds | s of all cores | parameters/s "
          "| parameters per s of all cores | memory | proof |\n" + "|---" * 11 + "|")  # fmt: skip
    for (profile, circuit), found in zip(made, costs, strict=True):
        wall, cpu = min(c.wall for c in found), min(c.cpu for c in found)
        key = (circuit.directory / "pk.key").stat().st_size
        words = [
            f"2^{profile.logrows}", str(profile.columns), f"{circuit.shard:,}",
            f"{profile.columns * 2**profile.logrows / circuit.shard:.1f}", f"{key / 2**20:.0f} MiB",
            f"{wall:.1f}", f"{cpu:.1f}", f"{circuit.shard / wall:.0f}", f"{circuit.shard / cpu:.0f}",
            f"{max(c.memory for c in found) / 2**30:.2f} GiB", f"{circuit.proof_bytes:,} bytes",
        ]  # fmt: skip
        print("| " + " | ".join(words) + " |", flush=True)


if __name__ == "__main__":
    main()
