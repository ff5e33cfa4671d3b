"""Inputs that stand for samples: rows as ever, texts of every length with padding behind them."""

from __future__ import annotations

import pytest
import torch

from marwright.runtime.spec import IDS, PADDING
from marwright.training.examples import drawn, sizes, zeros

pytestmark = pytest.mark.torch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_are_drawn_as_torch_draws_them() -> None:
    found = drawn(3, (2, 4), "float32", seeded())
    assert torch.equal(found, torch.randn(3, 2, 4, generator=seeded()))
    assert sizes((2, 4), "float32") == [(2, 4)]


def test_texts_are_of_many_lengths_and_one_is_the_longest() -> None:
    found = drawn(50, (20,), "int64", seeded())
    assert found.dtype == torch.int64
    there = found != PADDING
    lengths = there.sum(dim=1)
    assert int(lengths[0]) == 20
    assert len(set(lengths.tolist())) > 10
    # Padding is behind, and nowhere else.
    assert torch.equal(there, torch.arange(20) < lengths[:, None])
    assert int(found.min()) == 0
    assert int(found.max()) < IDS
    assert torch.equal(found, drawn(50, (20,), "int64", seeded()))


@pytest.mark.parametrize(
    ("longest", "expected"), [(64, [1, 2, 32, 64]), (4, [1, 2, 4]), (2, [1, 2]), (1, [1])]
)
def test_lengths_go_from_one_byte_to_the_longest(longest: int, expected: list[int]) -> None:
    assert [size for (size,) in sizes((longest,), "int64")] == expected


def test_zeros_are_of_the_type_that_is_asked_for() -> None:
    assert zeros(2, (3,), "int64").dtype == torch.int64
    assert torch.equal(zeros(2, (3, 1), "float32"), torch.zeros(2, 3, 1))
