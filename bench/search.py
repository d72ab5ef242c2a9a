"""What a proof costs by rows, inner columns and layout: ``python -m bench.search [--optimizer adam] 15x3 16x2 ...``.

Each shape is ``logrows x columns``; ``16x3-apart`` gives every product of a sum a cell of its own, instead of stacking
them in rows. Keys are made first; then every shape is proven in turn, so that other load on the machine falls on all of
them alike. Prints a Markdown table; take the rates per second of all cores on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from unittest import mock

import ezkl

from bench.circuits import bench_home, say
from bench.proving import Cost, prove
from zk_autograd.proofs.base import Circuit, Profile
from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.constraints import INNER
from zk_autograd.proofs.ezkl.hiding import noise_lookups, shape
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.ezkl.system import Ezkl, shard_size
from zk_autograd.statement import statement

APART = "-apart"


@dataclass(frozen=True)
class Shape:
    """One way to lay a statement out."""

    name: str

    @property
    def apart(self) -> bool:
        """Whether each product of a sum has a cell of its own."""
        return self.name.endswith(APART)

    @property
    def profile(self) -> Profile:
        """With the noise that three columns need; how much other shapes do is not known, and weighs little."""
        logrows, columns = map(int, self.name.removesuffix(APART).split("x"))
        return Profile(self.name, logrows, columns, noise_lookups(shape(logrows, INNER)))


Terms: TypeAlias = Sequence[tuple[graph.Expr | int, graph.Expr | int]]


def _dot(_: graph.Graph, pairs: Terms, plus: graph.Expr | int) -> graph.Expr:
    """As :meth:`graph.Graph.dot`, but nothing is stacked."""
    total = plus
    for x, y in pairs:
        total = x * y + total
    assert isinstance(total, graph.Expr)
    return total


def circuit_of(optimizer: str, shape_: Shape) -> Circuit:
    """A circuit of this shape, with keys. Only EZKL can verify its proofs, so it has no id."""
    st, profile, system, home = statement(optimizer), shape_.profile, Ezkl(), bench_home().path
    folder = home / "search" / f"{optimizer}-{shape_.name}-{profile.noise}"
    srs = system.dev_srs(home, profile.logrows, say)
    stacking = mock.patch.object(graph.Graph, "dot", _dot) if shape_.apart else nullcontext()
    with stacking:
        shard = shard_size(st, profile)
        if not (folder / "done").exists():
            say(f"making keys for {shape_.name}: {shard} parameters a proof")
            folder.mkdir(parents=True, exist_ok=True)
            system._compile(st, profile.P, profile.columns, shard, profile.noise, folder)
            system._keys(folder, srs)
            (folder / "done").touch()
    return Circuit(
        id=bytes(32), system=system.name, statement=st, P=profile.P, shard=shard, noise=profile.noise, proof_bytes=0,
        srs_id=bytes(32), srs_class="DEV", directory=folder, srs_path=srs,
    )  # fmt: skip


def proven(circuit: Circuit) -> tuple[Cost, int]:
    """What one proof costs, and its bytes; EZKL has verified it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cost = prove(Ezkl._job(circuit, sample(circuit, 7)[0], folder), folder)
        settings, key = (str(circuit.directory / name) for name in ("settings.json", "vk.key"))
        if not ezkl.verify(str(folder / "proof.json"), settings, key, str(circuit.srs_path), False):
            raise RuntimeError(f"{circuit.directory.name}: the proof does not verify")
        return cost, len(json.loads((folder / "proof.json").read_text())["proof"])


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m bench.search", description="Proving cost by rows and inner columns.")
    p.add_argument("--optimizer", default="adam")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("shapes", nargs="+", type=Shape, metavar=f"LOGROWSxCOLUMNS[{APART}]")
    args = p.parse_args()
    made = [circuit_of(args.optimizer, shape_) for shape_ in args.shapes]
    found: list[list[tuple[Cost, int]]] = [[] for _ in made]
    for number in range(args.rounds):
        for shape_, circuit, costs in zip(args.shapes, made, found, strict=True):
            say(f"round {number + 1}: {shape_.name}")
            costs.append(proven(circuit))
    print("| rows | inner columns | products | parameters | cells each | proving key | seconds | s of all cores "
          "| parameters/s | parameters per s of all cores | memory | proof |\n" + "|---" * 12 + "|")  # fmt: skip
    for shape_, circuit, costs in zip(args.shapes, made, found, strict=True):
        profile, (wall, cpu) = shape_.profile, (min(c.wall for c, _ in costs), min(c.cpu for c, _ in costs))
        words = [
            f"2^{profile.logrows}", str(profile.columns), "apart" if shape_.apart else "in rows", f"{circuit.shard:,}",
            f"{profile.columns * 2**profile.logrows / circuit.shard:.1f}",
            f"{(circuit.directory / 'pk.key').stat().st_size / 2**20:.0f} MiB", f"{wall:.1f}", f"{cpu:.1f}",
            f"{circuit.shard / wall:.0f}", f"{circuit.shard / cpu:.0f}",
            f"{max(c.memory for c, _ in costs) / 2**30:.2f} GiB", f"{costs[0][1]:,} bytes",
        ]  # fmt: skip
        print("| " + " | ".join(words) + " |", flush=True)


if __name__ == "__main__":
    main()
