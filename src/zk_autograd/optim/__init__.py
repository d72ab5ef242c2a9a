"""Exact fixed-point optimizers for PyTorch: drop one into a training loop in place of torch's.

They follow the same statements that the proofs are about, on integers; the model's float weights are the image of
these integers. See ``docs/accuracy.md`` for how near they stay to torch's own.
"""

from zk_autograd.optim.base import FixedPointOptimizer
from zk_autograd.optim.record import StepRecord
from zk_autograd.optim.rules import SGD, Adafactor, Adam, AdamW, Lamb
from zk_autograd.optim.stated import StatementOptimizer

__all__ = ["SGD", "Adafactor", "Adam", "AdamW", "FixedPointOptimizer", "Lamb", "StatementOptimizer", "StepRecord"]
