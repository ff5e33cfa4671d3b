"""The learning-rate finder finds where a loss falls, and stops where it is lost."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.training.loop.finder import LEAST, MOST, STEPS, find_rate
from marwright.training.loop.run import Run
from marwright.training.machine import set_determinism
from marwright.training.record import RatesFound
from tests.training.conftest import table_recipe
from tests.training.test_fit import rows

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]


def found(**fit: object):
    set_determinism(0, 1)
    told: list[tuple[int, int, str]] = []
    recipe = table_recipe(**{"batch_size": 8, "optimizer": "sgd", "weight_decay": 0, **fit})
    run = Run(nn.Linear(3, 1), rows(64), recipe)
    return find_rate(run, lambda *told_now: told.append(told_now)), told


def test_it_stops_where_the_loss_is_lost_and_suggests_less() -> None:
    rates, told = found()
    assert rates.rates[0] == pytest.approx(LEAST)
    assert rates.rates == sorted(rates.rates)
    # Momentum of 0.9 on a quadratic loss diverges well below the largest rate.
    assert len(rates.rates) == len(rates.losses) == len(told) < STEPS
    assert rates.rates[-1] < MOST
    lowest = rates.rates[rates.losses.index(min(rates.losses))]
    assert rates.suggested == pytest.approx(0.1 * lowest, rel=0.06)
    assert rates.steepest < lowest
    assert told[-1][:2] == (len(told), STEPS)


def test_what_is_suggested_trains() -> None:
    rates, _ = found()
    set_determinism(0, 1)
    recipe = table_recipe(
        batch_size=8, optimizer="sgd", weight_decay=0, learning_rate=rates.suggested, epochs=30
    )
    run = Run(nn.Linear(3, 1), rows(64), recipe)
    for _ in range(30):
        run.train_epoch()
    losses = [epoch.train_loss for epoch in run.epochs]
    assert losses[-1] < losses[0] / 100


def test_a_loss_that_is_never_finite_is_no_rate() -> None:
    class Broken(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) * torch.nan

    set_determinism(0, 1)
    run = Run(Broken(3, 1), rows(64), table_recipe(batch_size=8))
    with pytest.raises(TrainError, match="the loss is not finite, or rises at once: 0 batches"):
        find_rate(run, lambda *_: None)


class Noisy(Run):
    """Of some batches, the loss says little about the network."""

    factors: ClassVar[dict[int, float]] = {}
    count = 0

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, bool]:
        loss, moved = super().step(inputs, targets)
        self.count += 1
        return loss * self.factors.get(self.count, 1.0), moved


@pytest.mark.parametrize(
    "factors",
    [{1: 1e-4}, {1: 1e4}, {1: 0.0}, {2: 1e-3}, {3: 100.0}, {9: 1e-4}, {30: 1e3}, {1: 1e4, 5: 1e-4}],
)
def test_a_noisy_batch_decides_nothing(factors: dict[int, float]) -> None:
    def search(factors: dict[int, float]) -> RatesFound:
        set_determinism(0, 1)
        recipe = table_recipe(batch_size=8, optimizer="sgd", weight_decay=0)
        run = Noisy(nn.Linear(3, 1), rows(64), recipe)
        run.factors = factors
        return find_rate(run, lambda *_: None)

    calm, noisy = search({}), search(factors)
    assert noisy.suggested / calm.suggested == pytest.approx(1, rel=0.5)
    assert noisy.steepest / calm.steepest == pytest.approx(1, rel=0.5)
    assert abs(len(noisy.rates) - len(calm.rates)) <= 2
