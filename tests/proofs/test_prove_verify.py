"""Real proofs: what verifies, what is refused, and what the commitments in front of a proof are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.proofs.proving import Proved, honest_step, prove
from tests.support.circuits import REAL
from zk_autograd.errors import VerificationError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Columns, Commitments
from zk_autograd.proofs.ezkl.srs import FIELD_MODULUS
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.proofs.witness import SALT, fresh_salt

OPENINGS = 2 * POINT_BYTES
"""A proof ends with the two points of its batched opening, and before them stand evaluations: 32 bytes each."""

Prover = Callable[[str], Proved]


def committed(circuit: Circuit, columns: Columns) -> Commitments:
    """The commitments as the training enclave computes them: small integers, and field elements behind them."""
    st, shard, committer = circuit.statement, circuit.shard, Ezkl().committer(circuit)
    state, work = len(st.state) * shard, shard * (1 + len(st.hints)) + circuit.noise

    def commit(column: Sequence[int], small: int) -> bytes:
        return committer.commit(np.array(column[:small], dtype=np.int64), column[small:]) if column else b""

    return Commitments(
        commit(columns.pre, state), commit(columns.post, state), commit(columns.work, work),
        commit(columns.hyper, len(columns.hyper)), commit(columns.carry_in, 0), commit(columns.carry_out, 0),
    )  # fmt: skip


def verify(proved: Proved, proof: bytes, hyper: list[int] | None = None, circuit: Circuit | None = None) -> Commitments:
    with Ezkl().verifier(circuit or proved.circuit) as verifier:
        return verifier.verify(proof, list(proved.columns.hyper) if hyper is None else hyper)


@pytest.mark.parametrize("name", REAL)
def test_a_proof_verifies_and_begins_with_the_commitments_that_the_enclave_computes(proved: Prover, name: str) -> None:
    p = proved(name)
    assert len(p.proof) == p.circuit.proof_bytes
    found = verify(p, p.proof)
    assert found == committed(p.circuit, p.columns)
    assert p.proof.startswith(found.pre + found.post + found.work + found.hyper + found.carry_in + found.carry_out)


def test_the_state_after_a_step_is_byte_for_byte_the_state_before_the_next(proved: Prover) -> None:
    first = proved("adam")
    second = prove(honest_step(first.circuit, first))
    one, two = verify(first, first.proof), verify(second, second.proof)
    assert one.post == two.pre
    assert len({one.pre, one.post, two.post, one.work, two.work}) == 5


def test_the_same_state_under_another_salt_has_another_commitment(proved: Prover) -> None:
    p = proved("adam")
    again = committed(p.circuit, replace(p.columns, post=[*p.columns.post[:-SALT], *fresh_salt()]))
    once = committed(p.circuit, p.columns)
    assert again.post != once.post
    assert again.pre == once.pre
    for at in range(1, SALT + 1):
        salted = list(p.columns.post)
        salted[-at] = (salted[-at] + 1) % MODULUS
        assert committed(p.circuit, replace(p.columns, post=salted)).post != once.post


def test_a_guess_of_the_state_can_be_confirmed_only_where_there_is_no_salt(proved: Prover) -> None:
    p = proved("adam")
    committer = Ezkl().committer(p.circuit)
    state = np.array(p.columns.pre[:-SALT], dtype=np.int64)
    guess = state.copy()
    assert committer.commit(guess) == committer.commit(state)  # bare columns: equal states show
    published = verify(p, p.proof).pre
    assert committer.commit(guess) != published
    assert committer.commit(guess, (0, 0, 0)) != published
    assert committer.commit(guess, fresh_salt()) != published


def test_two_proofs_of_one_witness_share_the_commitments_to_it_and_no_commitment_to_what_follows(
    proved: Prover,
) -> None:
    p = proved("sgd")
    other = prove(p).proof
    assert verify(p, other) == verify(p, p.proof)
    prefix, inner = 4 * POINT_BYTES, 3 * 3 * POINT_BYTES  # three inner columns: left, right and result of each cell
    pairs = [(p.proof[i : i + POINT_BYTES], other[i : i + POINT_BYTES]) for i in range(0, prefix + inner, POINT_BYTES)]
    assert [a == b for a, b in pairs] == [True] * 4 + [False] * 9


def places(circuit: Circuit) -> Iterator[tuple[str, int]]:
    size = circuit.proof_bytes
    for i, name in enumerate(("pre", "post", "work", "hyper")):
        yield f"{name}, x", i * POINT_BYTES + 5
        yield f"{name}, y", i * POINT_BYTES + 63
    yield "an advice commitment", 4 * POINT_BYTES + 40
    yield "the middle", size // 2
    yield "an evaluation", size - OPENINGS - 7
    yield "the opening", size - POINT_BYTES - 1
    yield "the last byte", size - 1
    yield "the first byte", 0


@pytest.mark.parametrize("name", REAL)
def test_a_proof_with_any_byte_changed_is_refused(proved: Prover, name: str) -> None:
    p = proved(name)
    accepted = []
    for place, at in places(p.circuit):
        for bit in (1, 128):
            changed = bytearray(p.proof)
            changed[at] ^= bit
            try:
                verify(p, bytes(changed))
            except VerificationError:
                continue
            accepted.append((place, bit))
    assert accepted == []


@pytest.mark.parametrize(
    ("flaw", "change"),
    [
        ("nothing", lambda proof: b""),
        ("a byte too many", lambda proof: proof + b"\0"),
        ("a thousand bytes too many", lambda proof: proof + bytes(1000)),
        ("a byte too few", lambda proof: proof[:-1]),
        ("half", lambda proof: proof[: len(proof) // 2]),
        ("only the commitments", lambda proof: proof[: 4 * POINT_BYTES]),
    ],
)
def test_a_proof_of_another_length_is_refused_before_anything_reads_it(
    proved: Prover, flaw: str, change: Callable[[bytes], bytes]
) -> None:
    p = proved("adam")
    with pytest.raises(VerificationError, match=rf"expected {p.circuit.proof_bytes} bytes, got {len(change(p.proof))}"):
        verify(p, change(p.proof))


@pytest.mark.parametrize("content", [0, 255])
def test_a_proof_of_one_repeated_byte_is_refused(proved: Prover, content: int) -> None:
    p = proved("adam")
    with pytest.raises(VerificationError):
        verify(p, bytes([content]) * p.circuit.proof_bytes)
    behind_the_commitments = p.proof[: 4 * POINT_BYTES] + bytes([content]) * (p.circuit.proof_bytes - 4 * POINT_BYTES)
    with pytest.raises(VerificationError, match="refused"):
        verify(p, behind_the_commitments)


def test_the_other_encoding_of_a_number_is_refused(proved: Prover) -> None:
    """A coordinate plus the field's prime is the same point, a scalar plus the group's order the same scalar."""
    p, size = proved("adam"), proved("adam").circuit.proof_bytes
    words = [(at, FIELD_MODULUS) for at in (0, 32, POINT_BYTES, 4 * POINT_BYTES, size - 64, size - 32)]
    words += [(size - OPENINGS - 32, MODULUS), (size - OPENINGS - 320, MODULUS)]
    for at, modulus in words:
        word = int.from_bytes(p.proof[at : at + 32], "big")
        other = p.proof[:at] + (word + modulus).to_bytes(32, "big") + p.proof[at + 32 :]
        with pytest.raises(VerificationError, match="refused"):
            verify(p, other)


def test_the_commitments_of_two_columns_cannot_be_exchanged(proved: Prover) -> None:
    p = proved("adam")
    pre, post, rest = p.proof[:POINT_BYTES], p.proof[POINT_BYTES : 2 * POINT_BYTES], p.proof[2 * POINT_BYTES :]
    with pytest.raises(VerificationError, match="refused"):
        verify(p, post + pre + rest)


def test_a_commitment_of_another_proof_is_refused(proved: Prover) -> None:
    p = proved("adam")
    other = committed(p.circuit, honest_step(p.circuit).columns)
    with pytest.raises(VerificationError, match="refused"):
        verify(p, other.pre + p.proof[POINT_BYTES:])


@pytest.mark.parametrize("name", REAL)
def test_any_other_public_integer_is_refused(proved: Prover, name: str) -> None:
    p = proved(name)
    for i in range(len(p.columns.hyper)):
        for by in (1, -1):
            hyper = list(p.columns.hyper)
            hyper[i] += by
            with pytest.raises(VerificationError, match=r"other public integers|expected .* public integers"):
                verify(p, p.proof, hyper)


def test_public_integers_in_another_order_or_number_are_refused(proved: Prover) -> None:
    p = proved("adam")
    hyper = list(p.columns.hyper)
    with pytest.raises(VerificationError, match="other public integers"):
        verify(p, p.proof, hyper[::-1])
    for wrong in ([], hyper[:-1], [*hyper, 0], [*hyper, 1]):
        with pytest.raises(VerificationError, match=f"expected {len(hyper)} public integers"):
            verify(p, p.proof, wrong)


@pytest.mark.parametrize("value", [-1, 1 << 36, 1 << 64, -(1 << 63), MODULUS])
def test_a_public_integer_out_of_range_is_refused_as_such(proved: Prover, value: int) -> None:
    """Also where it stands for the same field element: the integers of an event have one form."""
    p = proved("adam")
    hyper = list(p.columns.hyper)
    hyper[0] += value
    with pytest.raises(VerificationError, match="public integers of"):
        verify(p, p.proof, hyper)


def test_a_proof_of_another_circuit_is_refused_even_with_the_same_public_commitment(
    proved: Prover, real_circuit: Callable[[str], Circuit]
) -> None:
    p, momentum = proved("sgd"), real_circuit("momentum")
    padded = [*p.columns.hyper, *[0] * (len(momentum.statement.public) - len(p.columns.hyper))]
    same_length = replace(momentum, proof_bytes=p.circuit.proof_bytes)
    with pytest.raises(VerificationError, match="refused by the verifier"):
        verify(p, p.proof, padded, same_length)


def test_a_verifier_goes_on_after_a_refusal(proved: Prover) -> None:
    p = proved("adam")
    with Ezkl().verifier(p.circuit) as verifier:
        first = verifier.verify(p.proof, p.columns.hyper)
        with pytest.raises(VerificationError):
            verifier.verify(p.proof[:-1] + bytes([p.proof[-1] ^ 1]), p.columns.hyper)
        assert verifier.verify(p.proof, p.columns.hyper) == first


def test_a_refusal_says_nothing_of_the_proof(proved: Prover) -> None:
    p = proved("adam")
    changed = p.proof[:-1] + bytes([p.proof[-1] ^ 1])
    with pytest.raises(VerificationError) as refused:
        verify(p, changed)
    assert p.proof[:8].hex() not in str(refused.value)
    assert len(str(refused.value)) < 200
