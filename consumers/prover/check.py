"""From a witness message to columns that are safe to prove. Pure.

EZKL's prover hangs on a witness that does not satisfy its look-ups, so everything is checked before it starts.
"""

from __future__ import annotations

from schemas.events import RunStarted, WitnessShard
from zk_autograd.errors import VerificationError
from zk_autograd.proofs.base import Circuit, Columns, Committer
from zk_autograd.proofs.witness import ShardWitness, advance, columns, place, secret_columns
from zk_autograd.statement import Public, Statement, place_in
from zk_autograd.tee.sealing import unseal


def public_of(event: WitnessShard, start: RunStarted, st: Statement) -> Public:
    """The public integers of a witness's proof, its place included; VerificationError if it can have none."""
    if len(event.public) != len(st.public):
        raise VerificationError(
            f"witness of step {event.step}, shard {event.shard}: expected {len(st.public)} public integers, "
            f"got {len(event.public)}"
        )
    public = Public(zip(st.public, event.public, strict=True))
    if st.carries:
        public |= place_in([block.shards for block in start.blocks], event.shard)
    return public


def check_witness(
    event: WitnessShard, start: RunStarted, circuit: Circuit, committer: Committer, data_key: bytes
) -> Columns:
    """The columns of a witness message whose signature has been checked.

    1. it is for the run's circuit, one of its shards, and has the right number of public integers and of running sums;
    2. it opens under the run's data key for this run, step, shard and these commitments;
    3. it is one canonical witness;
    4. the step computed from it stays within the look-up table;
    5. its columns have the commitments that the training enclave signed.

    Raises:
        VerificationError: 1 or 5.
        SealingError: 2.
        DecodeError: 3.
        FormatError: 4.
    """
    st, where = circuit.statement, f"witness of step {event.step}, shard {event.shard}"
    # 1. address
    if event.circuit_id != start.circuit_id or event.circuit_id != circuit.id:
        raise VerificationError(f"{where}: made for another circuit than its run's")
    if event.shard >= start.shards:
        raise VerificationError(f"{where}: the run has {start.shards} shards")
    public = public_of(event, start, st)
    if len(event.carry) != (2 if st.carries else 0):
        raise VerificationError(f"{where}: expected commitments to running sums only where the statement carries any")
    # 2. sealed for this place
    at = place(event.run_id, event.step, event.shard, event.pre, event.post, event.work, *event.carry)
    plain = unseal(data_key, at, event.ciphertext)
    # 3. canonical
    witness = ShardWitness.from_bytes(plain, st, circuit.shard, circuit.noise)
    # 4. within range
    step = advance(circuit, witness, public)
    # 5. commitments
    expected = (event.pre, event.post, event.work, *event.carry)
    for (name, (values, tail)), point in zip(secret_columns(st, witness, step).items(), expected, strict=True):
        if committer.commit(values, tail) != point:
            raise VerificationError(f"{where}: its {name} column is not the one that was committed to")
    return columns(circuit, witness, step, public)
