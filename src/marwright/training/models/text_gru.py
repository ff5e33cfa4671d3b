"""A recurrent network over the bytes of a text."""

from __future__ import annotations

import torch
from torch import nn

from marwright.runtime.spec import IDS, PADDING


class TextGru(nn.Module):
    """Bytes to logits: an embedding, a GRU, and the maximum and the mean over all places.

    It reads from the first byte to the last, so that what stands behind a text comes too late to
    change anything.
    """

    def __init__(self, outputs: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(IDS, width, padding_idx=PADDING)
        self.gru = nn.GRU(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, outputs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, outputs)` of the numbers of bytes `(N, L)`."""
        features, _ = self.gru(self.embedding(ids))
        there = (ids != PADDING).unsqueeze(2)
        # A GRU gives nothing below -1.
        most = features.masked_fill(~there, -1.0).amax(dim=1)
        count = there.to(features.dtype).sum(dim=1).clamp(min=1)
        mean = features.masked_fill(~there, 0.0).sum(dim=1) / count
        logits: torch.Tensor = self.head(self.dropout(torch.cat([most, mean], dim=1)))
        return logits


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int = 32,
    hidden: int = 64,
    dropout: float = 0.2,
) -> nn.Module:
    """Return a network from `(N, L)` numbers of bytes to `(N, outputs)` logits."""
    return TextGru(outputs, width, hidden, dropout)
