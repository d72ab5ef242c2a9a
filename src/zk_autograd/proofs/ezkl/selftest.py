"""What set-up tries on every new circuit before anyone trusts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zk_autograd.errors import ProofSystemError, VerificationError
from zk_autograd.proofs.base import Circuit, Columns, Limits
from zk_autograd.proofs.ezkl.verify import EzklVerifier
from zk_autograd.proofs.witness import ShardWitness, advance, carry_of, columns, fresh_noise, fresh_salt
from zk_autograd.statement import place_in

if TYPE_CHECKING:
    from zk_autograd.proofs.ezkl.system import Ezkl


def sample(circuit: Circuit, seed: int, step: int = 2) -> tuple[Columns, ShardWitness]:
    """An honest random witness of a step of ``circuit``, as columns."""
    st, P = circuit.statement, circuit.P
    rng = np.random.default_rng(seed)
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, P)
    pub = st.public_integers(st.defaults, 1e-3, step, fmt, P)
    pre = {"w": rng.integers(-(2**fmt.scale_w), 2**fmt.scale_w, circuit.shard)}
    if "m" in st.state:
        pre["m"] = rng.integers(-fmt.clip // 4, fmt.clip // 4, circuit.shard)
    if "v" in st.state:
        pre["v"] = rng.integers(fmt.clip**2 // 9 << fmt.guard, fmt.clip**2 << fmt.guard, circuit.shard)
    if "h" in st.state:
        pre["h"] = rng.integers(0, fmt.clip, circuit.shard)
    g = rng.integers(-fmt.clip, fmt.clip + 1, circuit.shard)
    pub |= place_in([1], 0)
    (carried,) = carry_of(st, [(pre, g)], pub, P)
    witness = ShardWitness(pre, g, fresh_noise(circuit.noise, P), fresh_salt(), fresh_salt(), fresh_salt(), carried)
    return columns(circuit, witness, advance(circuit, witness, pub), pub), witness


def self_test(system: Ezkl, circuit: Circuit, say: Callable[[str], None]) -> int:
    """Tests that the look-up table is tight at both ends and that a proof verifies; returns the proof's length.

    Raises:
        ProofSystemError: the circuit takes a value outside [0, P), refuses an honest one, or proves nothing.
    """
    honest, _ = sample(circuit, 1)
    slot = circuit.shard * (1 + len(circuit.statement.hints))  # the first noise element

    def with_noise(value: int) -> Columns:
        work = list(honest.work)
        work[slot] = value
        return replace(honest, work=work)

    for value, expected in ((0, True), (circuit.P - 1, True), (-1, False), (circuit.P, False)):
        say(f"table: {value} must be {'taken' if expected else 'refused'}")
        if system.satisfied(circuit, with_noise(value)) is not expected:
            raise ProofSystemError(
                f"{circuit.statement.name}: the look-up table is not tight: {value} was "
                f"{'refused' if expected else 'taken'} although "
                f"the range is 0..{circuit.P - 1}; these keys are unsafe and were not kept"
            )
    say("proving and verifying a sample")
    proof = system.prove_unverified(circuit, honest, Limits())
    with EzklVerifier(replace(circuit, proof_bytes=len(proof))) as verifier:
        verifier.verify(proof, honest.hyper)
        try:
            together = verifier.batch
        except VerificationError as error:
            say(f"proofs will be verified one by one ({error})")
            return len(proof)
        if together.accepted([proof]) != [True]:
            raise ProofSystemError(
                f"{circuit.statement.name}: the batch verifier refuses what EZKL accepts: the installed ezkl does not "
                "fit this release; these keys were not kept"
            )
    return len(proof)
