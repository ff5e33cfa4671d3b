"""The baseline: what answering without looking has on the test split, and how far a model is above.

Of labels it is the training split's shares of each, of values the training split's mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from marwright.training.accepted import DIGITS, Measured
from marwright.training.metrics import Evaluation, measured_on
from marwright.training.paired import interval
from marwright.training.record import Classified
from marwright.training.scores import scores
from marwright.training.tensors import targets_of

if TYPE_CHECKING:
    from marwright.recipe.types import Task
    from marwright.runtime.spec import PreprocessSpec
    from marwright.training.record import Predicted
    from marwright.training.types import Splits

# Of fewer samples on which two models differ, no sign test at 2.5 % tells them apart: 1/2⁵ > 2.5 %.
_LEAST = 6
_SEED = 0
# By how much an order of labels must be better before a message names it.
_BETTER = 0.1


def measure(
    tested: Evaluation, splits: Splits, spec: PreprocessSpec, task: Task
) -> tuple[Measured, Classified | Predicted]:
    """Return the metrics on the test split beside the baseline's, and what is behind them.

    Raises `TrainError` when one is NaN or infinite.
    """
    metrics, details = scores(tested, splits.samples.labels, spec)
    known = targets_of(splits.samples, splits.train, spec)
    blind = blind_answers(known, tested.targets, len(splits.samples.labels), task)
    baseline, _ = scores(blind, splits.samples.labels, spec)
    return Measured(
        metrics=_rounded(metrics), baseline=_rounded(baseline), gain=gain(tested, blind, task)
    ), details


def blind_answers(
    known: torch.Tensor, targets: torch.Tensor, labels: int, task: Task
) -> Evaluation:
    """Return what knowing the training split's targets alone answers to some others."""
    if task == "classification":
        shares = torch.bincount(known, minlength=labels).double() / len(known)
        # A label that training has no sample of is not impossible.
        answer = shares.clamp(min=0.1 / len(known)).log()
    else:
        answer = known.double().mean(dim=0)
    return measured_on(answer.float().expand(len(targets), -1), targets, task)


def gain(tested: Evaluation, blind: Evaluation, task: Task) -> tuple[float, float]:
    """Return the 95 % interval of a model's main metric less the baseline's, by samples.

    It holds 0 where they differ on fewer samples than chance could not explain.
    """
    if task == "classification":
        right, without = (
            (found.outputs.argmax(dim=1) == found.targets).numpy().astype(np.int64)
            for found in (tested, blind)
        )
        gained: NDArray[np.float64] = (right - without).astype(np.float64)
        low, high = interval(lambda rows: gained[rows].mean(axis=1), len(gained), _SEED)
    else:
        truth = tested.targets[:, 0].double().numpy()
        missed, without_missed = (
            (found.outputs[:, 0].double().numpy() - truth) ** 2 for found in (tested, blind)
        )
        gained = without_missed - missed

        def difference(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            drawn = truth[rows]
            spread = ((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(spread > 0, gained[rows].sum(axis=1) / spread, 0.0)

        low, high = interval(difference, len(gained), _SEED)
    if np.count_nonzero(gained) < _LEAST:
        low = min(low, 0.0)
    return (round(low, DIGITS), round(high, DIGITS))


def doubt_of_head(source: str, details: Classified | Predicted, labels: tuple[str, ...]) -> str:
    """Ask of a model with a head from elsewhere whether that answers what the recipe says."""
    asked = f"its head was taken from {source}: "
    if not isinstance(details, Classified):
        return f"{asked}is that target in other units, or was it scaled otherwise?"
    asked += "is the order of its labels another?"
    confusion = np.array(details.confusion)
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    count = confusion.sum()
    best, now = confusion[rows, columns].sum() / count, np.trace(confusion) / count
    if best < now + _BETTER:
        return asked
    # Each output stands for the label that it is mostly given for.
    order = [labels[row] for row in rows[np.argsort(columns)]]
    shown = ", ".join(order[:8]) + ", …" * (len(order) > 8)
    return f"{asked} If its outputs stand for {shown}, its accuracy is {best:.4f}"


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in metrics.items()}
