"""A wobble is a few units in the last place of every result: seen where it is amplified."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from marwright.parity.backends import Array, eager_backend
from marwright.parity.verdict.tolerance import Floats
from marwright.parity.verdict.wobble import wobbling

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

# Four units in the last place.
PART = 2.0**-22
ROWS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


class Doubled(nn.Module):
    """One operation, and an exact one."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 2


class Cancelling(nn.Module):
    """Badly conditioned: what 10 000 is rounded by stays when it is gone."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs + 1e4) - 1e4


class Compared(nn.Module):
    """Whether neighbours are the same."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs[:, 1:] != inputs[:, :-1]).long()


class Careful(nn.Module):
    """Views, integers, and a result that is written in place."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        order = inputs.argsort(dim=1)
        outputs = inputs.reshape(len(inputs), 1, -1).transpose(0, 1)[0].clone()
        outputs += order.float()
        outputs.clamp_(-10, 10)
        return outputs


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def moved(model: nn.Module, rows: Array = ROWS, seed: int = 0) -> tuple[Floats, Floats]:
    """Return what a wobble makes of outputs, and the outputs."""
    run = eager_backend(model)
    return wobbling(run, seed)(rows), run(rows)


@pytest.mark.parametrize("seed", range(8))
def test_one_result_moves_by_a_part_of_itself_and_of_its_row(seed: int) -> None:
    wobbled, plain = moved(Doubled(), seed=seed)
    scale = np.exp(np.log(np.abs(plain)).mean(axis=1, keepdims=True))
    difference = np.abs(wobbled - plain)
    # Float32 rounds both products once more.
    rounding = 2.0**-23 * (np.abs(plain) + scale)
    assert (difference <= PART * (np.abs(plain) + scale) + rounding).all()
    assert difference.max() > PART * scale.max() / 2


def test_all_of_a_tensor_moves_one_way() -> None:
    """Other errors average out in a sum of thousands; a library's need not."""
    ones = np.ones((1, 4096), dtype=np.float32)
    wobbled, plain = moved(Doubled(), ones)
    assert len(set(np.sign(wobbled - plain).ravel().tolist()) - {0.0}) <= 1
    directions = {np.sign(moved(Doubled(), ones, seed)[0] - plain).ravel()[0] for seed in range(20)}
    assert {-1.0, 1.0} <= directions


def test_bad_conditioning_is_seen_and_good_is_not() -> None:
    runs = [moved(Cancelling(), seed=seed) for seed in range(4)]
    largest = max(np.abs(wobbled - plain).max() for wobbled, plain in runs)
    assert 1e4 * PART < largest < 3e4 * PART
    wobbled, plain = moved(network())
    assert 0 < np.abs(wobbled - plain).max() < 20 * PART


class Masked(nn.Module):
    """Attention with a mask of the least number or of infinity, as exporters like it."""

    def __init__(self, mask: float) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        later = torch.ones(inputs.shape[1], inputs.shape[1]).triu(1).bool()
        scores = inputs[:, :, None] * inputs[:, None, :]
        scores = scores + torch.zeros_like(scores).masked_fill(later, self.mask)
        return (scores.softmax(-1) * inputs[:, None, :]).sum(-1)


@pytest.mark.parametrize("mask", [float("-inf"), torch.finfo(torch.float32).min, -1e4])
def test_what_masks_are_made_of_does_not_move(mask: float) -> None:
    wobbled, plain = moved(Masked(mask))
    assert np.isfinite(plain).all()
    assert np.isfinite(wobbled).all()
    assert 0 < np.abs(wobbled - plain).max() < 1e3 * PART


def test_a_wobble_is_its_seed_s() -> None:
    one, plain = moved(network(), seed=1)
    assert (one == moved(network(), seed=1)[0]).all()
    assert (one != moved(network(), seed=2)[0]).any()
    # Nothing of it stays behind.
    assert (plain == eager_backend(network())(ROWS)).all()


def test_neighbours_in_the_batch_change_nothing_of_it() -> None:
    """A row of a batch whose other rows are huge moves as it does alone."""
    rows = ROWS.copy()
    rows[1:] *= 1e6
    together, _ = moved(Doubled(), rows)
    alone, _ = moved(Doubled(), rows[:1])
    assert np.allclose(together[0], alone[0], rtol=2.0**-23, atol=0)


def test_integers_views_and_writes_in_place_are_left_alone() -> None:
    wobbled, plain = moved(Careful())
    assert np.abs(wobbled - plain).max() < 20 * PART * 10
