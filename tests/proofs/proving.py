"""Honest steps with real proofs, and what is left of a prover afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zk_autograd.proofs.base import Circuit, Columns, Ints, Limits
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import ShardWitness, advance, carry_of, columns, fresh_noise, fresh_salt
from zk_autograd.statement import Public, Statement, place_in


@dataclass(frozen=True)
class Proved:
    """One shard of one step: what is secret, what is committed, and the proof."""

    circuit: Circuit
    witness: ShardWitness
    pub: Public
    columns: Columns
    proof: bytes


def fresh_witness(circuit: Circuit, state: Mapping[str, Ints], g: Ints, pub: Public) -> ShardWitness:
    """A witness with fresh noise and salts, of a shard that is a block of its own."""
    st = circuit.statement
    (carried,) = carry_of(st, [(state, g)], pub, circuit.P)
    noise = fresh_noise(circuit.noise, circuit.P)
    return ShardWitness(state, g, noise, fresh_salt(), fresh_salt(), fresh_salt(), carried)


def placed(st: Statement, pub: Public) -> Public:
    """A step's public integers as those of a proof of a block's only shard."""
    return Public(pub | (place_in([1], 0) if st.carries else {}))


def honest_step(circuit: Circuit, before: Proved | None = None) -> Proved:
    """A step from random weights, or the one that follows ``before``; its proof is empty."""
    st, P = circuit.statement, circuit.P
    step = 1 if before is None else 2
    rng = np.random.default_rng(step)
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, P)
    pub = placed(st, st.public_integers(st.defaults, 1e-3, step, fmt, P))
    g = rng.integers(-fmt.clip, fmt.clip + 1, circuit.shard)
    if before is None:
        # As large as any real weight; where a layer's decay is proven in the direction's units, no larger.
        high = 2 << fmt.scale_w if st.carries else 10**9
        state = {n: rng.integers(high // 10, high, circuit.shard) if n == "w" else 0 * g for n in st.state}
        witness = fresh_witness(circuit, state, g, pub)
    else:
        state = dict(advance(circuit, before.witness, before.pub).post)
        witness = replace(fresh_witness(circuit, state, g, pub), salt_pre=before.witness.salt_post)
    return Proved(circuit, witness, pub, columns(circuit, witness, advance(circuit, witness, pub), pub), b"")


def prove(step: Proved) -> Proved:
    """The step with a real proof."""
    return replace(step, proof=Ezkl().prove(step.circuit, step.columns, Limits()))


def child_processes(parent: int) -> list[int]:
    """Processes whose parent is ``parent`` and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def left_behind(process: int, temporary: Iterable[Path]) -> list[Path]:
    """Folders and files that a process's provers made and left, in memory or in the temporary folders."""
    memory = [p for m in ("/dev/shm", "/run/shm", tempfile.gettempdir()) for p in Path(m).glob(f"zk-{process}-*")]
    return sorted({p.resolve() for p in [*memory, *(p for folder in temporary for p in folder.glob("zk-*"))]})
