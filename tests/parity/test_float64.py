"""float64 throughout: constants, casts and integers inside a model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from marwright.parity.float64 import Float64, lifted

pytestmark = pytest.mark.torch


class Stubborn(nn.Module):
    """Makes constants, casts down, divides integers, and works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        third = torch.tensor(1 / 3) + torch.full((4,), 1 / 7)
        share = torch.arange(4) / 3
        half = self.linear(rows).to(torch.float32).half().float()
        half.mul_(third).add_(share).sub_(torch.linspace(0, 1, 4))
        return half + torch.ones(4, dtype=torch.float32) / 3


def by_hand(model: Stubborn, rows: torch.Tensor) -> torch.Tensor:
    wide = torch.float64
    linear = rows @ model.linear.weight.to(wide).T + model.linear.bias.to(wide)
    steps = torch.arange(4, dtype=wide) / 3
    return linear * (1 / 3 + 1 / 7) + steps - torch.linspace(0, 1, 4, dtype=wide) + 1 / 3


def test_nothing_is_rounded_to_less() -> None:
    model, rows = Stubborn().eval(), torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        with Float64():
            output = copy.deepcopy(model).double()(rows)
        assert output.dtype is torch.float64
        expected = by_hand(model, rows)
        assert float((output - expected).abs().max()) < 1e-14
        # As it is, one of its casts rounds to float16.
        assert float((model(rows.float()) - expected).abs().max()) > 1e-5


def test_integers_and_booleans_stay() -> None:
    with Float64():
        assert torch.ones(3).argmax().dtype is torch.int64
        assert (torch.ones(3) > 0).dtype is torch.bool
        assert torch.ones(3).to(torch.int32).dtype is torch.int32
        assert torch.fft.rfft(torch.ones(4)).dtype is torch.complex128


def test_default_precision_comes_back_even_after_an_error() -> None:
    with pytest.raises(ValueError, match="stop"), Float64():
        assert torch.get_default_dtype() is torch.float64
        raise ValueError("stop")
    assert torch.get_default_dtype() is torch.float32
    assert torch.ones(1).dtype is torch.float32


def test_only_lower_precisions_are_lifted() -> None:
    assert lifted(torch.bfloat16) is torch.float64
    assert lifted(torch.int32) is torch.int32
    assert lifted("float32") == "float32"
    assert lifted(1) == 1
    double = torch.ones(1, dtype=torch.float64)
    assert lifted(double) is double
