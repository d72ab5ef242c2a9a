"""Proofs that an earlier audit of this home has verified, so that a long audit goes on where it stopped.

A file of 32-byte tags, nothing else: ``HMAC-SHA256(key, how ‖ circuit id ‖ SHA-256 of the proof ‖ public integers)``,
under a key that only this home has (mode 0600). Only "this proof holds" is remembered. Who can write to the file but
does not know the key can make no tag that anything matches: the worst that can be done is that proofs are verified
again. What a proof is about is in its first bytes, which are under its digest, and is read from there anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from consumers.audit.proofs import Job, Verdict
from zk_autograd.errors import UsageError
from zk_autograd.files import read_capped
from zk_autograd.proofs.base import Circuit, Commitments
from zk_autograd.tee.keys import write_private

BATCH, ALONE = b"batch", b"alone"
"""How a proof was verified: in a batch, or by the proof system alone, which counts for both."""

_DOMAIN = b"zk-autograd/verdict/v1\0"
_TAG = 32
_LARGEST = 256 << 20
"""Eight million proofs."""

_AT_ONCE = 4096
"""Proofs after which a verdict is remembered at the latest."""

VerifyAll: TypeAlias = Callable[[Circuit, Sequence[Job]], list[Verdict]]


def home_key(home: Path) -> bytes:
    """The key that what this home's audits remember is under, made at first use.

    Raises:
        UsageError: it cannot be read or made, or it is none.
    """
    path = home / "audit" / "verdicts.key"
    try:
        if not path.exists():
            write_private(path, secrets.token_bytes(32), replace=False)
        key = read_capped(path, 32)
    except OSError as error:
        raise UsageError(f"{path.parent}: {error.strerror}; --resume needs a home to write to") from None
    if len(key) != 32:
        raise UsageError(f"{path}: expected 32 bytes; remove it, and what it was made for is verified again")
    return key


class Remembered:
    """The verdicts that a home remembers, and the key that they are under.

    Args:
        home: the auditor's home; ``audit/verdicts`` and ``audit/verdicts.key`` are made below it.
        alone: whether only proofs count that the proof system itself has judged.
    Raises:
        UsageError: the files cannot be read or made, or the key is none.
    """

    def __init__(self, home: Path, alone: bool) -> None:
        self._path, self._alone, self._key = home / "audit" / "verdicts", alone, home_key(home)
        try:
            content = read_capped(self._path, _LARGEST) if self._path.exists() else b""
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}") from None
        self.count = 0
        """Proofs that were asked for and remembered."""
        self._known = {content[i : i + _TAG] for i in range(0, len(content) - _TAG + 1, _TAG)}

    def verdicts(self, circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict | None]:
        """For each job the verdict that is remembered, or None."""
        hows = (ALONE,) if self._alone else (ALONE, BATCH)
        return [
            Verdict(Commitments.first_in(job[0], circuit.statement))
            if any(self._tag(how, circuit, job) in self._known for how in hows)
            else None
            for job in jobs
        ]

    def add(self, circuit: Circuit, jobs: Iterable[Job]) -> None:
        """Remembers that these hold; on the disk when this returns. UsageError if it cannot be written."""
        how = ALONE if self._alone else BATCH
        tags = [tag for job in jobs if (tag := self._tag(how, circuit, job)) not in self._known]
        self._known.update(tags)
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # What a crash has left of a tag would put all later ones out of step.
                file.seek(os.fstat(handle).st_size // _TAG * _TAG)
                file.truncate()
                file.write(b"".join(tags))
                file.flush()
                os.fsync(handle)
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}; without --resume nothing is written") from None

    def over(self, verify: VerifyAll) -> VerifyAll:
        """``verify``, but for what is remembered; what it finds is remembered at the latest every 4,096 proofs."""

        def verified(circuit: Circuit, jobs: Sequence[Job]) -> list[Verdict]:
            found = self.verdicts(circuit, jobs)
            rest = [i for i, verdict in enumerate(found) if verdict is None]
            self.count += len(jobs) - len(rest)
            for start in range(0, len(rest), _AT_ONCE):
                some = rest[start : start + _AT_ONCE]
                for i, verdict in zip(some, verify(circuit, [jobs[i] for i in some]), strict=True):
                    found[i] = verdict
                self.add(circuit, [jobs[i] for i in some if _holds(found[i])])
            return [verdict for verdict in found if verdict is not None]

        return verified

    def _tag(self, how: bytes, circuit: Circuit, job: Job) -> bytes:
        proof, public = job
        said = repr(tuple(public)).encode()  # Python's integers: one spelling each
        message = _DOMAIN + how + b"\0" + circuit.id + hashlib.sha256(proof).digest() + said
        return hmac.digest(self._key, message, "sha256")


def _holds(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.checked and verdict.commitments is not None
