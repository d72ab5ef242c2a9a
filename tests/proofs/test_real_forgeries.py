"""A handful of the corpus at the real prover: it fails, never ends, or makes a proof that does not verify.

That the prover gives up proves nothing about another prover: what the constraints refuse, the mock prover shows
(``test_corpus.py``). This holds that nothing on the real path (witness, keys, proof, verifier) is laxer than that.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.proofs.corpus import WITNESSES, lies
from tests.proofs.forging import case
from tests.support.circuits import without_keys
from zk_autograd.errors import ProofSystemError, VerificationError
from zk_autograd.proofs.base import Circuit, Columns, Limits
from zk_autograd.proofs.ezkl.system import Ezkl

HANDFUL = ("halves", "quotient_of_another_remainder", "the_provers_own_integers", "columns_shifted")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Circuit:
    """A real circuit of 2^12 rows, with keys, for 56 parameters."""
    home = tmp_path_factory.mktemp("tiny")
    srs = Ezkl().dev_srs(home, 12)
    circuit = without_keys("adam", home, 12, 56, 16)
    Ezkl()._keys(home, srs)
    return replace(circuit, srs_path=srs)


def proved(circuit: Circuit, columns: Columns, seconds: float) -> str:
    """How an attempt ended; ``"verified"`` if a proof came out and the verifier took it."""
    try:
        proof = Ezkl().prove_unverified(circuit, columns, Limits(seconds=seconds))
    except ProofSystemError as error:
        return "took longer" if "took longer" in str(error) else "the prover failed"
    try:
        with Ezkl().verifier(replace(circuit, proof_bytes=len(proof))) as verifier:
            verifier.verify(proof, columns.hyper)
    except VerificationError:
        return "not verified"
    return "verified"


def test_no_proof_of_a_lie_comes_out_of_the_real_prover(tiny: Circuit) -> None:
    c, place = case(tiny), "ordinary 0"
    began = time.monotonic()
    assert proved(tiny, c.columns(), 120) == "verified"
    limit = 5 + 2 * (time.monotonic() - began)
    attempts = [
        next(iter(WITNESSES[name].make(c)))
        if name in WITNESSES
        else c.columns({place: next(lies(name, c.rule, c.honest[place]))})
        for name in HANDFUL
    ]
    # Side by side: an attempt that hangs takes no time of the processor.
    with ThreadPoolExecutor(len(attempts)) as pool:
        ended = list(pool.map(lambda columns: proved(tiny, columns, limit), attempts))
    assert "verified" not in ended, dict(zip(HANDFUL, ended, strict=True))
