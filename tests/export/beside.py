"""What a network's forward may call of a second file: each fails on its last line."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, rows: torch.Tensor) -> torch.Tensor:
        return rows.sign()


def without_onnx(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.abs() + 1
    return torch.lgamma(rows)


def by_float64(rows: torch.Tensor) -> torch.Tensor:
    rows = rows + 1
    return torch.det(rows.view(-1, 2, 2).double()).float()[:, None].repeat(1, 4)


def of_two_dtypes(rows: torch.Tensor) -> torch.Tensor:
    rows = rows + 1
    return rows @ torch.ones(4, 4, dtype=torch.float64)


def by_a_function(rows: torch.Tensor) -> torch.Tensor:
    rows = rows + 1
    return Straight.apply(rows)  # type: ignore[no-any-return, no-untyped-call]


def only_while_traced(rows: torch.Tensor) -> torch.Tensor:
    if not torch.jit.is_tracing():
        return rows
    raise KeyError("layer3")


def of_two_rows(rows: torch.Tensor) -> torch.Tensor:
    if not torch.jit.is_tracing():
        return rows
    return rows.reshape(2, 4)


def by_values(rows: torch.Tensor) -> torch.Tensor:
    rows = rows + 1
    return rows if rows.sum() > 0 else -rows


class Deeper(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.abs() + 1
        return torch.lgamma(rows)
