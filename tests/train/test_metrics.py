"""Losses and metrics against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from recipes.types import MAIN_METRIC, Task
from train.metrics import evaluate, loss_of

pytestmark = pytest.mark.torch


class Echo(nn.Module):
    """Answers with its input, and remembers in which mode and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.norm = nn.BatchNorm1d(2)
        self.seen: list[tuple[bool, int]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, len(inputs)))
        return self.dropout(inputs)


def test_accuracy_and_cross_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0], [0.0, 0.0], [0.0, math.log(3)]])
    # Probabilities of the truth: 3/4, 1/4, 1/2, 3/4. Of equal logits the first one counts.
    found = evaluate(Echo(), logits, torch.tensor([1, 1, 0, 1]), "classification")
    assert found.metrics == {"accuracy": 0.75}
    expected = -(2 * math.log(3 / 4) + math.log(1 / 4) + math.log(1 / 2)) / 4
    assert found.loss == pytest.approx(expected, rel=1e-6)


def test_r2_mean_absolute_error_and_squared_error() -> None:
    truth = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    answers = torch.tensor([[2.0], [2.0], [3.0], [4.0]])
    # Squared errors 1, 0, 0, 4; around the mean of 3: 4, 1, 0, 9.
    found = evaluate(Echo(), answers, truth, "regression")
    assert found.loss == pytest.approx(5 / 4)
    assert found.metrics == {
        "r2": pytest.approx(1 - 5 / 14),
        "mae_standardised": pytest.approx(3 / 4),
    }


def test_the_mean_as_answer_has_an_r2_of_zero_and_worse_is_negative() -> None:
    truth = torch.tensor([[1.0], [3.0]])
    mean, worse = torch.full((2, 1), 2.0), torch.tensor([[3.0], [1.0]])
    assert evaluate(Echo(), mean, truth, "regression").metrics["r2"] == 0
    assert evaluate(Echo(), worse, truth, "regression").metrics["r2"] == -3


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_main_metric_comes_first(task: Task) -> None:
    targets = torch.tensor([0, 1]) if task == "classification" else torch.tensor([[0.0], [1.0]])
    outputs = torch.eye(2) if task == "classification" else torch.tensor([[0.0], [2.0]])
    assert next(iter(evaluate(Echo(), outputs, targets, task).metrics)) == MAIN_METRIC[task]


def test_the_loss_is_that_of_the_whole_and_not_of_its_parts() -> None:
    # More than one internal batch, and a last one that is smaller.
    answers = torch.zeros(601, 1)
    truth = torch.cat([torch.zeros(600, 1), torch.tensor([[601.0]])])
    model = Echo()
    assert evaluate(model, answers, truth, "regression").loss == pytest.approx(601.0)
    assert sum(count for _, count in model.seen) == 601
    assert len(model.seen) > 1


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_measured_in_eval_mode_and_its_mode_restored(training: bool) -> None:
    model = Echo().train(training)
    inputs = torch.randn(64, 2)
    assert evaluate(model, inputs, torch.zeros(64, dtype=torch.int64), "classification")
    assert model.seen == [(False, 64)]
    assert (model.training, model.dropout.training) == (training, training)


def test_a_frozen_part_stays_frozen() -> None:
    model = Echo().train()
    model.norm.eval()
    evaluate(model, torch.randn(4, 2), torch.tensor([0, 1, 0, 1]), "classification")
    assert (model.training, model.norm.training) == (True, False)


def test_the_mode_is_restored_after_a_failure() -> None:
    model = nn.Sequential(nn.Linear(3, 2)).train()
    with pytest.raises(RuntimeError):
        evaluate(model, torch.randn(4, 5), torch.tensor([0, 1, 0, 1]), "classification")
    assert model.training
    assert model[0].training


def test_measuring_leaves_no_gradients_and_no_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, torch.randn(8, 2), torch.zeros(8, dtype=torch.int64), "classification")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_measured_as_such(task: Task, odd: float) -> None:
    # scikit-learn would raise an error of its own, which names no epoch and no recipe.
    outputs = torch.tensor([[1.0], [odd]])
    targets = torch.tensor([[1.0], [2.0]])
    if task == "classification":
        outputs, targets = torch.tensor([[1.0, 0.0], [odd, 0.0]]), torch.tensor([0, 1])
    found = evaluate(Echo(), outputs, targets, task)
    assert not math.isfinite(found.loss)
    assert all(math.isnan(value) for value in found.metrics.values())


def test_each_task_has_its_loss() -> None:
    assert isinstance(loss_of("classification"), nn.CrossEntropyLoss)
    assert isinstance(loss_of("regression"), nn.MSELoss)
