"""A small convolutional network over the bytes of a text."""

from __future__ import annotations

import torch
from torch import nn

from marwright.runtime.spec import IDS, PADDING


class TextCnn(nn.Module):
    """Bytes to logits: an embedding, two convolutions, maximum and mean over all places.

    What stands behind a text is zero wherever it is read, so that it changes nothing.
    """

    def __init__(self, outputs: int, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel = {kernel}: it has no middle, take an odd one")
        self.embedding = nn.Embedding(IDS, width, padding_idx=PADDING)
        self.first = nn.Conv1d(width, 2 * width, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(2 * width, 2 * width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, outputs)` of the numbers of bytes `(N, L)`."""
        there = (ids != PADDING).unsqueeze(1).to(self.embedding.weight.dtype)
        features = self.embedding(ids).transpose(1, 2) * there
        features = torch.relu(self.first(features)) * there
        features = torch.relu(self.second(features)) * there
        # Nothing is below zero here, so the zeros of padding are no maximum.
        most = features.amax(dim=2)
        mean = features.sum(dim=2) / there.sum(dim=2).clamp(min=1)
        logits: torch.Tensor = self.head(self.dropout(torch.cat([most, mean], dim=1)))
        return logits


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int = 32,
    kernel: int = 5,
    dropout: float = 0.2,
) -> nn.Module:
    """Return a network from `(N, L)` numbers of bytes to `(N, outputs)` logits.

    `width` is that of the embedding; convolutions are twice as wide and see `kernel` places each.
    Raises `ValueError` for a kernel without a middle.
    """
    return TextCnn(outputs, width, kernel, dropout)
