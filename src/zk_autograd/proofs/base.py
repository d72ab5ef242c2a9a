"""A proof system is four verbs over a statement: set up, commit, prove, verify.

Nothing outside the packages below this one knows which system is behind them; its name is part of every circuit id
and of every published proof, so that a second one can stand beside the first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from zk_autograd.errors import VerificationError
from zk_autograd.statement import Ops, Public, Statement

Ints = npt.NDArray[np.int64]

POINT_BYTES = 64
"""A commitment: one BN254 G1 point, x then y, 32 big-endian bytes each (EIP-196)."""


@dataclass(frozen=True)
class Profile:
    """How large one proof is: ``2**logrows`` rows, ``columns`` inner columns, ``noise`` look-ups of fresh values."""

    name: str
    logrows: int
    columns: int
    noise: int

    @property
    def P(self) -> int:
        """Size of the look-up table: all rows that EZKL leaves usable, so that the table is tight at both ends."""
        return int(2**self.logrows - 8)


PROFILES: dict[str, Profile] = {
    "small": Profile("small", logrows=15, columns=3, noise=576),
    "default": Profile("default", logrows=16, columns=3, noise=507),
}
"""``noise`` follows from the other two, by ``noise_lookups`` in ``proofs/ezkl/hiding.py``."""


@dataclass(frozen=True)
class Limits:
    """What one proof may use. ``seconds`` of wall-clock time, ``memory`` bytes of address space."""

    seconds: float = 600.0
    memory: int = 12 << 30


@dataclass(frozen=True)
class Columns:
    """The committed columns of one shard of one step, as integers (salts included); empty where there is none."""

    pre: Sequence[int]
    post: Sequence[int]
    work: Sequence[int]
    hyper: Sequence[int]
    carry_in: Sequence[int] = ()
    carry_out: Sequence[int] = ()

    def in_order(self) -> list[Sequence[int]]:
        """Those that there are, in committed order."""
        every = (self.pre, self.post, self.work, self.hyper, self.carry_in, self.carry_out)
        return [column for column in every if column]


@dataclass(frozen=True)
class Commitments:
    """The commitments of one shard of one step, POINT_BYTES each; empty where there is none."""

    pre: bytes
    post: bytes
    work: bytes
    hyper: bytes
    carry_in: bytes = b""
    carry_out: bytes = b""

    @classmethod
    def first_in(cls, proof: bytes, st: Statement) -> Commitments:
        """Those that a proof of ``st`` begins with, in committed order."""
        count = 6 if st.carries else 4
        return cls(*(proof[i : i + POINT_BYTES] for i in range(0, count * POINT_BYTES, POINT_BYTES)))


@dataclass(frozen=True)
class Circuit:
    """A circuit as loaded from a directory whose content has been hashed: ``id`` is what was found, not claimed.

    Attributes:
        id: SHA-256 over proof system, description, verifying key, settings and SRS (32 bytes).
        system: name of the proof system.
        statement: the optimizer rule it checks.
        P: size of its look-up table.
        shard: parameters per proof.
        noise: noise look-ups per proof.
        proof_bytes: the exact length of a proof.
        srs_id: SHA-256 of the SRS file (32 bytes).
        srs_class: ``CEREMONY`` when ``srs_id`` is a pinned public ceremony's, else ``DEV``: whoever made it can forge.
        directory: where its files are.
        srs_path: the SRS file.
    """

    id: bytes
    system: str
    statement: Statement
    P: int
    shard: int
    noise: int
    proof_bytes: int
    srs_id: bytes
    srs_class: str
    directory: Path
    srs_path: Path

    @property
    def can_prove(self) -> bool:
        """Whether the proving key is there too."""
        return (self.directory / "pk.key").exists()


class Committer(ABC):
    """Commits to columns inside the enclave, without the prover."""

    @abstractmethod
    def commit(self, values: Ints, salt: Sequence[int] = ()) -> bytes:
        """The commitment (POINT_BYTES) of ``values`` followed by the field elements ``salt``."""


class Verifier(ABC):
    """Verifies proofs of one circuit."""

    @abstractmethod
    def verify(self, proof: bytes, hyper: Sequence[int]) -> Commitments:
        """Checks a proof and that it used the public integers ``hyper``.

        Returns:
            The commitments the proof is about; comparing them with the run's roots is left to the caller.
        Raises:
            VerificationError: wrong length, other public integers, or an invalid proof.
        """

    def verify_many(self, jobs: Sequence[tuple[bytes, Sequence[int]]]) -> list[Commitments | VerificationError]:
        """:meth:`verify` for each (proof, public integers), in their order; what does not hold has its error there.

        A proof system that can verify many at less than so many times the cost of one overrides this.

        Raises:
            ProofSystemError: nobody knows, of none of them.
        """
        return self.verify_each(jobs)

    def verify_each(self, jobs: Sequence[tuple[bytes, Sequence[int]]]) -> list[Commitments | VerificationError]:
        """:meth:`verify_many`, one proof at a time."""
        out: list[Commitments | VerificationError] = []
        for proof, hyper in jobs:
            try:
                out.append(self.verify(proof, hyper))
            except VerificationError as error:
                out.append(error)
        return out

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class ProofSystem(ABC):
    """The four verbs. Everything a verifier needs comes from files whose hash is the circuit id."""

    name: str

    @abstractmethod
    def shard_size(self, st: Statement, profile: Profile) -> int:
        """Parameters per proof; known without making a circuit."""

    @abstractmethod
    def dev_srs(self, home: Path, logrows: int, say: Callable[[str], None] = lambda _: None) -> Path:
        """The home's insecure SRS, made at first use: its maker could keep the trapdoor and forge. Development only."""

    @abstractmethod
    def set_up(
        self, st: Statement, profile: Profile, srs: Path, home: Path, say: Callable[[str], None] = lambda _: None
    ) -> Circuit:
        """Builds keys under ``home``, tests that the look-up table is tight and that a proof verifies."""

    @abstractmethod
    def rebuild_verifying_key(self, circuit: Circuit) -> None:
        """Builds the verifying key again from the statement; VerificationError if it is another."""

    @abstractmethod
    def check_hiding(self, circuit: Circuit) -> None:
        """Raises VerificationError unless the circuit's proofs hide what they are about, by the circuit's own sizes."""

    @abstractmethod
    def load(self, circuit_id: bytes, home: Path) -> Circuit:
        """The circuit with this id from ``home``; UsageError if it is not there, VerificationError if it is not it."""

    @abstractmethod
    def committer(self, circuit: Circuit) -> Committer:
        """A committer for the circuit's columns, checked against the proof system's own commitment."""

    @abstractmethod
    def prove(
        self, circuit: Circuit, columns: Columns, limits: Limits, tick: Callable[[], None] = lambda: None
    ) -> bytes:
        """A verified proof. ``tick`` is called at least every two seconds while the prover runs.

        Raises:
            ProofSystemError: the prover ran out of time or memory, crashed, or made an invalid proof.
        """

    @abstractmethod
    def verifier(self, circuit: Circuit) -> Verifier:
        """A verifier for the circuit."""

    @abstractmethod
    def satisfied(self, circuit: Circuit, columns: Columns) -> bool:
        """Whether the constraint system holds for ``columns``, without proving (used by set-up and by tests)."""


def isqrt(x: Ints) -> Ints:
    """Exact integer square roots of int64 values in ``[0, 2**52)``: float64 is exact there up to one unit."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root


OPS = Ops(isqrt, np.maximum)
"""For numpy's int64 arrays: the integer reference."""


def check_bounds(
    st: Statement,
    pre: Mapping[str, Any],
    post: Mapping[str, Any],
    g: Any,
    hints: Mapping[str, Any],
    pub: Public,
    P: int,
) -> list[str]:
    """Names of the bounds that do not hold; empty for a witness that the circuit accepts.

    Takes arrays of int64, which may wrap around, or of Python's integers (dtype object), which cannot.
    """
    bounds: dict[str, Any] = st.bounds(pre, post, g, hints, pub, P)  # not those that a shard has once
    return [name for name, value in bounds.items() if int(value.min()) < 0 or int(value.max()) >= P]
