"""A character-level language model on English that scikit-learn ships: its descriptions of data sets (43 kB)."""

from __future__ import annotations

from importlib import resources

import torch
from torch import nn

from producer.task import Task

CONTEXT = 64
"""Characters that a prediction may look back on."""


def _text() -> str:
    folder = resources.files("sklearn.datasets").joinpath("descr")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".rst")), key=lambda f: f.name)
    return "".join(f.read_text("utf-8") for f in files)


class Block(nn.Module):
    """Pre-norm transformer block with causal attention (Vaswani et al., arXiv:1706.03762; pre-norm as in GPT-2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x``: float of shape (batch, time, width), as the result."""
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(x.shape))
        mixed: torch.Tensor = x + self.feed(self.norm2(x))
        return mixed


class Gpt(nn.Module):
    """A small GPT over characters; the output layer is the token embedding."""

    def __init__(self, characters: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(characters, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for parameter in (self.token.weight, self.place.weight):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``tokens``: int64 of shape (batch, time); the result: float of shape (batch, time, characters)."""
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        logits: torch.Tensor = self.norm(self.blocks(x)) @ self.token.weight.T
        return logits


def gpt(seed: int, batch: int, width: int = 128, layers: int = 5, heads: int = 4) -> Task:
    """A transformer of 1,011,584 parameters that predicts the next character.

    A batch depends on seed and step only, so that a restarted run takes the same ones.
    """
    text = _text()
    alphabet = sorted(set(text))
    tokens = torch.tensor([alphabet.index(c) for c in text])
    torch.manual_seed(seed)
    model = Gpt(len(alphabet), width, layers, heads)

    def loss(step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        starts = torch.randint(len(tokens) - CONTEXT, (batch,), generator=generator)
        rows = torch.stack([tokens[i : i + CONTEXT + 1] for i in starts.tolist()])
        return nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    return Task(model, loss)
