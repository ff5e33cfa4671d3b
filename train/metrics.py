"""How good a model is: the loss and the metric of each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torchmetrics.functional import mean_absolute_error, r2_score
from torchmetrics.functional.classification import multiclass_accuracy

if TYPE_CHECKING:
    from recipes.types import Task

# Large enough to be fast, small enough for any memory.
_BATCH = 256


def loss_of(task: Task) -> nn.Module:
    """Return the loss that is minimised: cross entropy, or the mean squared error."""
    return nn.CrossEntropyLoss() if task == "classification" else nn.MSELoss()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The mean loss over a split, and its metrics by name (fractions), the main one first."""

    loss: float
    metrics: dict[str, float]


@torch.inference_mode()
def evaluate(
    model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, task: Task
) -> Evaluation:
    """Measure a model on a split, in eval mode; the caller's mode is restored.

    Regression metrics are of standardised values: R² is the same in any unit.
    """
    was_training = model.training
    model.eval()
    outputs = torch.cat([model(part) for part in torch.split(inputs, _BATCH)])
    model.train(was_training)
    loss = float(loss_of(task)(outputs, targets))
    if task == "classification":
        accuracy = multiclass_accuracy(outputs, targets, outputs.shape[1], average="micro")
        return Evaluation(loss=loss, metrics={"accuracy": float(accuracy)})
    return Evaluation(
        loss=loss,
        metrics={
            "r2": float(r2_score(outputs[:, 0], targets[:, 0])),
            "mae_standardised": float(mean_absolute_error(outputs, targets)),
        },
    )
