"""Small networks with the layers that exports get wrong, and some that no export can get right."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions with batch norm, and what came in on top."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps of the same shape `(N, C, H, W)`."""
        inner = torch.relu(self.first_norm(self.first(maps)))
        return torch.relu(maps + self.second_norm(self.second(inner)))


class Residual(nn.Module):
    """Grey images of 8×8 to logits: batch norm, a residual block, pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.block = Block(8)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(128, 32)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 10)` of images `(N, 1, 8, 8)`."""
        maps = self.pool(self.block(torch.relu(self.norm(self.stem(images)))))
        logits: torch.Tensor = self.head(self.drop(torch.relu(self.hidden(maps.flatten(1)))))
        return logits


class Colour(nn.Module):
    """RGB images of any size to logits: reflection, ReLU6, two scales, a mean over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.act = nn.ReLU6()
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.across = nn.Conv2d(12, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 3)` of images `(N, 3, H, W)`."""
        fine = self.act(4 * self.stem(images))
        coarse = self.across(self.act(self.down(fine)))
        up = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        logits: torch.Tensor = self.head(functional.silu(fine + up).mean((2, 3)))
        return logits


class Attention(nn.Module):
    """Two heads of dot-product attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape `(N, T, C)`."""
        count, length, width = tokens.shape
        split = self.into(tokens).reshape(count, length, 3, 2, width // 2)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-2, -1) * (width // 2) ** -0.5).softmax(dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(count, length, width)
        result: torch.Tensor = self.out(mixed)
        return result


class Tokens(nn.Module):
    """A transformer over grey levels: images of 8×8 as integers, embedded, sixteen tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Embedding(16, 4)
        self.places = nn.Parameter(torch.randn(16, 16) * 0.1)
        self.before, self.attention = nn.LayerNorm(16), Attention(16)
        self.between, self.wide = nn.LayerNorm(16), nn.Linear(16, 32)
        self.act, self.narrow = nn.GELU(), nn.Linear(32, 16)
        self.last, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 10)` of images `(N, 1, 8, 8)`."""
        levels = (images.flatten(1) * 4).long().clamp(-4, 11) + 4
        tokens = self.levels(levels).reshape(-1, 16, 16) + self.places
        tokens = tokens + self.attention(self.before(tokens))
        tokens = tokens + self.narrow(self.act(self.wide(self.between(tokens))))
        logits: torch.Tensor = self.head(self.last(tokens).mean(1))
        return logits


class Masks(nn.Module):
    """Grey images of 8×8 to logits by a softmax over channels: which of four masks a pixel is in.

    Each operator is one that opset 12 has too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stretch = Stretch()
        self.stem, self.masks = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(256, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 10)` of images `(N, 1, 8, 8)`."""
        maps = self.masks(torch.relu(self.stem(self.stretch(images))))
        logits: torch.Tensor = self.head(maps.softmax(dim=1).flatten(1))
        return logits


class Standardised(nn.Module):
    """Grey images of 8×8 to logits, each image with mean 0 and deviation 1 first.

    Of an image of one colour the deviation is zero, or what rounding of the mean makes of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `(N, 10)` of images `(N, 1, 8, 8)`."""
        pixels = images.flatten(1)
        centred = pixels - pixels.mean(1, keepdim=True)
        logits: torch.Tensor = self.head(centred / pixels.std(1, keepdim=True))
        return logits


class Stretch(nn.Module):
    """Stretches the contrast of each image from 0 to 1; one of a single colour becomes NaN."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return images of the same shape `(N, 1, 8, 8)`."""
        low, high = -functional.max_pool2d(-images, 8), functional.max_pool2d(images, 8)
        return (images - low) / (high - low)
