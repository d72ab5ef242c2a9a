"""Verifying proofs: every check before the proof system's own is here, because EZKL leaves it out."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cached_property

import ezkl
import numpy as np

from zk_autograd.errors import ProofSystemError, UsageError, VerificationError
from zk_autograd.files import read_capped
from zk_autograd.proofs.base import Circuit, Commitments, Limits, Verifier
from zk_autograd.proofs.ezkl.batch import BatchVerifier
from zk_autograd.proofs.ezkl.commit import SHIFT, KzgCommitter
from zk_autograd.proofs.ezkl.constraints import read_key
from zk_autograd.proofs.ezkl.process import private_folder, run_child
from zk_autograd.proofs.ezkl.srs import g2_points, write_verifier_srs

DIGEST = "digest"
"""File of a circuit's folder: the key's first word in the transcript, in hex. Not part of the circuit's id: see
:class:`~zk_autograd.proofs.ezkl.batch.BatchVerifier`."""
_LARGEST = 64 << 20
FILES = ("settings.json", "vk.key", "srs")
"""What EZKL reads to verify."""


class EzklVerifier(Verifier):
    """Verifies proofs of one circuit in this process.

    1. the exact length: EZKL accepts trailing bytes;
    2. the commitment to the public integers, which is recomputed here;
    3. the proof itself, with no instances, under the circuit's own settings, key and SRS.

    What the other commitments must equal is the caller's to check. One proof goes to EZKL. Many go through
    :class:`BatchVerifier` first: EZKL judges whatever that does not accept, and one of those that it does.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._hyper: dict[tuple[int, ...], bytes] = {}
        logrows = (circuit.P + 8).bit_length() - 1
        with ExitStack() as stack:
            self._folder = stack.enter_context(private_folder())
            try:
                self._committer = KzgCommitter(circuit.srs_path, logrows, len(circuit.statement.inputs))
                # EZKL reads its files anew for each proof; of the SRS (8 MB and more) a verifier needs a few points.
                for name in ("settings.json", "vk.key"):
                    shutil.copyfile(circuit.directory / name, self._folder / name)
                write_verifier_srs(circuit.srs_path, logrows, self._folder / "srs")
                self._written = self._digests()
            except OSError as error:
                raise ProofSystemError(f"circuit {circuit.id.hex()}: its files cannot be read ({error})") from None
            self._opened = stack.pop_all()

    def _digests(self) -> list[str]:
        """Of the files that EZKL reads anew for each proof; empty for one that is gone."""
        found = []
        for name in FILES:
            with suppress(OSError):
                found.append(hashlib.sha256((self._folder / name).read_bytes()).hexdigest())
        return found

    def close(self) -> None:
        self._opened.close()

    def hyper_commitment(self, hyper: Sequence[int]) -> bytes:
        """Commitment (POINT_BYTES) of a step's public integers."""
        key = tuple(hyper)
        if key not in self._hyper:
            if len(self._hyper) > 64:
                self._hyper.clear()
            self._hyper[key] = self._committer.commit(np.array(key, dtype=np.int64))
        return self._hyper[key]

    @cached_property
    def batch(self) -> BatchVerifier:
        """Made at first use: it reads the key's points."""
        key = read_key(read_capped(self._folder / "vk.key", _LARGEST))
        return BatchVerifier(key, read_digest(self._circuit), *g2_points(self._circuit.srs_path))

    def verify(self, proof: bytes, hyper: Sequence[int]) -> Commitments:
        parts = self._outside(proof, hyper)
        self._ask_ezkl(proof)
        return parts

    def verify_many(self, jobs: Sequence[tuple[bytes, Sequence[int]]]) -> list[Commitments | VerificationError]:
        out: list[Commitments | VerificationError] = []
        for proof, hyper in jobs:
            try:
                out.append(self._outside(proof, hyper))
            except VerificationError as error:
                out.append(error)
        rest = [i for i, found in enumerate(out) if isinstance(found, Commitments)]
        held: list[int] = []
        # Without a batch verifier (a circuit of another release, say) EZKL judges all: slower, no less.
        with suppress(VerificationError, ProofSystemError):
            if len(rest) > 1:
                accepted = self.batch.accepted([jobs[i][0] for i in rest])
                held = [i for i, holds in zip(rest, accepted, strict=True) if holds]
        for i in set(rest) - set(held):
            try:
                self._ask_ezkl(jobs[i][0])
            except VerificationError as error:
                out[i] = error
        if held:
            self._compare(jobs[secrets.choice(held)][0])
        return out

    def _compare(self, proof: bytes) -> None:
        """Lets EZKL judge a proof that the batch verifier accepted."""
        try:
            self._ask_ezkl(proof)
        except VerificationError as error:
            raise ProofSystemError(
                f"the two verifiers disagree: the batch verifier accepts what EZKL refuses ({error}); verify one by one"
            ) from None

    def _outside(self, proof: bytes, hyper: Sequence[int]) -> Commitments:
        """Checks 1 and 2."""
        circuit = self._circuit
        # 1. length
        if len(proof) != circuit.proof_bytes:
            raise VerificationError(f"proof: expected {circuit.proof_bytes} bytes, got {len(proof)}")
        parts = Commitments.first_in(proof, circuit.statement)
        # 2. public integers; their number matters, as a column of fewer commits like one that ends in zeros
        names = circuit.statement.inputs
        if len(hyper) != len(names) or not all(0 <= x < SHIFT for x in hyper):
            raise VerificationError(f"proof: expected {len(names)} public integers of [0, 2^36), got {len(hyper)}")
        if parts.hyper != self.hyper_commitment(hyper):
            raise VerificationError("proof: it was made with other public integers than the step's")
        return parts

    def _ask_ezkl(self, proof: bytes) -> None:
        """Check 3, by EZKL."""
        path = self._folder / f"{hashlib.sha256(proof).hexdigest()}.json"
        path.write_text(
            json.dumps(
                {
                    "protocol": None, "instances": [[]], "proof": list(proof), "hex_proof": None, "split": None,
                    "pretty_public_inputs": None, "timestamp": None, "version": None,
                }
            )
        )  # fmt: skip
        settings, key, srs = (str(self._folder / name) for name in FILES)
        try:
            valid = ezkl.verify(str(path), settings, key, srs, True)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            if self._digests() != self._written:
                raise ProofSystemError(f"the verifier's files in {self._folder} have changed: start again") from None
            # A pyo3 panic is no Exception; its text is EZKL's, so only its kind is passed on.
            raise VerificationError(f"proof: refused by the verifier ({_reason(error)})") from None
        finally:
            path.unlink(missing_ok=True)
        if valid is not True:
            raise VerificationError("proof: refused by the verifier")


def read_digest(circuit: Circuit) -> bytes:
    """The circuit's digest (32 bytes) from its folder, or by EZKL where it is not there."""
    with suppress(OSError, ValueError, UsageError):
        digest = bytes.fromhex(read_capped(circuit.directory / DIGEST, 100).decode("ascii"))
        if len(digest) == 32:
            return digest
    return make_digest(circuit)


def make_digest(circuit: Circuit) -> bytes:
    """Has EZKL compute the field element (32 big-endian bytes) that stands for the key in every transcript."""
    with private_folder() as folder:
        job = {"verb": "digest", "vk": str(circuit.directory / "vk.key"), "srs": str(circuit.srs_path)}
        job |= {"settings": str(circuit.directory / "settings.json"), "artifact": str(folder / "artifact")}
        run_child(job, Limits(seconds=120, memory=0), secret=False)
        raw = read_capped(folder / "artifact", _LARGEST)
    # EZKL's artifact for its contract: the number of words (little-endian), then words, of which this is the first.
    if len(raw) < 40 or len(raw) != 8 + 32 * int.from_bytes(raw[:8], "little"):
        raise ProofSystemError(
            "ezkl: its key artifact is not as expected: the installed ezkl does not fit this release"
        )
    return raw[8:40]


def _reason(error: BaseException) -> str:
    text = str(error)
    for known in ("constraint system is not satisfied", "point encoding", "field element", "fill whole buffer"):
        if known in text:
            return known
    return type(error).__name__
