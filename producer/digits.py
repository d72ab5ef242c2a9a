"""scikit-learn's bundled handwritten digits (1,797 images of 8x8 pixels), and two models for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import nn

from producer.task import Task


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    """Images, float32 of shape (1797, 1, 8, 8) in [0, 1], and labels, int64 of shape (1797,)."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    return images, torch.tensor(digits.target, dtype=torch.int64)


def _loss(model: nn.Module, seed: int, batch: int) -> Callable[[int], torch.Tensor]:
    images, labels = _data()

    def loss(step: int) -> torch.Tensor:
        # A batch depends on seed and step only, so that a restarted run takes the same ones.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(images), (batch,), generator=generator)
        return nn.functional.cross_entropy(model(images[chosen]), labels[chosen])

    return loss


def mlp(seed: int, batch: int) -> Task:
    """64-96-10 perceptron with ReLU: 7,210 parameters."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    return Task(model, _loss(model, seed, batch))


def convnet(seed: int, batch: int) -> Task:
    """Two 3x3 convolutions and a linear layer: 3,658 parameters."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 37), nn.ReLU(), nn.Linear(37, 10),
    )  # fmt: skip
    return Task(model, _loss(model, seed, batch))
