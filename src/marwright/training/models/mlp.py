"""A fully connected network with one hidden layer, for rows of numbers."""

from __future__ import annotations

from torch import nn


def build(
    shape: tuple[int, ...], outputs: int, *, hidden: int = 32, dropout: float = 0.1
) -> nn.Module:
    """Return a network from `(N, *shape)` rows to `(N, outputs)` values."""
    return nn.Sequential(
        nn.Linear(shape[0], hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )
