"""How good a model is: the loss and the metric of each task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from torch import nn

if TYPE_CHECKING:
    from recipes.types import Task

# Large enough to be fast, small enough for any memory.
_BATCH = 256
_METRICS: dict[Task, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "regression": ("r2", "mae_standardised"),
}


def loss_of(task: Task) -> nn.Module:
    """Return the loss that is minimised: cross entropy, or the mean squared error."""
    return nn.CrossEntropyLoss() if task == "classification" else nn.MSELoss()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The mean loss over a split, and its metrics by name (fractions), the main one first.

    `losses` are those of each sample, float32 `(N,)`.
    """

    loss: float
    losses: torch.Tensor
    metrics: dict[str, float]


@torch.inference_mode()
def evaluate(
    model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, task: Task
) -> Evaluation:
    """Measure a model on a split, in eval mode; each module's own mode is restored.

    Regression metrics are of standardised values: R² is the same in any unit.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        outputs = torch.cat([model(part) for part in torch.split(inputs, _BATCH)])
    finally:
        # One by one: a frozen batch norm stays in eval mode while the model around it trains.
        for module, training in modes:
            module.training = training
    loss, losses = float(loss_of(task)(outputs, targets)), _losses(outputs, targets, task)
    if not math.isfinite(loss):
        # scikit-learn refuses NaN; the caller knows where it came from, and what to do.
        unknown = dict.fromkeys(_METRICS[task], math.nan)
        return Evaluation(loss=loss, losses=losses, metrics=unknown)
    answers, truth = outputs.cpu().numpy(), targets.cpu().numpy()
    if task == "classification":
        values = [accuracy_score(truth, answers.argmax(axis=1))]
    else:
        values = [r2_score(truth, answers), mean_absolute_error(truth, answers)]
    metrics = dict(zip(_METRICS[task], map(float, values), strict=True))
    return Evaluation(loss=loss, losses=losses, metrics=metrics)


def _losses(outputs: torch.Tensor, targets: torch.Tensor, task: Task) -> torch.Tensor:
    if task == "classification":
        losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
    else:
        losses = (outputs - targets).square().mean(dim=1)
    return losses.float().cpu()
