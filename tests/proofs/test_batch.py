"""The batch verifier: it accepts what EZKL accepts, and no change of a proof gets past it, alone or in company."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consumers.verifying import Verifiers
from tests.proofs.proving import Proved
from tests.support.circuits import REAL
from zk_autograd.errors import ProofSystemError, VerificationError
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Commitments
from zk_autograd.proofs.ezkl import batch as batch_module
from zk_autograd.proofs.ezkl.batch import BatchVerifier
from zk_autograd.proofs.ezkl.constraints import Key, read_key
from zk_autograd.proofs.ezkl.keccak import RATE, keccak_256
from zk_autograd.proofs.ezkl.srs import FIELD_MODULUS, g2_points
from zk_autograd.proofs.ezkl.verify import DIGEST, EzklVerifier, make_digest, read_digest

Prover = Callable[[str], Proved]


def key_of(circuit: Circuit) -> Key:
    return read_key((circuit.directory / "vk.key").read_bytes())


def batch_of(circuit: Circuit, digest: bytes | None = None) -> BatchVerifier:
    return BatchVerifier(key_of(circuit), digest or read_digest(circuit), *g2_points(circuit.srs_path))


@pytest.fixture
def adam(proved: Prover) -> Proved:
    return proved("adam")


@pytest.fixture
def opened(adam: Proved) -> Iterator[EzklVerifier]:
    with EzklVerifier(adam.circuit) as verifier:
        yield verifier


def bent(proof: bytes, at: int, by: int) -> bytes:
    """The element of 32 bytes at ``at``, changed to another canonical one; a point stays on the curve."""
    value = int.from_bytes(proof[at : at + 32], "big")
    return proof[:at] + ((value + by) % MODULUS).to_bytes(32, "big") + proof[at + 32 :]


def negated(proof: bytes, at: int) -> bytes:
    """The point at ``at``, negated."""
    y = int.from_bytes(proof[at + 32 : at + 64], "big")
    return proof[: at + 32] + (FIELD_MODULUS - y).to_bytes(32, "big") + proof[at + 64 :]


def moved(proof: bytes, at: int, by: int) -> bytes:
    """The point at ``at``, moved by ``by`` times the generator."""
    point = batch_module.ec_bn254.PointG1(
        *(int.from_bytes(proof[i : i + 32], "big") for i in (at, at + 32))
    ) + batch_module.ec_bn254.g1() * (by % MODULUS)
    return proof[:at] + b"".join(int(c).to_bytes(32, "big") for c in (point.x, point.y)) + proof[at + 64 :]


@pytest.mark.parametrize("length", [0, 1, RATE - 2, RATE - 1, RATE, RATE + 1, 2 * RATE - 1, 2944])
def test_the_sponge_is_that_of_sha3_and_differs_in_its_padding_only(length: int) -> None:
    rows = np.random.default_rng(length).integers(0, 256, (3, length), dtype=np.uint8)
    for row, as_sha3, keccak in zip(rows, keccak_256(rows, end=6), keccak_256(rows), strict=True):
        assert as_sha3.tobytes() == hashlib.sha3_256(row.tobytes()).digest()
        assert keccak.tobytes() != as_sha3.tobytes()


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_known_digests(message: bytes, digest: str) -> None:
    rows = np.frombuffer(message * 2, dtype=np.uint8).reshape(2, len(message))
    assert [d.tobytes().hex() for d in keccak_256(rows)] == [digest] * 2


@pytest.mark.parametrize("name", REAL)
def test_what_ezkl_accepts_is_accepted(proved: Prover, name: str) -> None:
    """One wrong term of one constraint, one wrong byte in the transcript, and no honest proof would pass."""
    p = proved(name)
    assert key_of(p.circuit).proof_bytes == p.circuit.proof_bytes
    assert batch_of(p.circuit).accepted([p.proof] * 3) == [True] * 3


def test_no_proof_with_any_element_changed_is_accepted(adam: Proved) -> None:
    key, proof = key_of(adam.circuit), adam.proof
    points, end = POINT_BYTES * key.commitments, len(proof) - 2 * POINT_BYTES
    places = [*range(0, points, POINT_BYTES), end, end + POINT_BYTES]
    changed = [negated(proof, at) for at in places]
    changed += [bent(proof, at, 1) for at in range(points, end, 32)]
    swaps = [(i, i + POINT_BYTES) for i in range(0, points - POINT_BYTES, POINT_BYTES)]
    changed += [proof[:i] + proof[j : j + 64] + proof[i:j] + proof[j + 64 :] for i, j in swaps]
    assert len(changed) == 31 + 65 + 28
    assert not any(batch_of(adam.circuit).accepted(changed))


def test_good_proofs_are_told_from_bad_ones_in_one_batch(adam: Proved) -> None:
    bad = [negated(adam.proof, POINT_BYTES * i) for i in range(5)]
    mixed = [*bad[:3], adam.proof, bad[3], adam.proof, adam.proof, adam.proof[:-1], b"", bad[4]]
    assert batch_of(adam.circuit).accepted(mixed) == [p == adam.proof for p in mixed]
    assert batch_of(adam.circuit).accepted([]) == []


def test_errors_of_two_proofs_that_cancel_out_are_found(adam: Proved, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening's last point is hashed by nothing: one proof's moved by G and another's by -G leave the sums as they
    were. What finds it is that nobody knows the weights beforehand."""
    last = len(adam.proof) - POINT_BYTES
    pair = [moved(adam.proof, last, 1), moved(adam.proof, last, -1)]
    assert batch_of(adam.circuit).accepted(pair) == [False, False]
    monkeypatch.setattr(batch_module.secrets, "randbits", lambda bits: 0)  # equal weights
    assert batch_of(adam.circuit).accepted(pair) == [True, True]


@pytest.mark.parametrize(
    ("flaw", "change"),
    [
        ("a coordinate that is not canonical", lambda p: _plus(p, 0, FIELD_MODULUS)),
        ("an evaluation that is not canonical", lambda p: _plus(p, len(p) - 2 * POINT_BYTES - 32, MODULUS)),
        ("a point at infinity", lambda p: bytes(64) + p[64:]),
        ("a point off the curve", lambda p: p[:63] + bytes([p[63] ^ 1]) + p[64:]),
        ("all zeros", lambda p: bytes(len(p))),
        ("all ones", lambda p: b"\xff" * len(p)),
    ],
)
def test_what_is_malformed_is_not_accepted(adam: Proved, flaw: str, change: Callable[[bytes], bytes]) -> None:
    assert batch_of(adam.circuit).accepted([adam.proof, change(adam.proof)]) == [True, False]


def _plus(proof: bytes, at: int, by: int) -> bytes:
    return proof[:at] + (int.from_bytes(proof[at : at + 32], "big") + by).to_bytes(32, "big") + proof[at + 32 :]


def test_nothing_is_accepted_under_another_key_digest_or_srs(adam: Proved, proved: Prover) -> None:
    key, digest, (g2, s_g2) = key_of(adam.circuit), read_digest(adam.circuit), g2_points(adam.circuit.srs_path)
    assert BatchVerifier(key, digest, g2, s_g2).accepted([adam.proof]) == [True]
    for other in (
        BatchVerifier(key, bytes(32), g2, s_g2),
        BatchVerifier(key, digest, g2, g2),
        BatchVerifier(replace(key, fixed=(key.fixed[1], key.fixed[0], *key.fixed[2:])), digest, g2, s_g2),
        BatchVerifier(replace(key, permutation=key.permutation[::-1]), digest, g2, s_g2),
        BatchVerifier(replace(key, k=key.k + 1), digest, g2, s_g2),
        BatchVerifier(replace(key, selectors=key.selectors[::-1]), digest, g2, s_g2),
        batch_of(proved("sgd").circuit),
    ):
        assert other.accepted([adam.proof]) == [False]


def test_a_key_of_another_shape_is_refused(adam: Proved) -> None:
    raw = (adam.circuit.directory / "vk.key").read_bytes()
    off_curve = raw[:7] + bytes([raw[7] ^ 1]) + raw[8:]
    for other in (raw[:-1], raw + b"\0", b"\x02" + raw[1:], raw[:1] + b"\x10" + raw[2:], off_curve, raw[:7], b""):
        with pytest.raises(VerificationError, match="verifying key"):
            read_key(other)


# Together with EZKL


def test_many_are_judged_as_each_is(opened: EzklVerifier, adam: Proved) -> None:
    proof, hyper = adam.proof, tuple(adam.columns.hyper)
    jobs = [
        (proof, hyper), (negated(proof, 64), hyper), (proof + b"\0", hyper), (proof, (hyper[0] + 1, *hyper[1:])),
        (bent(proof, 64 * 43, 1), hyper), (b"\xff" * len(proof), hyper), (proof, hyper),
    ]  # fmt: skip

    def one(proof: bytes, hyper: tuple[int, ...]) -> Commitments | str:
        try:
            return opened.verify(proof, hyper)
        except VerificationError as error:
            return str(error)

    found = opened.verify_many(jobs)
    assert [str(f) if isinstance(f, VerificationError) else f for f in found] == [one(*job) for job in jobs]
    assert [isinstance(f, Commitments) for f in found] == [True, *[False] * 5, True]
    assert opened.verify_many([]) == []


def test_a_proof_that_only_one_of_the_verifiers_accepts_is_no_verdict(
    opened: EzklVerifier, adam: Proved, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(proof: bytes) -> None:
        raise VerificationError("proof: refused by the verifier")

    monkeypatch.setattr(opened, "_ask_ezkl", refuse)
    with pytest.raises(ProofSystemError, match="disagree"):
        opened.verify_many([(adam.proof, adam.columns.hyper)] * 2)


def test_where_the_batch_verifier_accepts_nothing_ezkl_still_judges(adam: Proved, tmp_path: Path) -> None:
    """The digest's file is outside of what the circuit's id covers: who writes another makes audits slow, not wrong."""
    copy = tmp_path / "circuit"
    copy.mkdir()
    for name in ("settings.json", "vk.key"):
        (copy / name).write_bytes((adam.circuit.directory / name).read_bytes())
    (copy / DIGEST).write_text("11" * 32 + "\n")
    with EzklVerifier(replace(adam.circuit, directory=copy)) as verifier:
        assert verifier.batch.accepted([adam.proof]) == [False]
        good, bad = verifier.verify_many([(p, adam.columns.hyper) for p in (adam.proof, negated(adam.proof, 64))])
    assert isinstance(good, Commitments)
    assert isinstance(bad, VerificationError)


@pytest.mark.parametrize("content", [None, b"", b"zz\n", b"00\n", b"\xff" * 64, b"0" * 1000])
def test_a_digest_that_is_missing_or_none_is_made_again(adam: Proved, tmp_path: Path, content: bytes | None) -> None:
    for name in ("settings.json", "vk.key"):
        (tmp_path / name).write_bytes((adam.circuit.directory / name).read_bytes())
    if content is not None:
        (tmp_path / DIGEST).write_bytes(content)
    assert read_digest(replace(adam.circuit, directory=tmp_path)) == make_digest(adam.circuit)


def test_a_verifier_reads_its_own_copies(adam: Proved, tmp_path: Path) -> None:
    """Files that change after the circuit was loaded, and hashed, change no verdict."""
    for name in ("settings.json", "vk.key", DIGEST):
        (tmp_path / name).write_bytes((adam.circuit.directory / name).read_bytes())
    with EzklVerifier(replace(adam.circuit, directory=tmp_path)) as verifier:
        for name in ("settings.json", "vk.key", DIGEST):
            (tmp_path / name).write_bytes(b"{}")
        assert isinstance(verifier.verify(adam.proof, adam.columns.hyper), Commitments)
        found = verifier.verify_many([(adam.proof, adam.columns.hyper)] * 2)
    assert all(isinstance(f, Commitments) for f in found)


def test_a_circuit_whose_files_are_gone_is_no_verdict(adam: Proved, tmp_path: Path) -> None:
    for circuit in (replace(adam.circuit, directory=tmp_path), replace(adam.circuit, srs_path=tmp_path / "srs")):
        with pytest.raises(ProofSystemError, match="cannot be read"):
            EzklVerifier(circuit)


def test_who_wants_ezkls_word_alone_gets_it(adam: Proved, monkeypatch: pytest.MonkeyPatch) -> None:
    """``zk-audit --one-by-one``: the batch verifier is not even asked."""

    def asked(_: EzklVerifier, jobs: object) -> None:
        raise AssertionError("the batch verifier was asked")

    monkeypatch.setattr(EzklVerifier, "verify_many", asked)
    jobs = [(adam.proof, tuple(adam.columns.hyper)), (bent(adam.proof, 2000, 1), tuple(adam.columns.hyper))]
    with Verifiers(together=False) as verify:
        good, bad = verify.many(adam.circuit, jobs)
    assert isinstance(good, Commitments)
    assert isinstance(bad, VerificationError)
