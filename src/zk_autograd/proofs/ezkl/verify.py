"""Verifying one proof: every check before EZKL's own is here, because EZKL leaves it out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import ezkl
import numpy as np

from zk_autograd.errors import VerificationError
from zk_autograd.proofs.base import Circuit, Commitments, Verifier
from zk_autograd.proofs.ezkl.commit import SHIFT, KzgCommitter
from zk_autograd.proofs.ezkl.process import private_folder


class EzklVerifier(Verifier):
    """Verifies proofs of one circuit in this process.

    1. the exact length: EZKL accepts trailing bytes;
    2. the commitment to the public integers, which is recomputed here;
    3. the proof itself, with no instances, under the circuit's own settings, key and SRS.

    What the other commitments must equal is the caller's to check.
    """

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        logrows = (circuit.P + 8).bit_length() - 1
        self._committer = KzgCommitter(circuit.srs_path, logrows, len(circuit.statement.inputs))
        self._hyper: dict[tuple[int, ...], bytes] = {}
        self._manager = private_folder()
        self._folder = self._manager.__enter__()

    def close(self) -> None:
        self._manager.__exit__(None, None, None)

    def hyper_commitment(self, hyper: Sequence[int]) -> bytes:
        """Commitment (POINT_BYTES) of a step's public integers."""
        key = tuple(hyper)
        if key not in self._hyper:
            if len(self._hyper) > 64:
                self._hyper.clear()
            self._hyper[key] = self._committer.commit(np.array(key, dtype=np.int64))
        return self._hyper[key]

    def verify(self, proof: bytes, hyper: Sequence[int]) -> Commitments:
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
        # 3. the proof
        path = self._folder / f"{hashlib.sha256(proof).hexdigest()}.json"
        path.write_text(
            json.dumps(
                {
                    "protocol": None, "instances": [[]], "proof": list(proof), "hex_proof": None, "split": None,
                    "pretty_public_inputs": None, "timestamp": None, "version": None,
                }
            )
        )  # fmt: skip
        directory = circuit.directory
        try:
            valid = ezkl.verify(
                str(path), str(directory / "settings.json"), str(directory / "vk.key"), str(circuit.srs_path), False
            )
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            # A pyo3 panic is no Exception; its text is EZKL's, so only its kind is passed on.
            raise VerificationError(f"proof: refused by the verifier ({_reason(error)})") from None
        finally:
            path.unlink(missing_ok=True)
        if valid is not True:
            raise VerificationError("proof: refused by the verifier")

        return parts


def _reason(error: BaseException) -> str:
    text = str(error)
    for known in ("constraint system is not satisfied", "point encoding", "field element", "fill whole buffer"):
        if known in text:
            return known
    return type(error).__name__
