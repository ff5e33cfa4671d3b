"""How much is compared: less of a larger model, never nothing, and the same everywhere."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import nn

from marwright.parity.budget import Budget, budget_of, flops_of

pytestmark = pytest.mark.torch

# From a linear layer to the largest of torchvision.
SIZES = [0, 1, 1e3, 1e6, 3e7, 1e9, 3.6e9, 2e10, 1e11, 4e12]


def test_operations_are_those_of_products_and_convolutions() -> None:
    # Each product is a multiplication and an addition.
    assert flops_of(nn.Linear(5, 3), (5,)) == 2 * 5 * 3
    convolution = nn.Conv2d(2, 4, 3, padding=1)
    assert flops_of(convolution, (2, 8, 8)) == 2 * (2 * 3 * 3) * 4 * (8 * 8)
    both = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    assert flops_of(both.eval(), (2, 8, 8)) == flops_of(convolution, (2, 8, 8)) + 2 * 256 * 2
    assert flops_of(nn.ReLU(), (5,)) == 0


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flops_of(model, (1, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("quick", [False, True])
def test_a_larger_model_gets_no_more_of_anything(quick: bool) -> None:
    budgets = [budget_of(flops, quick=quick) for flops in SIZES]
    for name in (field.name for field in fields(Budget)):
        values = [getattr(budget, name) for budget in budgets]
        assert values == sorted(values, reverse=True), name
        # None of them ever gets nothing; a quick look does not search.
        assert min(values) >= (0 if quick and name == "starts" else 1), name


def test_a_small_model_gets_all_that_the_recipe_allows() -> None:
    budget = budget_of(1e6, samples=500, search=9)
    assert (budget.held_out, budget.starts) == (500, 9)


@pytest.mark.parametrize("flops", SIZES)
def test_the_recipe_can_ask_for_less_and_for_no_search(flops: float) -> None:
    budget = budget_of(flops, samples=3, search=0)
    assert (budget.held_out, budget.starts) == (3, 0)
    assert budget_of(flops, samples=1, search=1).starts == 1
    assert budget_of(flops, samples=1, quick=True).held_out == 1


@pytest.mark.parametrize("flops", SIZES)
def test_a_quick_look_is_a_part_of_the_whole(flops: float) -> None:
    quick, whole = budget_of(flops, quick=True), budget_of(flops)
    assert quick.starts == 0
    for name in ("held_out", "boundary", "random", "singles", "chunk"):
        assert getattr(quick, name) <= getattr(whole, name), name
    assert budget_of(3.6e9, quick=True).held_out < budget_of(3.6e9).held_out
