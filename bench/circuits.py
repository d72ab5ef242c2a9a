"""Circuits and proofs for the benchmarks, made once in ``.bench/`` of the working folder."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from zk_autograd.home import Home
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Columns, Limits
from zk_autograd.proofs.ezkl.selftest import sample
from zk_autograd.proofs.store import find_circuit, make_circuit


def say(line: str) -> None:
    """Progress, on stderr."""
    print(f"  {line}", file=sys.stderr, flush=True)


@cache
def bench_home() -> Home:
    """The benchmarks' own home."""
    return Home(Path(".bench").absolute())


@cache
def bench_circuit(optimizer: str, profile: str) -> Circuit:
    """A circuit with keys under a development SRS."""
    home = bench_home()
    return find_circuit(home, optimizer, profile) or make_circuit(home, optimizer, profile, None, True, say)


@cache
def bench_proof(optimizer: str, profile: str) -> tuple[Circuit, Columns, bytes]:
    """A circuit, an honest witness and its proof."""
    circuit = bench_circuit(optimizer, profile)
    columns, _ = sample(circuit, 7)
    say(f"proving one shard of {circuit.shard} parameters")
    return circuit, columns, proof_system(circuit.system).prove(circuit, columns, Limits())
