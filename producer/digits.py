"""scikit-learn's bundled handwritten digits (1,797 images of 8x8 pixels), and three models for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn

from producer.task import Task


@cache
def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Images, float32 of shape (1797, 1, 8, 8) in [0, 1], and labels, int64 of shape (1797,)."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    return images, torch.tensor(digits.target, dtype=torch.int64)


def _loss(model: nn.Module, seed: int, batch: int) -> Callable[[int], torch.Tensor]:
    images, labels = data()

    def loss(step: int) -> torch.Tensor:
        # A batch depends on seed and step only, so that a restarted run takes the same ones.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(images), (batch,), generator=generator)
        device = next(model.parameters()).device
        return nn.functional.cross_entropy(model(images[chosen].to(device)), labels[chosen].to(device))

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


class _RowReader(nn.Module):
    """Two transformer layers (pre-norm, two heads, GELU) over an image's eight rows as tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.places = nn.Parameter(torch.randn(8, width) / 10)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, 2, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(2)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, 10) for images of shape (n, 1, 8, 8)."""
        tokens = self.layers(self.embed(images.squeeze(1)) + self.places)
        out: torch.Tensor = self.head(self.norm(tokens).mean(dim=1))
        return out


def transformer(seed: int, batch: int) -> Task:
    """A small transformer that reads an image row by row: 18,026 parameters."""
    torch.manual_seed(seed)
    model = _RowReader()
    return Task(model, _loss(model, seed, batch))
