"""One tree of errors. A message says what was expected, what came, where, and what to do; never a secret."""

from __future__ import annotations


class ZkAutogradError(Exception):
    """Root of every error this project raises on purpose."""


class UsageError(ZkAutogradError):
    """The caller asked for something that cannot be: a wrong option, file, URL or call order."""


class FormatError(ZkAutogradError):
    """A number does not fit the run's fixed-point format."""


class DecodeError(ZkAutogradError):
    """Bytes from outside are not one well-formed, canonical, size-capped message."""


class VerificationError(ZkAutogradError):
    """A signature, proof, commitment, path or chain does not hold."""


class ProofSystemError(ZkAutogradError):
    """The proof system could not set up, commit or prove (verification failures are VerificationError)."""


class EventLogError(ZkAutogradError):
    """The event log cannot be reached or refuses."""


class FencedError(EventLogError):
    """A newer instance with the same transactional id took over: this one must stop."""


class SealingError(ZkAutogradError):
    """Ciphertext does not open under this key for this place."""


class AnchorError(ZkAutogradError):
    """An anchor backend failed or refused."""


class StorageError(ZkAutogradError):
    """A place on the disk or in a bucket cannot be read or written, or holds something else than it should."""


class WitnessError(ZkAutogradError):
    """A witness cannot be reached, or refuses to cosign."""
