"""The loss that is minimised, and the one metric that each epoch and each gate looks at.

`train/scores.py` has the others, which a report shows once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.recipe.types import MAIN_METRIC
from marwright.training.loop.memory import is_out_of_memory, peak, release

if TYPE_CHECKING:
    from marwright.recipe.types import Task

Pair = tuple[torch.Tensor, torch.Tensor]


def loss_of(
    task: Task, *, label_smoothing: float = 0.0, weights: torch.Tensor | None = None
) -> nn.Module:
    """Return the loss that is minimised, as its sum over samples: cross entropy, or squares.

    A sum, because torch's own mean divides by the weights of what it is given, so that parts of a
    batch would not add up to the batch.
    """
    if task == "regression":
        return nn.MSELoss(reduction="sum")
    return nn.CrossEntropyLoss(weights, reduction="sum", label_smoothing=label_smoothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Outputs float32 `(N, outputs)` of a split, their targets, and the loss of each `(N,)`.

    All of them are on the CPU. `metric` is the task's main one, NaN where outputs are.
    """

    outputs: torch.Tensor
    targets: torch.Tensor
    losses: torch.Tensor
    metric: float

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.double().mean())


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[Pair], task: Task) -> Evaluation:
    """Measure a model on batches, in eval mode; each module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        pairs = [(_answers(model, i.to(device)).float().cpu(), targets) for i, targets in batches]
    finally:
        # One by one: a frozen batch norm stays in eval mode while the model around it trains.
        for module, training in modes:
            module.training = training
    outputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return measured_on(outputs, targets, task)


def measured_on(outputs: torch.Tensor, targets: torch.Tensor, task: Task) -> Evaluation:
    """Return what outputs `(N, outputs)` are worth, beside their targets."""
    return Evaluation(
        outputs=outputs,
        targets=targets,
        losses=_losses(outputs, targets, task),
        metric=metric_of(outputs, targets, task),
    )


def _answers(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return a model's outputs, in as many parts as memory asks for."""
    try:
        outputs: torch.Tensor = model(inputs)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(inputs) < 2:
            raise TrainError(
                f"out of memory with one sample to evaluate (peak {peak(inputs.device)}): take a "
                "smaller network or smaller samples"
            ) from error
    else:
        return outputs
    # Outside of the handler, which keeps what did not fit alive.
    release(inputs.device)
    return torch.cat([_answers(model, part) for part in inputs.tensor_split(2)])


def metric_of(outputs: torch.Tensor, targets: torch.Tensor, task: Task) -> float:
    """Return the task's main metric: accuracy, or R²; NaN where an output is not finite.

    R² is the same in any unit, so that of standardised values is that of the target's own. Where
    all targets are the same it is 1 for those, and 0 for any other outputs, as scikit-learn has it.
    """
    if not torch.isfinite(outputs).all():
        return float("nan")
    if task == "classification":
        return float((outputs.argmax(dim=1) == targets).double().mean())
    truth = targets.double()
    unexplained = (outputs.double() - truth).square().sum()
    spread = (truth - truth.mean()).square().sum()
    return float(1 - unexplained / spread) if spread > 0 else float(unexplained == 0)


def named(metric: float, task: Task) -> str:
    """Return the main metric as people read it."""
    return f"{MAIN_METRIC[task]} {metric:.4f}"


def _losses(outputs: torch.Tensor, targets: torch.Tensor, task: Task) -> torch.Tensor:
    if task == "classification":
        return nn.functional.cross_entropy(outputs, targets, reduction="none")
    return (outputs - targets).square().mean(dim=1)
