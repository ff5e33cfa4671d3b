"""A small convolutional network for images of a few dozen pixels a side."""

from __future__ import annotations

from torch import nn


def build(
    shape: tuple[int, ...], outputs: int, *, width: int = 32, dropout: float = 0.3
) -> nn.Module:
    """Return a network from `(N, *shape)` images to `(N, outputs)` logits.

    Three convolutions with batch norm, the last two after a halving of the image's sides;
    `width` is the number of channels of the first.
    """
    channels = shape[0]

    def block(into: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *block(channels, width),
        *block(width, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width * (shape[1] // 4) * (shape[2] // 4), 2 * width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(2 * width, outputs),
    )
