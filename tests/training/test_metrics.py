"""Losses and metrics against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.types import MAIN_METRIC, Task
from marwright.training.loop.batches import Tensors
from marwright.training.metrics import evaluate, loss_of
from marwright.training.scores import BINS, classified, predicted
from tests.specs import numbers

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
    found = evaluate(Echo(), Tensors(logits, torch.tensor([1, 1, 0, 1])), "classification")
    assert found.metric == 0.75
    expected = -(2 * math.log(3 / 4) + math.log(1 / 4) + math.log(1 / 2)) / 4
    assert found.loss == pytest.approx(expected, rel=1e-6)


def test_r2_mean_absolute_error_and_squared_error() -> None:
    truth = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    answers = torch.tensor([[2.0], [2.0], [3.0], [4.0]])
    # Squared errors 1, 0, 0, 4; around the mean of 3: 4, 1, 0, 9.
    found = evaluate(Echo(), Tensors(answers, truth), "regression")
    assert found.loss == pytest.approx(5 / 4)
    assert found.metric == pytest.approx(1 - 5 / 14)


def test_the_mean_as_answer_has_an_r2_of_zero_and_worse_is_negative() -> None:
    truth = torch.tensor([[1.0], [3.0]])
    mean, worse = torch.full((2, 1), 2.0), torch.tensor([[3.0], [1.0]])
    assert evaluate(Echo(), Tensors(mean, truth), "regression").metric == 0
    assert evaluate(Echo(), Tensors(worse, truth), "regression").metric == -3


def test_the_main_metric_is_that_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=generator)
    labels = torch.randint(0, 4, (200,), generator=generator)
    tested = evaluate(Echo(), Tensors(logits, labels), "classification")
    metrics, _ = classified(tested, "abcd")
    assert next(iter(metrics)) == MAIN_METRIC["classification"]
    assert metrics["accuracy"] == pytest.approx(tested.metric, abs=1e-7)
    values = torch.randn(200, 1, generator=generator)
    tested = evaluate(Echo(), Tensors(logits[:, :1] + values, values), "regression")
    metrics, _ = predicted(tested, numbers(("a",), center=(0.0,), scale=(1.0,)))
    assert next(iter(metrics)) == MAIN_METRIC["regression"]
    assert metrics["r2"] == pytest.approx(tested.metric, rel=1e-6)


def test_scores_of_classes_by_hand() -> None:
    logits = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [0, 2.0, 0], [0, 2.0, 0], [0, 2.0, 0]])
    truth = torch.tensor([0, 1, 1, 1, 0])
    metrics, details = classified(evaluate(Echo(), Tensors(logits, truth), "classification"), "abc")
    assert details.confusion == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    found = [(c.samples, c.precision, c.recall, c.f1) for c in details.classes]
    assert found == [(2, 0.5, 0.5, 0.5), (3, 0.666667, 0.666667, 0.666667), (0, 0.0, 0.0, 0.0)]
    # Means are of the classes that have samples, and without all of them there is no AUROC.
    assert metrics["macro_f1"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert "auroc" not in metrics
    # All are answered with the same confidence, e²/(e² + 2), and three of five are right.
    confidence = math.exp(2) / (math.exp(2) + 2)
    [only] = details.calibration
    assert (only.samples, only.accuracy) == (5, 0.6)
    assert only.confidence == pytest.approx(confidence, abs=1e-6)
    assert metrics["calibration_error"] == pytest.approx(confidence - 0.6, abs=1e-6)
    assert math.ceil(confidence * BINS) == 12


def test_scores_of_values_are_in_their_own_units() -> None:
    spec = numbers(
        ("a",), center=(0.0,), scale=(1.0,), target="kg", target_mean=70.0, target_std=10.0
    )
    truth, answers = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[-1.0], [0.3], [1.4]])
    metrics, details = predicted(evaluate(Echo(), Tensors(answers, truth), "regression"), spec)
    assert metrics["mae"] == pytest.approx(7 / 3)
    assert metrics["rmse"] == pytest.approx(math.sqrt(25 / 3))
    assert details.target == "kg"
    assert [target for target, _ in details.pairs] == [60.0, 70.0, 80.0]
    assert [answer for _, answer in details.pairs] == pytest.approx([60.0, 73.0, 84.0])


def test_large_values_keep_their_differences() -> None:
    spec = numbers(
        ("a",), center=(0.0,), scale=(1.0,), target="s", target_mean=1.7e9, target_std=100.0
    )
    truth, answers = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [1.5]])
    _, details = predicted(evaluate(Echo(), Tensors(answers, truth), "regression"), spec)
    assert [answer - target for target, answer in details.pairs] == pytest.approx([50.0, 50.0])


class Small(Echo):
    """Has memory for so many samples at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(inputs)


def test_what_does_not_fit_into_memory_is_evaluated_in_parts() -> None:
    answers = torch.arange(100.0)[:, None]
    found = evaluate(Small(9), Tensors(answers, answers), "regression")
    assert torch.equal(found.outputs, answers)
    with pytest.raises(TrainError, match="out of memory with one sample to evaluate"):
        evaluate(Small(0), Tensors(answers, answers), "regression")


def test_the_loss_is_that_of_the_whole_and_not_of_its_parts() -> None:
    # More than one internal batch, and a last one that is smaller.
    answers = torch.zeros(601, 1)
    truth = torch.cat([torch.zeros(600, 1), torch.tensor([[601.0]])])
    model = Echo()
    assert evaluate(model, Tensors(answers, truth), "regression").loss == pytest.approx(601.0)
    assert sum(count for _, count in model.seen) == 601
    assert len(model.seen) > 1


def test_r2_of_equal_targets_is_finite() -> None:
    truth = torch.full((3, 1), 2.0)
    for answers, r2 in ((truth, 1.0), (truth + 1, 0.0)):
        assert evaluate(Echo(), Tensors(answers, truth), "regression").metric == r2


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_measured_in_eval_mode_and_its_mode_restored(training: bool) -> None:
    model = Echo().train(training)
    inputs = torch.randn(64, 2)
    assert evaluate(model, Tensors(inputs, torch.zeros(64, dtype=torch.int64)), "classification")
    assert model.seen == [(False, 64)]
    assert (model.training, model.dropout.training) == (training, training)


def test_a_frozen_part_stays_frozen() -> None:
    model = Echo().train()
    model.norm.eval()
    evaluate(model, Tensors(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])), "classification")
    assert (model.training, model.norm.training) == (True, False)


def test_the_mode_is_restored_after_a_failure() -> None:
    model = nn.Sequential(nn.Linear(3, 2)).train()
    with pytest.raises(RuntimeError):
        evaluate(model, Tensors(torch.randn(4, 5), torch.tensor([0, 1, 0, 1])), "classification")
    assert model.training
    assert model[0].training


def test_measuring_leaves_no_gradients_and_no_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, Tensors(torch.randn(8, 2), torch.zeros(8, dtype=torch.int64)), "classification")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_measured_as_such(task: Task, odd: float) -> None:
    outputs = torch.tensor([[1.0], [odd]])
    targets = torch.tensor([[1.0], [2.0]])
    if task == "classification":
        outputs, targets = torch.tensor([[1.0, 0.0], [odd, 0.0]]), torch.tensor([0, 1])
    found = evaluate(Echo(), Tensors(outputs, targets), task)
    assert not math.isfinite(found.loss)
    assert math.isnan(found.metric)


def test_each_task_has_its_loss() -> None:
    assert isinstance(loss_of("classification"), nn.CrossEntropyLoss)
    assert isinstance(loss_of("regression"), nn.MSELoss)
