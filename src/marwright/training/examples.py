"""Inputs that stand for samples: to trace with, to export with, and to try a network on."""

from __future__ import annotations

import torch

from marwright.runtime.spec import IDS, PADDING, Dtype


def drawn(
    batch: int, shape: tuple[int, ...], dtype: Dtype, generator: torch.Generator
) -> torch.Tensor:
    """Return random samples `(batch, *shape)`.

    Of texts, numbers of bytes: the first one is as long as the shape says, and padding stands
    behind the others.
    """
    if dtype == "float32":
        return torch.randn(batch, *shape, generator=generator)
    (longest,) = shape
    rows = torch.randint(PADDING + 1, IDS, (batch, longest), generator=generator)
    lengths = torch.randint(1, longest + 1, (batch,), generator=generator)
    lengths[0] = longest
    return rows.masked_fill(torch.arange(longest) >= lengths[:, None], PADDING)


def sizes(shape: tuple[int, ...], dtype: Dtype) -> list[tuple[int, ...]]:
    """Return the shapes that samples may have: of texts some lengths, from one byte to the most."""
    if dtype == "float32":
        return [shape]
    (longest,) = shape
    return [(length,) for length in sorted({1, min(2, longest), max(1, longest // 2), longest})]


def zeros(batch: int, shape: tuple[int, ...], dtype: Dtype) -> torch.Tensor:
    """Return `(batch, *shape)` of zeros."""
    return torch.zeros(batch, *shape, dtype=getattr(torch, dtype))
