"""The Merkle log, pure: tree, proofs and checkpoints; bytes in, bytes or a verdict out."""

from ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint, verify_checkpoint
from ledger.note import VerifierKey
from ledger.tree import Tree, verify_consistency

__all__ = [
    "Checkpoint",
    "Tree",
    "VerifierKey",
    "parse_checkpoint",
    "sign_checkpoint",
    "verify_checkpoint",
    "verify_consistency",
]
